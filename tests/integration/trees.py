"""Random trees of sessions as the client leaves them in its folder, and a plain model of what they add up to."""

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.accounting import rank

BEGIN = 1_756_684_800_000  # milliseconds: 2025-09-01 UTC
PRICED, UNPRICED = ("claude-sonnet-5", "claude-opus-9"), ("mystery-1",)
#: Picodollars: input, output, cache read, 5 m and 1 h cache writes, web search.
RATES = {
    "claude-sonnet-5": (3_000_000, 15_000_000, 300_000, 3_750_000, 6_000_000, 10_000_000_000),
    "claude-opus-9": (5_000_000, 25_000_000, 500_000, 6_250_000, 10_000_000, 10_000_000_000),
}
CONFIG = """
[prices.models."claude-sonnet-5"]
input = 3.0
output = 15.0
cache_read = 0.3
cache_write_5m = 3.75
cache_write_1h = 6.0
web_search = 10.0
[prices.models."claude-opus-9"]
input = 5.0
output = 25.0
cache_read = 0.5
cache_write_5m = 6.25
cache_write_1h = 10.0
web_search = 10.0
"""

Line = dict[str, Any]


@dataclass
class File:
    path: Path
    session: str
    cwd: str
    agent_id: str | None = None
    agent_type: str | None = None
    lines: list[Line] = field(default_factory=list)
    #: what stands after the last newline
    tail: bytes = b""

    def write(self) -> None:
        """Under a new inode, as the client rewrites a file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.draft")
        draft.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in self.lines) + self.tail)
        draft.rename(self.path)
        if self.agent_type is not None:
            self.path.with_suffix(".meta.json").write_text(json.dumps({"agentType": self.agent_type}), encoding="utf-8")


@dataclass(frozen=True)
class Counted:
    """A message, by the model."""

    file: File
    timestamp: int
    prompt_id: str | None
    model: str
    #: input, output, cache read, 5 m and 1 h cache writes, web searches
    usage: tuple[int, ...]

    @property
    def cost(self) -> int | None:
        rates = RATES.get(self.model)
        return None if rates is None else sum(map(int.__mul__, rates, self.usage))


class Tree:
    """Some sessions in `folder`: with subagents, forks that mark what they copied and forks that do not, files that stand in
    two folders, answers in several lines, lines cut short, `<synthetic>` lines, and models that nobody knows.
    """

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder = folder
        self.rng = rng
        self.files: list[File] = []
        self._now = BEGIN
        self._count = Counter[str]()
        for _ in range(rng.randint(1, 4)):
            self._session()
        for _ in range(rng.randint(1, 4)):
            rng.choice([self._fork, self._fork, self._fork, self._duplicate, self._resume, self._subagent])()
        for file in self.files:
            self._end(file)
            file.write()

    def rewrite(self, file: File) -> None:
        """As a client does that puts something in front, or takes out lines that nothing counts in."""
        file.lines = [{"type": "summary", "summary": self._new("s"), "leafUuid": "x"}, *file.lines]
        file.write()

    def model(self) -> dict[str, Counted]:
        """What is right, by message id."""
        told: dict[str, list[tuple[tuple[bool, int, str], File, list[tuple[Line, str | None]]]]] = {}
        for file in self.files:
            prompt = None
            here: dict[str, list[tuple[Line, str | None]]] = {}
            for line in file.lines:
                prompt = line.get("promptId", prompt)
                if line["type"] == "assistant" and line["message"]["model"] != "<synthetic>":
                    here.setdefault(line["message"]["id"], []).append((line, prompt))
            for message_id, lines in here.items():
                copied = all(_is_copied(line) for line, _ in lines)
                told.setdefault(message_id, []).append(((copied, rank(file.path), str(file.path)), file, lines))
        counted = {}
        for message_id, tellers in told.items():
            _, file, own = min(tellers, key=lambda one: one[0])
            best = max((line for _, _, some in tellers for line, _ in some), key=_weight)
            counted[message_id] = Counted(
                file, min(_milliseconds(line) for line, _ in own), own[0][1], best["message"]["model"], _usage(best)
            )
        return counted

    def calls(self) -> set[tuple[str, str]]:
        """(session, tool_use_id) of the calls of messages that are credited to that session."""
        found = set()
        counted = self.model()
        for file in self.files:
            for line in file.lines:
                if line["type"] != "assistant" or line["message"]["model"] == "<synthetic>" or _is_copied(line):
                    continue
                if counted[line["message"]["id"]].file is file:
                    blocks = line["message"]["content"]
                    found |= {(file.session, block["id"]) for block in blocks if block["type"] == "tool_use"}
        return found

    def _session(self) -> None:
        session = self._new("session")
        project = self.rng.choice(["-p-one", "-p-two"])
        file = File(self.folder / project / f"{session}.jsonl", session, project.replace("-", "/"))
        self.files.append(file)
        self._turns(file, self.rng.randint(1, 4))
        if self.rng.random() < 0.5:
            self._subagent(file)

    def _mains(self) -> list[File]:
        return [file for file in self.files if file.agent_id is None]

    def _subagent(self, parent: File | None = None) -> None:
        parent = parent or self.rng.choice(self._mains())
        agent = self._new("a")
        path = parent.path.with_suffix("") / "subagents" / f"agent-{agent}.jsonl"
        agent_type = self.rng.choice(["Explore", "Plan", None])
        file = File(path, parent.session, self.rng.choice([parent.cwd, "/elsewhere"]), agent, agent_type)
        self.files.append(file)
        self._turns(file, self.rng.randint(1, 2))

    def _fork(self) -> None:
        source = self.rng.choice(self._mains())
        session = self._new("session")
        file = File(source.path.with_name(f"{session}.jsonl"), session, source.cwd)
        self.files.append(file)
        marked = self.rng.random() < 0.35
        if not marked:
            file.lines.append({"type": "mode", "timestamp": self._time(), "sessionId": session})
        for line in source.lines[: self.rng.randint(1, len(source.lines))]:
            copy = json.loads(json.dumps(line)) | {"sessionId": session}
            if marked and line["type"] == "assistant":
                copy["requestSessionId"] = line.get("requestSessionId", source.session)
            file.lines.append(copy)
        self._turns(file, self.rng.randint(0, 3))

    def _duplicate(self) -> None:
        source = self.rng.choice(self._mains())
        path = self.folder / "-p-three" / source.path.name
        if all(file.path != path for file in self.files):
            self.files.append(File(path, source.session, source.cwd, lines=json.loads(json.dumps(source.lines))))

    def _resume(self) -> None:
        self._now += 3_600_000 * self.rng.randint(1, 30)
        self._turns(self.rng.choice(self._mains()), self.rng.randint(1, 2))

    def _turns(self, file: File, number: int) -> None:
        for _ in range(number):
            prompt = self._new("prompt")
            self._user(file, prompt, "go")
            for _ in range(self.rng.randint(1, 3)):
                self._answer(file, prompt)
            if self.rng.random() < 0.2:
                self._assistant(
                    file, self._new("msg"), "<synthetic>", (0,) * 6, [{"type": "text", "text": "API Error"}]
                )

    def _answer(self, file: File, prompt: str) -> None:
        """One answer of the API, in one line per block; the first ones with numbers of their own."""
        message_id, model = self._new("msg"), self.rng.choice(PRICED + UNPRICED)
        usage = [
            self.rng.randint(0, 9),
            1,
            *(self.rng.choice([0, 5, 1000]) for _ in range(3)),
            self.rng.choice([0, 0, 1]),
        ]
        for _ in range(self.rng.randint(1, 3)):
            usage[1] += self.rng.choice([0, 0, 1, 200])
            if self.rng.random() < 0.2:
                usage[self.rng.choice([0, 2, 3, 4])] += self.rng.randint(0, 3)
            if self.rng.random() < 0.1:
                model = self.rng.choice(PRICED + UNPRICED)
            blocks: list[Line] = [{"type": "text", "text": "x" * self.rng.randint(0, 300)}]
            if self.rng.random() < 0.5:
                blocks = [{"type": "tool_use", "id": self._new("toolu"), "name": "Bash", "input": {"command": "ls"}}]
            self._assistant(file, message_id, model, tuple(usage), blocks)
            if blocks[0]["type"] == "tool_use" and self.rng.random() < 0.8:
                result = {"type": "tool_result", "tool_use_id": blocks[0]["id"], "content": "ok", "is_error": False}
                self._user(file, prompt, [result])

    def _assistant(self, file: File, message_id: str, model: str, usage: tuple[int, ...], content: list[Line]) -> None:
        told = {
            "input_tokens": usage[0],
            "output_tokens": usage[1],
            "cache_read_input_tokens": usage[2],
            "cache_creation_input_tokens": usage[3] + usage[4],
            "cache_creation": {"ephemeral_5m_input_tokens": usage[3], "ephemeral_1h_input_tokens": usage[4]},
            "server_tool_use": {"web_search_requests": usage[5]},
        }
        message = {"id": message_id, "role": "assistant", "model": model, "usage": told, "content": content}
        file.lines.append(self._outer(file, "assistant") | {"message": message})

    def _user(self, file: File, prompt: str, content: object) -> None:
        file.lines.append(
            self._outer(file, "user") | {"promptId": prompt, "message": {"role": "user", "content": content}}
        )

    def _outer(self, file: File, kind: str) -> Line:
        self._now += self.rng.choice([1, 500, 60_000, 1_200_000])
        return {
            "type": kind,
            "uuid": self._new("u"),
            "timestamp": self._time(),
            "cwd": file.cwd,
            "sessionId": file.session,
        }

    def _end(self, file: File) -> None:
        """The client was killed in the middle of a line, or just before its newline."""
        if self.rng.random() < 0.3:
            file.tail = json.dumps({"type": "assistant", "message": {"id": "torn"}}).encode()[: self.rng.randint(1, 30)]

    def _new(self, kind: str) -> str:
        self._count[kind] += 1
        # In no order: what was first must not show in the names.
        return f"{kind}-{self.rng.randrange(16**4):04x}-{self._count[kind]:03}"

    def _time(self) -> str:
        self._now += 1
        return datetime.fromtimestamp(self._now / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _weight(line: Line) -> tuple[int, tuple[int, ...], str]:
    return line["message"]["usage"]["output_tokens"], _usage(line), line["message"]["model"]


def _is_copied(line: Line) -> bool:
    return line.get("requestSessionId") not in (None, line["sessionId"])


def _milliseconds(line: Line) -> int:
    return round(datetime.fromisoformat(line["timestamp"]).timestamp() * 1000)


def _usage(line: Line) -> tuple[int, ...]:
    usage = line["message"]["usage"]
    written = usage["cache_creation"]
    return (
        usage["input_tokens"], usage["output_tokens"], usage["cache_read_input_tokens"],
        written["ephemeral_5m_input_tokens"], written["ephemeral_1h_input_tokens"],
        usage["server_tool_use"]["web_search_requests"],
    )  # fmt: skip
