"""Transcripts as the client writes them, of any size, and the sums that are in them. The same for the same seed.

Projects with sessions and subagents; a line per content block, early ones with a placeholder for output_tokens; cache
writes of both lives; resumed sessions; forks, with and without the marks of newer clients; `<synthetic>` lines; and the
bulk: tools' results, written twice each, and attachments.
Run: python tests/benchmarks/corpus.py FOLDER [megabytes] [seed]   (prints the sums as JSON)
"""

import copy
import dataclasses
import itertools
import json
import os
import random
import sys
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BEGIN = 1_788_220_800_000  # milliseconds: 2026-09-01 UTC
DAYS = 60
MODELS = ("claude-sonnet-4-5-20250929", "claude-opus-4-1-20250805", "claude-haiku-4-5-20251001")
AGENT_TYPES = ("general-purpose", "Explore", "Plan")
TOOLS = ("Bash", "Read", "Edit", "Grep", "Write", "Glob")
PROJECTS = 8

Lines = list[dict[str, Any]]


@dataclass
class Tokens:
    """Sums over answers of the API."""

    messages: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    web_searches: int = 0

    def add(self, usage: dict[str, Any]) -> None:
        self.messages += 1
        self.input_tokens += usage["input_tokens"]
        self.output_tokens += usage["output_tokens"]
        self.cache_read_tokens += usage["cache_read_input_tokens"]
        self.cache_write_5m_tokens += usage["cache_creation"]["ephemeral_5m_input_tokens"]
        self.cache_write_1h_tokens += usage["cache_creation"]["ephemeral_1h_input_tokens"]
        self.web_searches += usage["server_tool_use"]["web_search_requests"]


def _sums() -> dict[str, Tokens]:
    return defaultdict(Tokens)


@dataclass
class Truth:
    """What is in a corpus: each answer once, with the file that first told of it."""

    files: int = 0
    bytes: int = 0
    lines: int = 0
    #: tool calls; those that copies repeat count once
    calls: int = 0
    #: of these, answered with a failure
    failures: int = 0
    #: without an answer: the client was killed
    unanswered: int = 0
    total: Tokens = field(default_factory=Tokens)
    #: what summing each line would give
    naive: Tokens = field(default_factory=Tokens)
    by_model: dict[str, Tokens] = field(default_factory=_sums)
    #: a subagent's belong to its parent's session
    by_session: dict[str, Tokens] = field(default_factory=_sums)
    #: the session's folder
    by_project: dict[str, Tokens] = field(default_factory=_sums)
    #: of subagents; '' the main agents
    by_agent_type: dict[str, Tokens] = field(default_factory=_sums)
    #: YYYY-MM-DD in UTC
    by_day: dict[str, Tokens] = field(default_factory=_sums)
    #: "batch fast geo_us", as `tasks.transcripts.Message.modifiers`
    by_modifiers: dict[str, Tokens] = field(default_factory=_sums)

    @property
    def messages(self) -> int:
        return self.total.messages


def write(folder: Path, megabytes: float, seed: int = 0, *, modifiers: bool = True, placeholders: bool = True) -> Truth:
    """Fill `folder`, the client's folder of projects, with about so many megabytes (10^6) of transcripts.

    Without `modifiers` no answer was fast, in a batch, of a region, or searched the web; without `placeholders` all lines
    of an answer tell the same usage.
    """
    writer = _Writer(folder, random.Random(seed), modifiers=modifiers, placeholders=placeholders)
    while writer.truth.bytes < megabytes * 1e6:
        writer.session()
    truth = writer.truth
    for name in ("by_model", "by_session", "by_project", "by_agent_type", "by_day", "by_modifiers"):
        # Plain from here on: who asks for a key that is not there is wrong.
        setattr(truth, name, dict(getattr(truth, name)))
    return truth


class _Writer:
    def __init__(self, folder: Path, rng: random.Random, *, modifiers: bool, placeholders: bool) -> None:
        self.folder = folder
        self.rng = rng
        self.truth = Truth()
        self._modifiers = modifiers
        self.placeholders = placeholders
        self._text = _text(rng)
        self._projects = [f"/home/dev/project-{number}" for number in range(PROJECTS)]
        self._counter = itertools.count(1)

    def session(self) -> None:
        """One session, perhaps resumed later, with its subagents and forks."""
        rng = self.rng
        begin = BEGIN + rng.randrange(DAYS * 86_400_000)
        session = _Session(self, self.uuid(), rng.choice(self._projects), begin)
        session.prompts(min(int(rng.lognormvariate(1, 1)) + 1, 60))
        if rng.random() < 0.3:
            session.clock += rng.randrange(1, 40) * 3_600_000
            session.prompts(rng.randint(1, 3))
        forks: list[_Session] = []
        while rng.random() < 0.25:
            forks.append(self._fork(rng.choice([session, *forks])))
        for one in [session, *forks]:
            one.save()

    def _fork(self, parent: "_Session") -> "_Session":
        fork = _Session(self, self.uuid(), parent.cwd, parent.clock + self.rng.randrange(60_000, 7_200_000))
        # In print mode: the first line has the time of the fork, and is what tells where no marks do.
        marked = self.rng.random() < 0.5
        copies = [copy.deepcopy(line) for line in parent.lines if "uuid" in line]
        for line in copies:
            if marked and line["type"] == "assistant":
                line.setdefault("requestSessionId", line["sessionId"])
            elif not marked:
                line.pop("requestSessionId", None)
            line["sessionId"] = fork.session_uuid
            if line["type"] == "assistant" and line["message"]["model"] != "<synthetic>":
                self.truth.naive.add(line["message"]["usage"])
        fork.lines += copies
        fork.prompts(self.rng.randint(1, 3))
        return fork

    def usage(self, *, first: bool) -> dict[str, Any]:
        rng = self.rng
        written = int(rng.lognormvariate(7.5 if not first else 9, 1))
        one_hour = written if rng.random() < 0.7 else rng.randrange(written + 1) if rng.random() < 0.2 else 0
        odd = self._modifiers and rng.random() < 0.05
        return {
            "input_tokens": rng.randint(1, 40),
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": 0 if first else int(rng.lognormvariate(10.5, 0.6)),
            "output_tokens": int(rng.lognormvariate(5.5, 1)) + 9,
            "server_tool_use": {"web_search_requests": rng.randint(1, 5) if odd else 0, "web_fetch_requests": 0},
            "service_tier": "batch" if odd and rng.random() < 0.3 else "standard",
            "cache_creation": {
                "ephemeral_1h_input_tokens": one_hour,
                "ephemeral_5m_input_tokens": written - one_hour,
            },
            "inference_geo": "us" if odd and rng.random() < 0.3 else "",
            "speed": "fast" if odd and rng.random() < 0.3 else "standard",
        }

    def text(self, size: float) -> str:
        size = min(int(size), 400_000)
        at = self.rng.randrange(len(self._text) - size) if size < len(self._text) else 0
        return self._text[at : at + size]

    def save(self, path: Path, lines: Lines, clock: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        data = "".join(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n" for line in lines).encode()
        path.write_bytes(data)
        os.utime(path, (clock / 1000, clock / 1000))
        self.truth.files += 1
        self.truth.bytes += len(data)
        self.truth.lines += len(lines)

    def message_id(self) -> str:
        return f"msg_{next(self._counter):024d}"

    def tool_use_id(self) -> str:
        return f"toolu_{next(self._counter):024d}"

    def uuid(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))


class _Session:
    """A main agent's file, or with `agent_id` a subagent's, while it is made."""

    def __init__(
        self,
        writer: _Writer,
        session_uuid: str,
        cwd: str,
        clock: int,
        *,
        agent_id: str | None = None,
        agent_type: str = "",
    ) -> None:
        self.writer = writer
        self.session_uuid = session_uuid
        self.cwd = cwd
        self.clock = clock
        self.agent_id = agent_id
        self.agent_type = agent_type
        self.lines: Lines = []
        self.model = writer.rng.choice(MODELS)
        self.prompt_id = ""
        self._subagents: list[_Session] = []
        self._answered = 0
        if agent_id is None:
            self._bare(type="queue-operation", operation="enqueue", timestamp=_time(clock))

    def prompts(self, count: int) -> None:
        rng = self.writer.rng
        for _ in range(count):
            self.clock += rng.randrange(2_000, 600_000)
            self.prompt_id = self.writer.uuid()
            self._user({"role": "user", "content": self.writer.text(rng.lognormvariate(5, 1))})
            self._line(
                "attachment",
                attachment={"type": "skill_listing", "content": self.writer.text(rng.lognormvariate(8, 1))},
            )
            if rng.random() < 0.1:
                self.model = rng.choice(MODELS)
            for _ in range(rng.randint(1, 12)):
                self._answer(calls=rng.choice((1, 1, 1, 2, 3)))
            if rng.random() < 0.05:
                self._synthetic()
            self._answer(calls=0)
            if self.agent_id is None:
                self._bare(type="last-prompt", lastPrompt="go on")

    def save(self) -> None:
        project = self.writer.folder / self.cwd.replace("/", "-")
        if self.agent_id is None:
            self.writer.save(project / f"{self.session_uuid}.jsonl", self.lines, self.clock)
        else:
            path = project / self.session_uuid / "subagents" / f"agent-{self.agent_id}.jsonl"
            self.writer.save(path, self.lines, self.clock)
            path.with_suffix(".meta.json").write_text(json.dumps({"agentType": self.agent_type, "spawnDepth": 1}))
        for subagent in self._subagents:
            subagent.save()

    def _answer(self, *, calls: int) -> None:
        writer, rng, truth = self.writer, self.writer.rng, self.writer.truth
        usage = writer.usage(first=self._answered == 0)
        self._answered += 1
        blocks: list[dict[str, Any]] = []
        if rng.random() < 0.3:
            blocks.append({"type": "thinking", "thinking": "", "signature": writer.text(rng.lognormvariate(6.5, 1))})
        blocks.append({"type": "text", "text": writer.text(rng.lognormvariate(5.5, 1))})
        tools = [writer.tool_use_id() for _ in range(calls)]
        kinds = [rng.choice(TOOLS) for _ in tools]
        for tool_use_id, kind in zip(tools, kinds, strict=True):
            size = rng.lognormvariate(7, 1.2) if kind in ("Edit", "Write") else 60
            value = {"command": writer.text(size), "description": "Look"}
            blocks.append({"type": "tool_use", "id": tool_use_id, "name": kind, "input": value})
        message_id, made = writer.message_id(), self.clock
        placeholder = rng.random() < 0.4 and writer.placeholders
        for number, block in enumerate(blocks):
            last = number == len(blocks) - 1
            told = usage if last or not placeholder else {**usage, "output_tokens": rng.randint(1, 8)}
            self.clock += rng.randrange(1, 3_000)
            self._line("assistant", requestId=f"req_{message_id}", message={
                "id": message_id, "type": "message", "role": "assistant", "model": self.model, "content": [block],
                "stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None, "usage": told,
            })  # fmt: skip
            truth.naive.add(told)
            if number == 0:
                made = self.clock
        self._count(usage, made)
        truth.calls += calls
        for tool_use_id, kind in zip(tools, kinds, strict=True):
            self._result(tool_use_id, kind)

    def _result(self, tool_use_id: str, kind: str) -> None:
        writer, rng = self.writer, self.writer.rng
        self.clock += int(rng.lognormvariate(6, 1.5)) + 1
        if rng.random() < 0.002:
            writer.truth.unanswered += 1
            return
        failed = rng.random() < 0.06
        writer.truth.failures += failed
        text = writer.text(rng.lognormvariate(7.5, 1.4))
        content: Any = text
        if failed and kind == "Edit":
            content = "<tool_use_error>String to replace not found in file.</tool_use_error>"
        elif failed:
            content = "Exit code 1\n" + text
        elif rng.random() < 0.1:
            content = [{"type": "text", "text": text}]
        if rng.random() < 0.03 and self.agent_id is None:
            self._delegate()
        block = {"tool_use_id": tool_use_id, "type": "tool_result", "content": content}
        if failed or kind == "Bash":
            block["is_error"] = failed
        self._user(
            {"role": "user", "content": [block]}, toolUseResult={"stdout": text, "stderr": "", "interrupted": False}
        )

    def _delegate(self) -> None:
        rng = self.writer.rng
        subagent = _Session(
            self.writer, self.session_uuid, self.cwd, self.clock,
            agent_id=f"a{rng.getrandbits(64):016x}", agent_type=rng.choice(AGENT_TYPES),
        )  # fmt: skip
        subagent.prompts(1)
        self.clock = subagent.clock
        self._subagents.append(subagent)

    def _synthetic(self) -> None:
        nothing: dict[str, Any] = {"input_tokens": 0, "output_tokens": 0, "cache_creation_input_tokens": 0,
                                   "cache_read_input_tokens": 0}  # fmt: skip
        self._line("assistant", isApiErrorMessage=True, message={
            "id": self.writer.uuid(), "type": "message", "role": "assistant", "model": "<synthetic>",
            "content": [{"type": "text", "text": "API Error: 529 overloaded"}], "usage": nothing,
        })  # fmt: skip

    def _count(self, usage: dict[str, Any], made: int) -> None:
        truth = self.writer.truth
        words = [word for word, said in (("batch", usage["service_tier"] == "batch"), ("fast", usage["speed"] == "fast"),
                                         ("geo_us", usage["inference_geo"] == "us")) if said]  # fmt: skip
        day = datetime.fromtimestamp(made / 1000, UTC).date().isoformat()
        for sums in (
            truth.total, truth.by_model[self.model], truth.by_session[self.session_uuid], truth.by_project[self.cwd],
            truth.by_agent_type[self.agent_type], truth.by_day[day], truth.by_modifiers[" ".join(words)],
        ):  # fmt: skip
            sums.add(usage)

    def _user(self, message: dict[str, Any], **fields: Any) -> None:
        self._line("user", promptId=self.prompt_id, message=message, **fields)

    def _line(self, kind: str, **fields: Any) -> None:
        previous = next((line["uuid"] for line in reversed(self.lines) if "uuid" in line), None)
        self.lines.append(
            {"parentUuid": previous, "isSidechain": self.agent_id is not None,
             **({"agentId": self.agent_id} if self.agent_id else {}), **fields, "type": kind, "uuid": self.writer.uuid(),
             "timestamp": _time(self.clock), "userType": "external", "entrypoint": "sdk-cli", "cwd": self.cwd,
             "sessionId": self.session_uuid, "version": "2.1.330", "gitBranch": "main"}
        )  # fmt: skip

    def _bare(self, **fields: Any) -> None:
        self.lines.append({**fields, "sessionId": self.session_uuid})


def _time(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"


def _text(rng: random.Random) -> str:
    """Half a megabyte that looks like code: what has to be escaped is in it as often as it is there."""
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz_", k=rng.randint(2, 11))) for _ in range(3000)]
    pieces = []
    size = 0
    while size < 500_000:
        line = " " * rng.choice((0, 4, 8)) + " ".join(rng.choices(words, k=rng.randint(1, 12)))
        line += rng.choice(("", "", "", ' = "text"', "\t# größer", " → C:\\dir", "():", " 🙂"))
        pieces.append(line + "\n")
        size += len(line) + 1
    return "".join(pieces)


def as_json(truth: Truth) -> str:
    return json.dumps(dataclasses.asdict(truth), indent=1)


def main() -> None:
    folder, megabytes, seed = (sys.argv[1:] + ["100", "0"][len(sys.argv) - 2 :])[:3]
    print(as_json(write(Path(folder), float(megabytes), int(seed))))


if __name__ == "__main__":
    main()
