"""What the real client does with our command line, and what is read from its output."""

import json
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest
from tasks.agent import COMPLETED, LIMITED, Judgement, OutputReader, judge, launch
from tasks.config import AgentSettings
from tasks.words import Failure

from .rig.answers import ApiError, Reply, Text, ToolUse
from .rig.client import Client
from .rig.messages_api import MessagesApi
from .rig.waiting import until

pytestmark = pytest.mark.client

CALL = Reply([Text("Next."), ToolUse("toolu_1", "Bash", {"command": "echo fine", "description": "Say"})])
SETTINGS = AgentSettings(model="sonnet", allowed_tools=("Bash(echo *)", "Bash(touch *)"))
#: Only who is logged in is told of the limits of a plan.
LOGGED_IN = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "scripted"}


def rejected(seconds: int) -> ApiError:
    prefix = "anthropic-ratelimit-unified-"
    headers = {"status": "rejected", "reset": str(int(time.time()) + seconds), "representative-claim": "five_hour"}
    return ApiError(429, "rate_limit_error", headers={prefix + name: value for name, value in headers.items()})


class Agent:
    """Runs what `launch` says, with the prompt on stdin from a file."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.session = str(uuid.uuid4())
        self.reader = OutputReader()
        self.notes: list[str] = []

    def start(
        self,
        prompt: str,
        settings: AgentSettings = SETTINGS,
        *,
        resume: bool = False,
        hooks: Mapping[str, object] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        client = self._client
        file, self.errors = client.root / "prompt", client.root / "errors"
        file.write_text(prompt, encoding="utf-8")
        call = launch(settings, program=str(client.binary), session=self.session, resume=resume, hooks=hooks)
        with file.open("rb") as stdin, self.errors.open("wb") as stderr:
            return subprocess.Popen(
                call.argv,
                cwd=client.project,
                env=client.environment({**call.environ, **(env or {})}),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )

    def finish(self, process: subprocess.Popen[bytes], settings: AgentSettings = SETTINGS) -> Judgement:
        try:
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
        self.reader = OutputReader()
        self.notes = [note.message for note in self.reader.feed(output)]
        status = process.returncode if process.returncode >= 0 else 128 - process.returncode
        return judge(settings, self.reader, status, errors=self.errors.read_text(encoding="utf-8"))

    def run(
        self,
        prompt: str,
        settings: AgentSettings = SETTINGS,
        *,
        resume: bool = False,
        hooks: Mapping[str, object] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Judgement:
        return self.finish(self.start(prompt, settings, resume=resume, hooks=hooks, env=env), settings)


@pytest.fixture
def agent(client: Client) -> Agent:
    return Agent(client)


@pytest.mark.parametrize("before", ["--help is what it begins with", "/no-such-command here", "x" * 1_000_000, "-"])
def test_any_prompt_reaches_the_model(agent: Agent, messages_api: MessagesApi, before: str) -> None:
    messages_api.scripts["say"] = [CALL, Reply([Text("All done.\nIndeed.")])]
    assert agent.run(f"{before} [[say]]") == Judgement(COMPLETED, "All done.\nIndeed.")
    asked = [request for request in messages_api.requests if request.script == "say"]
    assert before in json.dumps(asked[0].body["messages"])
    assert agent.reader.session == agent.session
    assert agent.notes[1:] == ["Next.", "Bash: echo fine", "All done.", "done: 2 turns, $0.0049"]


def test_every_option_is_understood(agent: Agent, messages_api: MessagesApi) -> None:
    messages_api.scripts["say"] = [CALL]
    settings = AgentSettings(
        model="--help", permission_mode="default", allowed_tools=("Bash(echo *)", "Read"),
        disallowed_tools=("WebFetch", "WebSearch"), append_system_prompt="--version comes first", budget_usd=0.5, max_turns=9,
    )  # fmt: skip
    assert agent.run("Go. [[say]]", settings).outcome == COMPLETED
    body = next(request.body for request in messages_api.requests if request.script == "say")
    assert body["model"] == "--help"
    assert "--version comes first" in json.dumps(body["system"])
    assert not {"WebFetch", "WebSearch"} & {tool["name"] for tool in body["tools"]}


def test_session_goes_on_after_a_limit(agent: Agent, messages_api: MessagesApi) -> None:
    messages_api.scripts["work"] = [CALL, rejected(7200)]
    messages_api.scripts["more"] = [Reply([Text("Finished.")])]
    began = time.monotonic()
    judgement = agent.run("Go. [[work]]", env=LOGGED_IN)
    # The client does not try again by itself: the limit is known at once.
    assert time.monotonic() - began < 30
    assert judgement.outcome == LIMITED
    assert judgement.text.startswith("You've hit your 5-hour limit")
    limit, first = agent.reader.limit, agent.reader.result
    assert limit is not None
    assert limit.resets_at is not None
    assert abs(limit.resets_at / 1000 - time.time() - 7200) < 60
    assert agent.run("Go on. [[more]]", resume=True, env=LOGGED_IN) == Judgement(COMPLETED, "Finished.")
    assert "[[work]]" in json.dumps(messages_api.requests[-1].body["messages"])
    second = agent.reader.result
    assert first is not None
    assert second is not None
    assert (first.output_tokens, second.output_tokens) == (80, 80)


def test_session_in_use_and_unknown_session_are_told_apart(agent: Agent, messages_api: MessagesApi) -> None:
    messages_api.scripts["say"] = [Reply([Text("Hello.")])]
    unknown = agent.run("Go. [[say]]", resume=True)
    assert (unknown.outcome, unknown.session) == (Failure.AGENT_ERROR, "unknown")
    assert agent.run("Go. [[say]]").outcome == COMPLETED
    in_use = agent.run("Go. [[say]]")
    assert (in_use.outcome, in_use.session) == (Failure.AGENT_ERROR, "in_use")


def test_limits_of_turns_and_money_are_their_own_failures(agent: Agent, messages_api: MessagesApi) -> None:
    messages_api.scripts["long"] = [CALL, CALL, CALL]
    assert agent.run("Go. [[long]]", AgentSettings(allowed_tools=("Bash",), max_turns=1)).outcome == Failure.MAX_TURNS
    agent.session = str(uuid.uuid4())
    assert agent.run("Go. [[long]]", AgentSettings(allowed_tools=("Bash",), budget_usd=0.003)).outcome == Failure.BUDGET


def test_money_and_turns_are_counted_anew_when_a_session_goes_on(agent: Agent, messages_api: MessagesApi) -> None:
    messages_api.scripts["two"] = [CALL, Reply([Text("End.")])]
    settings = AgentSettings(model="sonnet", allowed_tools=("Bash",), budget_usd=0.008, max_turns=2)
    assert agent.run("Go. [[two]]", settings).outcome == COMPLETED
    assert agent.run("Again. [[two]]", settings, resume=True).outcome == COMPLETED


def test_blocked_prompt_is_no_success(agent: Agent, messages_api: MessagesApi) -> None:
    messages_api.scripts["say"] = [Reply([Text("Hello.")])]
    block = json.dumps({"decision": "block", "reason": "dirty workspace"})
    hooks = {"UserPromptSubmit": [{"hooks": [{"type": "command", "command": f"echo '{block}'"}]}]}
    judgement = agent.run("Do the secret thing. [[say]]", hooks=hooks)
    assert judgement.outcome == Failure.AGENT_ERROR
    assert "dirty workspace" in judgement.text
    assert "secret thing" not in judgement.text


def test_hooks_run_beside_those_of_the_user_and_never_twice(
    agent: Agent, client: Client, messages_api: MessagesApi
) -> None:
    messages_api.scripts["say"] = [CALL]
    log = client.root / "log"

    def hooks(word: str, **more: object) -> dict[str, object]:
        return {"PreToolUse": [{**more, "hooks": [{"type": "command", "command": f"echo {word} >>{log}"}]}]}

    client.settings_file.write_text(json.dumps({"hooks": hooks("user", matcher="*")}))
    assert agent.run("Go. [[say]]", hooks=hooks("ours")).outcome == COMPLETED
    assert sorted(log.read_text().split()) == ["ours", "user"]
    log.unlink()
    agent.session = str(uuid.uuid4())
    assert agent.run("Go. [[say]]", hooks=hooks("user")).outcome == COMPLETED
    assert log.read_text().split() == ["user"]


def test_what_needs_permission_is_denied_without_waiting(
    agent: Agent, client: Client, messages_api: MessagesApi
) -> None:
    outside = client.root / "outside.txt"
    write = ToolUse("toolu_1", "Write", {"file_path": str(outside), "content": "x"})
    ask = ToolUse("toolu_2", "AskUserQuestion", {"questions": []})
    messages_api.scripts["write"] = [Reply([write]), Reply([ask]), Reply([Text("Could not.")])]
    assert agent.run("Go. [[write]]") == Judgement(COMPLETED, "Could not.")
    assert not outside.exists()
    assert any(note.startswith("denied: Write: ") for note in agent.notes)


@pytest.mark.parametrize(("signum", "words"), [(signal.SIGINT, "without a result"), (signal.SIGKILL, "SIGKILL")])
def test_agent_ended_while_it_waits_is_no_success(
    agent: Agent, messages_api: MessagesApi, signum: signal.Signals, words: str
) -> None:
    messages_api.scripts["wait"] = [Reply([Text("Late.")], gate="answer")]
    process = agent.start("Go. [[wait]]")
    messages_api.wait_reached("answer")
    process.send_signal(signum)
    judgement = agent.finish(process)
    assert judgement.outcome == Failure.AGENT_ERROR
    assert words in judgement.text or "interrupted" in judgement.text


def test_agent_interrupted_during_a_tool_is_no_success(agent: Agent, client: Client, messages_api: MessagesApi) -> None:
    endless = ToolUse(
        "toolu_1", "Bash", {"command": "touch running; while :; do sleep 0.1; done", "description": "Wait"}
    )
    messages_api.scripts["endless"] = [Reply([endless])]
    process = agent.start("Go. [[endless]]", AgentSettings(allowed_tools=("Bash",)))
    until(lambda: (client.project / "running").exists(), "the tool runs")
    process.send_signal(signal.SIGINT)
    judgement = agent.finish(process)
    assert judgement.outcome == Failure.AGENT_ERROR


def test_work_in_the_background_ends_before_the_reader_is_done(
    agent: Agent, messages_api: MessagesApi, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    wait = {"command": f"until [ -e {go} ]; do sleep 0.1; done", "description": "Wait", "run_in_background": True}
    messages_api.scripts["late"] = [Reply([ToolUse("toolu_1", "Bash", wait)]), Reply([Text("Started.")])]
    process = agent.start("Go. [[late]]", AgentSettings(allowed_tools=("Bash",)))
    assert process.stdout is not None
    reader = OutputReader()
    for line in process.stdout:
        reader.feed(line)
        if reader.result is not None and not go.exists():
            assert (reader.is_done, reader.background) == (False, 1)
            go.touch()
    assert process.wait(60) == 0
    process.stdout.close()
    assert reader.is_done
    assert judge(SETTINGS, reader, 0).outcome == COMPLETED
    assert reader.result is not None
    assert reader.result.turns == 3
