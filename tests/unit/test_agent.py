"""How an agent is called and how its end is judged, over recorded output of the real client."""

import json
from pathlib import Path

import pytest
from tasks.agent import COMPLETED, LIMITED, AgentResult, Judgement, OutputReader, judge, launch, resumable
from tasks.config import AgentSettings
from tasks.words import Failure

DATA = Path(__file__).parents[1] / "data"
SESSION = "5f0c9e7a-3f4e-4d53-9d3e-1f1f8a3d9b11"
#: before everything that was recorded
THEN = 1_795_000_000_000


def recorded(name: str) -> bytes:
    path = DATA / "agent" / f"{name}.jsonl"
    return (path if path.exists() else DATA / "transcripts" / name / "stream.jsonl").read_bytes()


def read(data: bytes) -> OutputReader:
    reader = OutputReader(now=lambda: THEN)
    reader.feed(data)
    return reader


def judged(name: str, exit_status: int | None = 1, *, errors: str = "") -> Judgement:
    return judge(AgentSettings(), read(recorded(name)), exit_status, errors=errors)


def result_line(**fields: object) -> bytes:
    line = {"type": "result", "subtype": "success", "is_error": False, "num_turns": 1, "result": "Fine.", **fields}
    return json.dumps(line).encode() + b"\n"


def test_client_is_called_without_the_prompt_and_with_its_session() -> None:
    call = launch(AgentSettings(), session=SESSION)
    assert call.argv == (
        "claude", "-p", "--output-format", "stream-json", "--verbose", "--session-id", SESSION,
        "--permission-mode=acceptEdits", "--allowedTools", *AgentSettings().allowed_tools,
    )  # fmt: skip
    assert call.environ == {}


def test_an_agent_may_commit_by_default_and_neither_push_nor_switch() -> None:
    allowed = AgentSettings().allowed_tools
    assert {"Bash(git add:*)", "Bash(git commit:*)"} <= set(allowed)
    assert not [
        rule for rule in allowed if any(word in rule for word in ("push", "switch", "checkout", "reset", "Bash(git:"))
    ]


def test_instructions_come_before_those_of_the_settings() -> None:
    call = launch(AgentSettings(append_system_prompt="be brief"), session=SESSION, instructions="commit")
    assert "--append-system-prompt=commit\n\nbe brief" in call.argv


def test_every_setting_of_an_agent_reaches_the_client() -> None:
    settings = AgentSettings(
        model="opus", permission_mode="dontAsk", allowed_tools=("Bash(git *)", "Read"), disallowed_tools=("WebFetch",),
        append_system_prompt="--be brief", budget_usd=1.5, max_turns=7, environment={"LANG": "C"},
    )  # fmt: skip
    call = launch(settings, session=SESSION, program="/opt/claude", resume=True, hooks={"Stop": []})
    assert call.argv[0] == "/opt/claude"
    assert call.argv[5:7] == ("--resume", SESSION)
    assert call.argv[7:] == (
        "--permission-mode=dontAsk", "--model=opus", "--max-budget-usd=1.5", "--max-turns=7",
        "--append-system-prompt=--be brief", '--settings={"hooks": {"Stop": []}}', "--allowedTools", "Bash(git *)",
        "Read", "--disallowedTools", "WebFetch",
    )  # fmt: skip
    assert call.environ == {"LANG": "C"}


def test_what_the_task_says_comes_before_the_settings() -> None:
    settings = AgentSettings(model="opus", budget_usd=1.5, max_turns=7)
    call = launch(settings, session=SESSION, model="--help", budget_usd=0.25, max_turns=0)
    assert "--model=--help" in call.argv
    assert "--max-budget-usd=0.25" in call.argv
    assert not any(word.startswith("--max-turns") for word in call.argv)


def test_configured_command_is_taken_word_for_word() -> None:
    settings = AgentSettings(
        command=("run-it", "{session}", "-m={model}", '{"x": {1}}', "{resume}", "{session_option}")
    )
    call = launch(settings, session=SESSION, model="{session}", budget_usd=3, hooks={"Stop": []})
    assert call.argv == ("run-it", SESSION, "-m={session}", '{"x": {1}}', "{resume}", "--session-id")
    assert launch(settings, session=SESSION, resume=True).argv[-1] == "--resume"


def test_only_commands_that_are_told_to_resume_can_go_on_with_a_session() -> None:
    assert resumable(AgentSettings())
    assert resumable(AgentSettings(command=("wrap", "{session_option}={session}")))
    assert not resumable(AgentSettings(command=("wrap", "{session}")))


@pytest.mark.parametrize(
    "name", ["completed", "resumed", "retried", "background", "denied", "tools", "subagent", "subagent_limit",
             "limit_warning", "t_simple", "t_parallel", "t_subagent", "t_resume2", "perm_default"],
)  # fmt: skip
def test_finished_turn_completes_whatever_the_exit_status(name: str) -> None:
    reader = read(recorded(name))
    judgement = judge(AgentSettings(), reader, 1)
    assert judgement.outcome == COMPLETED
    assert reader.result is not None
    assert judgement.text == reader.result.text != ""


@pytest.mark.parametrize(
    ("name", "resets_at"),
    [
        ("limit", 1_795_368_878_000),
        ("limit_at_once", 1_795_368_878_000),
        ("limit_weekly", 1_795_661_121_000),
        ("limit_unnamed", None),
        ("too_many_requests", None),
        ("too_many_requests_api_key", None),
        ("overloaded", None),
        ("no_connection", None),
        ("api_usage_limits", 1_796_083_200_000),
    ],
)
def test_what_passes_by_itself_is_a_limit(name: str, resets_at: int | None) -> None:
    reader = read(recorded(name))
    assert judge(AgentSettings(), reader, 1).outcome == LIMITED
    assert reader.limit is not None
    assert reader.limit.resets_at == resets_at


@pytest.mark.parametrize(
    ("name", "failure", "words"),
    [
        ("max_turns", Failure.MAX_TURNS, "Reached maximum number of turns (1)"),
        ("budget", Failure.BUDGET, "Reached maximum budget ($0.003)"),
        ("authentication", Failure.AGENT_ERROR, "Invalid API key · Fix external API key"),
        ("not_logged_in", Failure.AGENT_ERROR, "Not logged in · Please run /login"),
        ("billing", Failure.AGENT_ERROR, "Credit balance is too low"),
        ("no_model", Failure.AGENT_ERROR, "There's an issue with the selected model (claude-sonnet-5-5)."),
        ("too_long", Failure.AGENT_ERROR, "the conversation does not fit into the model's context: Prompt is too long"),
        ("server_error", Failure.AGENT_ERROR, "API Error: 500 Internal server error"),
        ("t_failed", Failure.AGENT_ERROR, "API Error: 500 boom"),
        ("interrupted_tool", Failure.AGENT_ERROR, "the agent was interrupted"),
        ("blocked_prompt", Failure.AGENT_ERROR, "the prompt never reached the agent: UserPromptSubmit operation blocked "
                                                "by hook: dirty workspace"),
        ("local_command", Failure.AGENT_ERROR, "the client took the prompt for its own command /cost"),
        ("t_compact", Failure.AGENT_ERROR, "the prompt never reached the agent"),
    ],
)  # fmt: skip
def test_failure_is_told_in_the_words_of_the_client(name: str, failure: Failure, words: str) -> None:
    judgement = judged(name, 0)
    assert judgement.outcome == failure
    assert judgement.text.startswith(words)
    assert "Original prompt" not in judgement.text
    assert "ede_diagnostic" not in judgement.text


@pytest.mark.parametrize(
    ("name", "exit_status", "failure", "text"),
    [
        ("killed", 137, Failure.AGENT_ERROR, "the agent ended without a result (killed by signal 9, SIGKILL)"),
        ("terminated", 143, Failure.AGENT_ERROR, "the agent ended without a result (killed by signal 15, SIGTERM)"),
        ("interrupted_wait", 0, Failure.AGENT_ERROR, "the agent ended without a result, exit status 0"),
        ("killed", None, Failure.LOST, "the agent ended without a result, and how is not known"),
    ],
)
def test_end_without_a_result_is_told_as_it_was(
    name: str, exit_status: int | None, failure: Failure, text: str
) -> None:
    assert judged(name, exit_status) == Judgement(failure, text)


def test_end_without_a_result_quotes_the_last_lines_of_stderr() -> None:
    judgement = judge(AgentSettings(), read(b""), 3, errors="one\ntwo\r\n\nthree\nfour\nfive\nsix\n")
    assert judgement.text == "the agent ended without a result, exit status 3: two / three / four / five / six"


def test_session_that_cannot_be_used_is_told() -> None:
    assert judged("unknown_session").session == "unknown"
    in_use = f"Error: Session ID {SESSION} is already in use.\n"
    assert judge(AgentSettings(), read(b""), 1, errors=in_use).session == "in_use"
    assert judged("completed").session is None


def test_result_of_an_old_client_counts_without_a_terminal_reason() -> None:
    assert judge(AgentSettings(), read(result_line()), 0) == Judgement(COMPLETED, "Fine.")


@pytest.mark.parametrize("reason", ["hook_stopped", "stop_hook_prevented", "aborted_streaming", "something_new"])
def test_turn_that_ended_otherwise_does_not_complete(reason: str) -> None:
    assert judge(AgentSettings(), read(result_line(terminal_reason=reason)), 0).outcome == Failure.AGENT_ERROR


def test_last_result_decides() -> None:
    error = result_line(is_error=True, result="API Error: 500", api_error_status=500, terminal_reason="api_error")
    assert judge(AgentSettings(), read(error + result_line()), 1).outcome == COMPLETED
    assert judge(AgentSettings(), read(result_line() + error), 0).outcome == Failure.AGENT_ERROR


def test_result_without_a_line_end_counts() -> None:
    assert judge(AgentSettings(), read(result_line().rstrip(b"\n")), 0).outcome == COMPLETED


@pytest.mark.parametrize(
    "words",
    [
        "You've hit your 5-hour limit · resets 3pm (UTC)",
        "Usage limit reached, resets 3pm",
        "Claude AI usage limit reached|1795368878",
    ],
)
def test_task_about_limits_is_no_limit(words: str) -> None:
    said = {"type": "assistant", "message": {"content": [{"type": "text", "text": words}]}}
    reader = read(json.dumps(said).encode() + b"\n" + result_line(result=words))
    assert judge(AgentSettings(), reader, 0) == Judgement(COMPLETED, words)
    failed = result_line(is_error=True, subtype="error_max_turns", terminal_reason="max_turns", result=words)
    assert judge(AgentSettings(), read(failed), 1).outcome == Failure.MAX_TURNS
    server_error = result_line(is_error=True, api_error_status=500, result="API Error: 500 no limit reached here")
    assert judge(AgentSettings(), read(server_error), 1).outcome == Failure.AGENT_ERROR


def test_limit_that_passed_within_a_run_does_not_end_it() -> None:
    limited = result_line(is_error=True, api_error_status=429, result="API Error: 429")
    reader = read(limited + result_line())
    assert judge(AgentSettings(), reader, 0) == Judgement(COMPLETED, "Fine.")
    assert reader.limit is None


@pytest.mark.parametrize("words", ["API Error: Connection error.", "API Error: Can't reach the API server"])
def test_api_out_of_reach_passes_by_itself_in_old_clients_too(words: str) -> None:
    assert judge(AgentSettings(), read(result_line(is_error=True, result=words)), 1).outcome == LIMITED


def test_new_client_names_what_passes_by_itself() -> None:
    line = result_line(is_error=True, api_error="connection_failed", result="No way there")
    assert judge(AgentSettings(), read(line), 1).outcome == LIMITED


def test_old_client_names_its_limit_in_words() -> None:
    reader = read(result_line(is_error=True, result="Claude AI usage limit reached|1795368878"))
    assert judge(AgentSettings(), reader, 1).outcome == LIMITED
    assert reader.limit is not None
    assert reader.limit.resets_at == 1_795_368_878_000


def test_command_with_text_output_is_judged_by_its_exit_status() -> None:
    settings = AgentSettings(command=("make",), output="text")
    output = b"\n".join(b"line %d" % number for number in range(30))
    good, bad, unknown = (OutputReader("text") for _ in range(3))
    for reader in (good, bad, unknown):
        reader.feed(output)
    lines = [f"line {number}" for number in range(10, 30)]
    assert judge(settings, good, 0) == Judgement(COMPLETED, "\n".join(lines))
    assert judge(settings, bad, 2, errors="no rule\n").text == "the agent ended, exit status 2: no rule"
    assert judge(settings, unknown, None).outcome == Failure.LOST


#: The totals that the script of the recording knows: input, output, cache write, cache read, dollars.
TRUE_TOTALS = {
    "t_simple": (14, 153, 1200, 11000, 0.010137),
    "t_parallel": (17, 191, 1150, 11200, 0.0105885),
    "t_subagent": (30, 317, 2080, 11700, 0.016155),
    "t_failed": (11, 44, 900, 5100, 0.005598),
    "t_resume2": (11, 22, 100, 1000, 0.001038),
    "t_compact": (13, 24, 120, 1200, 0.001209),
    "background": (9, 240, 900, 27000, 0.007368),
    "subagent": (12, 320, 1200, 36000, 0.009824),
    # one request of its own; the client counts the two of the earlier process as well
    "resumed": (3, 80, 300, 9000, 0.002456),
}


@pytest.mark.parametrize("name", TRUE_TOTALS)
def test_tokens_and_dollars_are_those_of_the_process(name: str) -> None:
    result = read(recorded(name)).result
    assert isinstance(result, AgentResult)
    tokens = (result.input_tokens, result.output_tokens, result.cache_write_tokens, result.cache_read_tokens)
    assert tokens == TRUE_TOTALS[name][:4]
    assert result.cost_usd == pytest.approx(TRUE_TOTALS[name][4])


def test_turns_of_all_results_are_added() -> None:
    result = read(recorded("background")).result
    assert result is not None
    assert result.turns == 3
