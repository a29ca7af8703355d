"""Transcripts to write, and a store with a follower to account them."""

import json
import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.accounting.follower import Follower
from tasks.accounting.reconcile import Reconciled, reconcile
from tasks.config import load
from tasks.database import Database
from tasks.ingest import Ingest
from tasks.prices import PriceBook
from tasks.redaction import Redactor
from tasks.spool import Quarantine, Spool
from tasks.words import PrivacyLevel

RECORDED = Path(__file__).parents[1] / "data/transcripts"
#: What the client applied in the recorded runs.
PRICES = """
[prices.models."claude-sonnet-5*"]
input = 3.0
output = 15.0
cache_read = 0.3
cache_write_5m = 3.75
cache_write_1h = 6.0
"""


class Transcript:
    """A file of the client, written line by line. Times are epoch milliseconds."""

    def __init__(self, path: Path, session: str, *, agent: str | None = None, start: int | None = None) -> None:
        self.path = path
        self.session = session
        self.agent = agent
        self.now = time.time_ns() // 1_000_000 - 3_600_000 if start is None else start
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def write(self, **fields: Any) -> None:
        self.now += 10
        stamp = datetime.fromtimestamp(self.now / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        common = {
            "parentUuid": None, "isSidechain": self.agent is not None, "sessionId": self.session, "timestamp": stamp,
            "cwd": "/home/dev/project", "uuid": f"{self.session}-{self.now}",
        }  # fmt: skip
        self.raw(json.dumps(common | fields, separators=(",", ":")) + "\n")

    def raw(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)

    def prompt(self, text: str = "Please work.", prompt: str = "p1") -> None:
        self.write(type="user", promptId=prompt, message={"role": "user", "content": text})

    def says(self, message: str, *blocks: Mapping[str, Any], model: str = "claude-sonnet-5", tokens: int = 100) -> None:
        """One line per block, as the client writes an answer of the API."""
        usage = {
            "input_tokens": 10,
            "output_tokens": tokens,
            "cache_read_input_tokens": 1000,
            "cache_creation_input_tokens": 50,
        }
        for block in blocks or ({"type": "text", "text": "Well."},):
            self.write(
                type="assistant",
                message={"id": message, "model": model, "role": "assistant", "content": [block], "usage": usage},
            )

    def calls(self, message: str, tool: str, id_: str, **more: Any) -> None:
        model = more.pop("model", "claude-sonnet-5")
        block = {"type": "tool_use", "id": id_, "name": tool, "input": more.pop("input", {"command": f"run {id_}"})}
        self.says(message, block, model=model)

    def answers(self, id_: str, text: str = "fine", *, failed: bool = False) -> None:
        block = {"type": "tool_result", "tool_use_id": id_, "content": text, "is_error": failed}
        self.write(type="user", promptId="p1", message={"role": "user", "content": [block]})

    def call(self, tool: str, id_: str, text: str = "fine", *, failed: bool = False, **more: Any) -> None:
        """A whole one: asked for and answered."""
        self.calls(f"msg_{id_}", tool, id_, **more)
        self.answers(id_, text, failed=failed)


class Books:
    """A data directory with store, ingester and follower; the follower's clock stands still until `pass_` moves it."""

    def __init__(self, root: Path, *, level: PrivacyLevel = PrivacyLevel.DEFAULT, config: str = "") -> None:
        self.projects = root / "home/.claude/projects"
        folder = self.projects / "-home-dev-project"
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        (root / "data").mkdir(exist_ok=True)
        self.environ = {"HOME": str(root / "home")}
        file = root / "home/.config/tasksd/config.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(PRICES + config)
        self.settings = load(data_dir=root / "data", environ=self.environ)
        self.redactor = Redactor(b"test", level)
        self.database = Database(self.settings.database_file)
        self.spool = Spool(self.settings.spool_dir, self.settings.spool)
        self.quarantine = Quarantine(self.settings.quarantine_dir, self.settings.spool_dir, self.settings.spool, "test")
        self.clock = 1000.0
        self.files = 0
        self.woken = 0
        self.follower: Follower
        self.ingest: Ingest

    async def open(self) -> "Books":
        await self.database.open()
        await self.restart()
        return self

    async def restart(self) -> None:
        """A new follower and a new ingester over the same store."""
        self.ingest = Ingest(self.settings, self.database, self.spool, self.quarantine, self.redactor)
        await self.ingest.start()
        self.follower = Follower(
            self.settings, self.database, self.redactor, PriceBook(self.settings.prices), environ=self.environ,
            wake=self._wake, clock=lambda: self.clock,
        )  # fmt: skip

    def _wake(self) -> None:
        self.woken += 1

    async def close(self) -> None:
        self.follower.close()
        self.ingest.close()
        await self.database.close()

    def transcript(self, session: str, **more: Any) -> Transcript:
        return Transcript(self.folder / f"{session}.jsonl", session, **more)

    def subagent(self, session: str, agent: str, kind: str, **more: Any) -> Transcript:
        path = self.folder / session / "subagents" / f"agent-{agent}.jsonl"
        made = Transcript(path, session, agent=agent, **more)
        path.with_suffix(".meta.json").write_text(json.dumps({"agentType": kind}))
        return made

    def recorded(self, name: str) -> list[dict[str, Any]]:
        """Put a recorded run's transcripts where the client would have; its hooks' payloads, told of that place."""
        shutil.copytree(RECORDED / name / "projects", self.projects, dirs_exist_ok=True)
        lines = (RECORDED / name / "hooks.jsonl").read_text().splitlines()
        payloads = [json.loads(line) for line in lines]
        for payload in payloads:
            path = Path(payload["transcript_path"])
            payload["transcript_path"] = str(self.projects / path.parent.name / path.name)
        return payloads

    async def hooks(self, *payloads: Mapping[str, Any], task: str = "-") -> None:
        """Events as the recorder drops them, taken in."""
        for payload in payloads:
            self.files += 1
            path = self.settings.spool_dir / f"{task}.0.{4_000_000 + self.files}.0.json"
            path.write_text(json.dumps(payload))
            path.chmod(0o600)
        await self.ingest.step()
        self.follower.stir()

    async def event(self, transcript: Transcript, kind: str, *, task: str = "-", **fields: Any) -> None:
        common = {"session_id": transcript.session, "transcript_path": str(transcript.path), "cwd": "/home/dev/project"}
        await self.hooks(common | {"hook_event_name": kind} | fields, task=task)

    async def pass_(self, seconds: float) -> None:
        """Let time pass, with the follower's steps that belong to it."""
        end = self.clock + seconds
        while self.clock < end:
            self.clock += min(5.0, end - self.clock)
            await self.follower.step()

    async def read(self) -> int:
        """One step of the follower that may read."""
        self.clock += 2.0
        return await self.follower.step()

    async def reconcile(self, grace: float = 0.0, *, now: int | None = None, limit: int = 1000) -> Reconciled:
        """Everything that can be settled; what all turns did together."""
        at = time.time_ns() // 1_000_000 + 1 if now is None else now
        total = Reconciled(0, 0, 0, done=False)
        while not total.done:
            turn = await self.database.transaction(lambda connection: reconcile(connection, at, grace, limit=limit))
            total = Reconciled(
                total.seen + turn.seen, total.added + turn.added, total.unanswered + turn.unanswered, turn.done
            )
        return total

    async def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return await self.database.query(statement, parameters)

    async def calls(self) -> dict[str, tuple[Any, ...]]:
        """tool_use_id → (tool_name, success, error_category, source, model)."""
        rows = await self.rows("SELECT tool_use_id, tool_name, success, error_category, source, model FROM tool_usage")
        return {row[0]: row[1:] for row in rows}

    async def counts(self) -> tuple[int, int, int]:
        """(expected, seen, added) over all sessions."""
        rows = await self.rows("SELECT total(expected), total(seen), total(added) FROM reconciliations")
        return int(rows[0][0]), int(rows[0][1]), int(rows[0][2])

    async def messages(self) -> int:
        return int((await self.rows("SELECT count(*) FROM messages"))[0][0])

    async def dollars(self) -> float:
        rows = await self.rows(
            "SELECT total(cost) / 1e12 FROM cost_rollup WHERE dimension = 'all' AND grain = 86400000"
        )
        return float(rows[0][0])
