"""Fills a database with half a year of work: calls, files, sessions, tasks, transcripts, messages and their roll-ups.

Straight into the tables and through the real triggers; what no trigger keeps (cost_rollup, state_rollup) is added up from
the rows. The same for the same seed and end. A call in ten gets a message of its own, a session has about 500 calls.
Run: python tests/benchmarks/filled.py FOLDER [calls]
"""

import random
import sqlite3
import sys
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any
from zlib import crc32

from tasks.database import SyncDatabase
from tasks.ingest.spent import TimeSpent
from tasks.rollups import DAY

SPAN = 180 * DAY
#: Sessions that are at work at once, and the calls they share.
AT_ONCE, PER_GROUP = 8, 4000
BATCH = 20_000

TOOLS = {
    "Bash": 28, "Read": 30, "Edit": 16, "Grep": 9, "Glob": 4, "Write": 4, "TodoWrite": 4, "WebFetch": 2, "Agent": 1,
    "mcp__github__search_code": 1, "mcp__browser__take_screenshot": 1,
}  # fmt: skip
ACTIONS = {"Read": "read", "Edit": "edit", "Write": "write"}
CATEGORIES = (
    "command_failed", "file_not_found", "timeout", "permission_denied", "stale_edit", "blocked", "user_rejected",
    "invalid_input", "syntax_error", "network_error", "tool_error",
)  # fmt: skip
MODELS = ("claude-opus-4-8", "claude-sonnet-4-6", "claude-haiku-4-5")
WORKFLOWS = ("code-task", "review", "refactor", "docs", None)
AGENT_TYPES = ("code_agent", "review_agent", "docs_agent", None)
SUBAGENTS = ("Explore", "general-purpose", "code-reviewer", "test-runner")
PROJECTS, FILES_EACH, KINDS_EACH = 40, 500, 60

_CALL = f"""
INSERT INTO tool_usage (timestamp, session_uuid, task_id, agent_id, agent_type, prompt_id, tool_use_id, tool_name,
                        parameters, success, error, error_category, duration_ms, source, model, fingerprint)
VALUES ({", ".join("?" * 16)})
"""
_FILE = "INSERT INTO files (timestamp, path, action, session_uuid, task_id, agent_id, tool_use_id) VALUES (?, ?, ?, ?, ?, ?, ?)"
_KIND = f"INSERT INTO error_kinds VALUES ({', '.join('?' * 7)})"
_TASK = """
INSERT INTO tasks (task_id, user_id, description, status, agent_type, workflow, model, workspace, attempt, session_uuid,
                   merge_state, failure, turns, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd,
                   created_at, started_at, finished_at)
VALUES (:task_id, 1, 'Make the tests of the parser pass again', :status, :agent_type, :workflow, :model, :workspace, 1,
        :session, :merge_state, :failure, :turns, 1000, 5000, 800000, 60000, :cost, :created, :started, :finished)
"""
_RUN = """
INSERT INTO runs (task_id, attempt, session_uuid, host, started_at, started_monotonic, finished_at, exit_status, outcome, turns,
                  cost_usd)
VALUES (:task_id, 1, :session, 'bench', :started, 0, :finished, 0, coalesce(:failure, :status), :turns, :cost)
"""
_SESSION = """
INSERT INTO sessions (session_uuid, task_id, status, status_since, cwd, model, host, started_at, last_event_at, ended_at,
                      events, prompts)
VALUES (:session, :task_id, :state, :since, :workspace, :model, 'bench', :started, :ended, :ended, 1500, 12)
"""
_STATUS = """
INSERT INTO agent_status (timestamp, session_uuid, task_id, status, previous, cause) VALUES (?, ?, ?, ?, ?, 'bench')
"""
_TRANSCRIPT = """
INSERT INTO transcripts (transcript_id, path, session_uuid, agent_type, task_id, workflow, project, offset, began_at, last_at)
VALUES (:number, '/home/dev/.claude/projects/' || :session || '.jsonl', :session, coalesce(:agent_type, ''), :task_id,
        :workflow, :workspace, 1000000, :started, :ended)
"""
_PRICE = f"""
INSERT INTO prices (price_id, model, source, modifiers, input, output, cache_read, cache_write_5m, cache_write_1h, web_search)
VALUES ({", ".join("?" * 10)})
"""
_MESSAGE = f"""
INSERT INTO messages (message_id, transcript_id, timestamp, prompt_id, model, input_tokens, output_tokens, cache_read_tokens,
                      cache_write_5m_tokens, cache_write_1h_tokens, web_searches, modifiers, price_id, cost)
VALUES ({", ".join("?" * 14)})
"""

# By quarters of an hour first: the other slots are sums of these.
_QUARTERS = """
CREATE TEMP TABLE quarter AS
SELECT transcript_id, timestamp / 900000 AS slot, model, count(*) AS n, sum(input_tokens) AS a, sum(output_tokens) AS b,
       sum(cache_read_tokens) AS c, sum(cache_write_5m_tokens) AS d, sum(cache_write_1h_tokens) AS e, sum(web_searches) AS f,
       sum(coalesce(cost, 0)) AS g, sum(cost IS NULL) AS h
FROM messages GROUP BY 1, 2, 3
"""
_COSTS = """
INSERT INTO cost_rollup
SELECT '{dimension}', {grain}, slot / {quarters} AS at, {value} AS value, model, sum(n), sum(a), sum(b), sum(c), sum(d), sum(e),
       sum(f), sum(g), sum(h)
FROM quarter JOIN transcripts USING (transcript_id) WHERE {value} IS NOT NULL GROUP BY at, value, model
"""


def fill(root: Path, calls: int, *, seed: int = 7) -> None:
    """Make `root`/tasks.db with so many calls, the latest just now."""
    SyncDatabase(root / "tasks.db").close()
    connection = sqlite3.connect(root / "tasks.db", isolation_level=None)
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE", "cache_size = -1000000"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("BEGIN")
    history = _History(calls, random.Random(seed))
    connection.executemany(_KIND, history.kinds())
    connection.executemany(_PRICE, history.prices())
    sessions = [history.session(number) for number in range(calls // 500 + AT_ONCE)]
    changes, spent = history.states(sessions)
    connection.executemany(_TASK, [one for one in sessions if one["task_id"]])
    connection.executemany(_RUN, [one for one in sessions if one["task_id"]])
    connection.executemany(_SESSION, sessions)
    connection.executemany(_TRANSCRIPT, sessions)
    connection.executemany(_STATUS, changes)
    connection.executemany(spent.write().statement, spent.write().rows)
    for uses, files, messages in history.batches(sessions):
        connection.executemany(_CALL, uses)
        connection.executemany(_FILE, files)
        connection.executemany(_MESSAGE, messages)
    connection.execute(_QUARTERS)
    for dimension, value, grains in (
        ("all", "''", (1, 4, 24, 96)), ("project", "project", (1, 4, 24, 96)), ("agent_type", "agent_type", (1, 4, 24, 96)),
        ("workflow", "workflow", (1, 4, 24, 96)), ("session", "session_uuid", (1, 96)), ("task", "task_id", (1, 96)),
    ):  # fmt: skip
        for quarters in grains:
            connection.execute(
                _COSTS.format(dimension=dimension, grain=quarters * 900_000, quarters=quarters, value=value)
            )
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()


class _History:
    def __init__(self, calls: int, rng: random.Random) -> None:
        self.calls = calls
        self.rng = rng
        self.end = time.time_ns() // 1_000_000
        self.begin = self.end - SPAN
        self.tools = tuple(TOOLS)
        self.tool_weights = tuple(accumulate(TOOLS.values()))
        self.file_weights = tuple(accumulate(1 / (rank + 3) for rank in range(FILES_EACH)))
        self.kind_weights = tuple(accumulate(1 / (rank + 2) for rank in range(KINDS_EACH)))
        self.paths = [
            [f"/home/dev/work/project-{project}/src/package_{file % 23}/module_{file}.py" for file in range(FILES_EACH)]
            for project in range(PROJECTS)
        ]
        self.durations = [rng.lognormvariate(5, 1.8) for _ in range(10_007)]
        self.noise = [f"{rng.getrandbits(900):0225x}"[: rng.randrange(40, 225)] for _ in range(997)]

    def at(self, call: float) -> int:
        """When the call of that number was made."""
        return self.begin + round(SPAN * call / self.calls)

    def kinds(self) -> Iterator[tuple[Any, ...]]:
        for tool in self.tools:
            for number in range(KINDS_EACH):
                category = CATEGORIES[number % len(CATEGORIES)]
                yield (_fingerprint(tool, number), tool, category, f"{tool} failed in way {number} with <path>", None,
                       self.begin, self.end)  # fmt: skip

    def prices(self) -> Iterator[tuple[Any, ...]]:
        for number, model in enumerate(MODELS, 1):
            unit = 1_000_000 * 5 // number
            yield (number, model, "bench", "", unit, unit * 5, unit // 10, unit * 5 // 4, unit * 2, 10_000_000_000)

    def session(self, number: int) -> dict[str, Any]:
        rng = self.rng
        group = number // AT_ONCE * PER_GROUP
        started, ended = min(self.at(group), self.end - 1), min(self.at(group + PER_GROUP), self.end)
        task = rng.random() < 0.7
        status = rng.choices(("completed", "failed", "stopped"), (80, 15, 5))[0]
        return {
            "number": number + 1,
            "session": f"{number:08x}-5e55-4000-8000-{number * 2654435761 % (1 << 48):012x}",
            "task_id": f"{number:06x}" if task else None,
            "workflow": rng.choices(WORKFLOWS, (60, 20, 10, 5, 5))[0] if task else None,
            "agent_type": rng.choice(AGENT_TYPES) if task else None,
            "model": rng.choices(MODELS, (50, 40, 10))[0],
            "project": number * 7 % PROJECTS,
            "workspace": f"/home/dev/work/project-{number * 7 % PROJECTS}",
            "status": status,
            "state": "idle" if ended == self.end else "ended",
            "failure": rng.choice(("crashed", "timeout")) if status == "failed" else None,
            "merge_state": rng.choice(("merged", "merged", "conflict", "none")) if status == "completed" else "none",
            "turns": rng.randrange(5, 80),
            "cost": rng.lognormvariate(0, 1),
            "created": started - 60_000,
            "started": started,
            "finished": ended,
            "ended": ended,
            "since": ended,
        }

    def states(self, sessions: list[dict[str, Any]]) -> tuple[list[tuple[Any, ...]], TimeSpent]:
        """Changes of status, and the time between them."""
        changes: list[tuple[Any, ...]] = []
        spent, rng = TimeSpent(), self.rng
        for one in sessions:
            turns = rng.randrange(10, 40)
            moments = sorted(rng.randrange(one["started"], one["ended"] + 1) for _ in range(turns * 2))
            status, since = "starting", one["started"]
            changes.append((since, one["session"], one["task_id"], status, None))
            for number, moment in enumerate([*moments, one["ended"]]):
                last = number == len(moments)
                to = (
                    one["state"]
                    if last
                    else "working"
                    if number % 2 == 0
                    else rng.choice(("idle", "waiting_permission"))
                )
                if to == status:
                    one["since"] = since
                    continue
                spent.add(status, since, moment)
                changes.append((moment, one["session"], one["task_id"], to, status))
                status, since = to, moment
        return sorted(changes, key=lambda change: change[0]), spent

    def batches(self, sessions: list[dict[str, Any]]) -> Iterator[tuple[list[Any], list[Any], list[Any]]]:
        for begin in range(0, self.calls, BATCH):
            count = min(BATCH, self.calls - begin)
            tools = self.rng.choices(self.tools, cum_weights=self.tool_weights, k=count)
            files = self.rng.choices(range(FILES_EACH), cum_weights=self.file_weights, k=count)
            kinds = self.rng.choices(range(KINDS_EACH), cum_weights=self.kind_weights, k=count)
            bits = [self.rng.getrandbits(40) for _ in range(count)]
            uses: list[Any] = []
            touched: list[Any] = []
            messages: list[Any] = []
            for offset in range(count):
                number, chance = begin + offset, bits[offset]
                session = sessions[number // PER_GROUP * AT_ONCE + chance % AT_ONCE]
                use = self._use(number, session, tools[offset], files[offset], kinds[offset], chance >> 3)
                uses.append(use)
                if (action := ACTIONS.get(use[7])) is not None and use[9]:
                    path = self.paths[session["project"]][files[offset]]
                    touched.append((use[0], path, action, use[1], use[2], use[3], use[6]))
                if number % 10 == 0:
                    messages.append(self._message(number, session, use[0], chance))
            yield uses, touched, messages

    def _use(
        self, number: int, session: dict[str, Any], tool: str, file: int, kind: int, chance: int
    ) -> tuple[Any, ...]:
        agent = chance % 5 == 0
        failed = chance % 100 < 8
        noise = self.noise[chance % 997]
        if tool in ACTIONS:
            parameters = f'{{"file_path":"{self.paths[session["project"]][file]}","new_string":"{noise}"}}'
        else:
            parameters = f'{{"command":"pytest -q tests/test_{file}.py && {noise}","description":"Run the tests"}}'
        return (
            self.at(number), session["session"], session["task_id"],
            f"a{chance // 5 % 3:016x}" if agent else None, SUBAGENTS[chance // 5 % 4] if agent else session["agent_type"],
            f"{number // 40:08x}-1111-4111-8111-111111111111", f"toolu_01{number:022d}", tool, parameters, int(not failed),
            f"Exit code 1\n{noise}" if failed else None, CATEGORIES[kind % len(CATEGORIES)] if failed else None,
            None if chance % 50 == 7 else self.durations[chance % 10_007], "hook",
            None if chance % 11 == 0 else session["model"], _fingerprint(tool, kind) if failed else None,
        )  # fmt: skip

    def _message(self, number: int, session: dict[str, Any], at: int, chance: int) -> tuple[Any, ...]:
        priced = chance % 400 != 1
        price = MODELS.index(session["model"]) + 1
        tokens = (
            chance % 20,
            chance % 1500,
            chance % 150_000,
            chance % 4_000,
            chance % 9_000 if chance % 3 == 0 else 0,
        )
        unit = 1_000_000 * 5 // price
        rates = (unit, unit * 5, unit // 10, unit * 5 // 4, unit * 2)
        cost = sum(count * rate for count, rate in zip(tokens, rates, strict=True))
        return (
            f"msg_01{number:022d}", session["number"], at, f"{number // 40:08x}-1111-4111-8111-111111111111",
            session["model"] if priced else "claude-unheard-of", *tokens, 0, "", price if priced else None,
            cost if priced else None,
        )  # fmt: skip


def _fingerprint(tool: str, kind: int) -> str:
    return f"{crc32(tool.encode()):08x}{kind:08x}"


def main() -> None:
    root, calls = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 200_000
    root.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    fill(root, calls)
    size = (root / "tasks.db").stat().st_size
    print(f"{calls:,} calls in {time.monotonic() - started:.0f} s, {size:,} bytes, {size / calls:.0f} a call")


if __name__ == "__main__":
    main()
