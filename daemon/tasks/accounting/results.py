"""Money that stands in no transcript (compaction): what a run's last result tells beyond the run's messages."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.accounting.messages import RESULT_PREFIX, Holder, Stored, load, price, price_ids, save
from tasks.accounting.rollup import Context, change_messages
from tasks.agent.values import count, mapping
from tasks.database import Connection
from tasks.prices import PriceBook
from tasks.transcripts import Message

#: Input, output, cache reads, cache writes for five minutes, for an hour, web searches.
Tokens = tuple[int, int, int, int, int, int]
#: By model.
Usage = Mapping[str, Tokens]

_FIELDS = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens", "webSearchRequests")
#: Of the cache writes. Older clients do not tell them apart.
_HOUR = "cacheCreationEphemeral1hInputTokens"
_NOTHING: Tokens = (0, 0, 0, 0, 0, 0)
#: Bytes. A result line that is longer says too much to be one.
_LONGEST = 16 << 20
_RESULT = re.compile(rb'"type": ?"result"')
#: More than that is no number of tokens; see the reader of transcripts.
_LIMIT = 10**9
#: Milliseconds that a message may be dated before the start of the run that is told of it, or after its end.
_SLACK = 2000

#: Under which a run's usage is kept, so that it can be set against its messages whenever these become more. SQL, of a row of
#: runs.
DONE_NAME = "'result:' || session_uuid || ':' || task_id || '/' || attempt"

_KEEP = "INSERT INTO daemon_state (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
_KEPT = "SELECT value FROM daemon_state WHERE name >= ? AND name < ?"

_SPENT = """
SELECT model, sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), sum(cache_write_5m_tokens),
       sum(cache_write_1h_tokens), sum(web_searches)
FROM transcripts AS t JOIN messages AS m USING (transcript_id)
WHERE t.session_uuid = ? AND t.path NOT LIKE 'run:%' AND m.timestamp BETWEEN ? AND ?
GROUP BY model
"""

_HOLDER = """
INSERT INTO transcripts (path, session_uuid, agent_type, task_id, workflow, project, began_at, last_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (path) DO UPDATE SET last_at = excluded.last_at
RETURNING transcript_id, began_at, session_uuid, agent_type, task_id, workflow, project
"""

_STORED = "SELECT message_id FROM messages WHERE transcript_id = (SELECT transcript_id FROM transcripts WHERE path = ?)"


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run of a task. Times in epoch milliseconds."""

    task_id: str
    attempt: int
    session_uuid: str
    started_at: int
    finished_at: int
    #: what the client wrote to its standard output
    output: Path

    @property
    def path(self) -> str:
        """Of the row that stands for it among the transcripts."""
        return f"run:{self.task_id}/{self.attempt}"


def usage_of(output: Path) -> Usage:
    """What the results in a client's output say that the process used, by model; empty when there is none, or no output.

    Newer clients count a resumed session from its beginning, and say apart what came since the last result: that is added
    up then. Else the last result counts.
    """
    whole: dict[str, Tokens] = {}
    parts: dict[str, Tokens] = {}
    try:
        for line in _results(output):
            since = line.get("model_usage_since_last_result")
            whole = _models(line.get("modelUsage"))
            if isinstance(since, dict):
                for model, tokens in _models(since).items():
                    parts[model] = _sum(parts.get(model, _NOTHING), tokens)
    except OSError:
        return {}
    return parts or whole


def settle(connection: Connection, run: EndedRun, usage: Usage, book: PriceBook) -> None:
    """Keep what the run used, and account what is beyond its messages. Doing it again changes nothing. In the caller's
    transaction.
    """
    kept = {
        "task_id": run.task_id, "attempt": run.attempt, "started_at": run.started_at, "finished_at": run.finished_at,
        "usage": usage,
    }  # fmt: skip
    name = f"result:{run.session_uuid}:{run.task_id}/{run.attempt}"
    connection.execute(_KEEP, (name, json.dumps(kept)))
    _account(connection, run, usage, book)


def adjust(connection: Connection, session_uuid: str, book: PriceBook) -> None:
    """Account the runs of a session anew whose transcripts told more since. Cheap for sessions without runs."""
    name = f"result:{session_uuid}"
    for (value,) in connection.execute(_KEPT, (f"{name}:", f"{name};")).fetchall():
        kept = json.loads(value)
        run = EndedRun(kept["task_id"], kept["attempt"], session_uuid, kept["started_at"], kept["finished_at"], Path())
        _account(connection, run, {model: tuple(tokens) for model, tokens in kept["usage"].items()}, book)


def _account(connection: Connection, run: EndedRun, usage: Usage, book: PriceBook) -> None:
    span = (run.session_uuid, run.started_at - _SLACK, run.finished_at + _SLACK)
    spent = {row[0]: tuple(map(int, row[1:])) for row in connection.execute(_SPENT, span)}
    left = beyond(usage, spent)  # type: ignore[arg-type]
    known = [row[0] for row in connection.execute(_STORED, (run.path,))]
    if not left and not known:
        return
    holder = _holder(connection, run)
    old = load(connection, known)
    new = {}
    for model, tokens in left.items():
        message_id = f"{RESULT_PREFIX}{run.task_id}/{run.attempt}:{model}"
        message = Message(message_id, run.finished_at, model, None, *tokens)
        rate, picodollars = price(book, message)
        price_id = None if rate is None else price_ids(connection, {rate})[rate]
        new[message.message_id] = Stored(message, holder, price_id, picodollars)
    changed = [name for name in old.keys() | new.keys() if old.get(name) != new.get(name)]
    save(connection, [new[name] for name in changed if name in new])
    connection.executemany("DELETE FROM messages WHERE message_id = ?", [(name,) for name in old.keys() - new.keys()])
    change_messages(
        connection,
        [
            (old[name].entry() if name in old else None, new[name].entry() if name in new else None)
            for name in sorted(changed)
        ],
    )


def beyond(usage: Usage, spent: Usage) -> dict[str, Tokens]:
    """What `usage` has more than `spent`, by model; without the models of which it has nothing more.

    Empty when the two do not name the same models: a model under two names would be counted twice.
    """
    names = {_plain(model): model for model in spent}
    if not names.keys() <= {_plain(model) for model in usage}:
        return {}
    left = {}
    for model, tokens in usage.items():
        known = spent.get(names.get(_plain(model), ""), _NOTHING)
        more = _difference(tokens, known)
        if any(more):
            left[names.get(_plain(model), model)] = more
    return left


def _holder(connection: Connection, run: EndedRun) -> Holder:
    select = "SELECT agent_type, workflow, workspace FROM tasks WHERE task_id = ?"
    agent_type, workflow, workspace = connection.execute(select, (run.task_id,)).fetchone() or (None, None, None)
    values = (
        run.path, run.session_uuid, agent_type or "", run.task_id, workflow, workspace or "", run.started_at,
        run.finished_at,
    )  # fmt: skip
    transcript_id, began_at, *context = connection.execute(_HOLDER, values).fetchone()
    session_uuid, stored_type, task_id, stored_workflow, project = context
    return Holder(
        transcript_id, began_at, run.path, Context(session_uuid, stored_type, task_id, stored_workflow, project)
    )


def _results(output: Path) -> Iterator[Mapping[str, object]]:
    with output.open("rb") as file:
        for line in iter(lambda: file.readline(_LONGEST), b""):
            if not _RESULT.search(line):
                continue
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict) and found.get("type") == "result":
                yield found


def _models(usage: object) -> dict[str, Tokens]:
    found: dict[str, Tokens] = {}
    for model, said in mapping(usage).items():
        numbers = (count(mapping(said).get(name)) for name in _FIELDS)
        one, two, three, written, searches = (number if number <= _LIMIT else 0 for number in numbers)
        hour = min(count(mapping(said).get(_HOUR)), written)
        found[model] = (one, two, three, written - hour, hour, searches)
    return found


def _sum(first: Tokens, second: Tokens) -> Tokens:
    one, two, three, four, five, six = (a + b for a, b in zip(first, second, strict=True))
    return one, two, three, four, five, six


def _difference(first: Tokens, second: Tokens) -> Tokens:
    one, two, three, _, hour, six = (max(a - b, 0) for a, b in zip(first, second, strict=True))
    # Together they are exact, also where the client does not tell them apart.
    written = max(first[3] + first[4] - second[3] - second[4], 0)
    hour = min(hour, written)
    return one, two, three, written - hour, hour, six


def _plain(model: str) -> str:
    """Without what the client adds to a model's name for itself: `[1m]`."""
    return model.partition("[")[0]
