"""Everything that is stored, as tables for other programs, read in pages: neither memory nor the write-ahead log grows."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tasks.database import Row

Query = Callable[[str, Mapping[str, Any]], list[Row]]

#: Rows read at once.
PAGE = 5_000
_FOREVER = (1 << 63) - 1


class Kind(StrEnum):
    """What a column holds. NULL is possible everywhere."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    #: whole milliseconds since 1970-01-01 UTC
    TIME = "time"
    #: text that is JSON
    JSON = "json"
    #: 0 or 1
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Dataset:
    """A table to export. Rows come in the order of `key`; the columns are those of `columns`, in their order."""

    name: str
    #: name → (SQL expression, kind)
    columns: Mapping[str, tuple[str, Kind]]
    source: str
    #: unique SQL expression that the rows are read along …
    key: str
    #: … and what is below every one of it
    first: int | str
    #: SQL expression of the time that `since` and `until` are about
    time: str

    def pages(self, query: Query, *, since: int | None = None, until: int | None = None) -> Iterator[list[Row]]:
        """The rows with `since` <= time < `until` (epoch milliseconds), page by page."""
        expressions = ", ".join(expression for expression, _ in self.columns.values())
        # No transaction spans two pages: what is written meanwhile may be in later ones.
        statement = (
            f"SELECT {self.key}, {expressions} FROM {self.source} WHERE {self.key} > :after"
            f" AND +{self.time} >= :since AND +{self.time} < :until ORDER BY {self.key} LIMIT {PAGE}"
        )
        span = {"since": 0 if since is None else since, "until": _FOREVER if until is None else until}
        after: Any = self.first
        while rows := query(statement, {"after": after, **span}):
            after = rows[-1][0]
            yield [row[1:] for row in rows]


def _texts(*names: str, table: str = "") -> dict[str, tuple[str, Kind]]:
    return {name: (f"{table}{name}", Kind.TEXT) for name in names}


def _of(kind: Kind, *names: str, table: str = "") -> dict[str, tuple[str, Kind]]:
    return {name: (f"{table}{name}", kind) for name in names}


_TOKENS = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "web_searches",
)  # fmt: skip

DATASETS: Mapping[str, Dataset] = {
    one.name: one
    for one in (
        Dataset(
            "calls",
            _of(Kind.INTEGER, "id")
            | _of(Kind.TIME, "timestamp")
            | _texts("session_uuid", "task_id", "agent_id", "agent_type", "prompt_id", "tool_use_id", "tool_name")
            | _of(Kind.JSON, "parameters")
            | _of(Kind.FLAG, "success")
            | _texts("error", "error_category", "fingerprint")
            | _of(Kind.NUMBER, "duration_ms")
            | _of(Kind.INTEGER, "tokens")
            | _texts("screenshot_path", "background", "source", "model"),
            "tool_usage",
            "id",
            0,
            "timestamp",
        ),
        Dataset(
            "messages",
            _texts("message_id", table="m.")
            | _of(Kind.TIME, "timestamp", table="m.")
            | _texts("session_uuid", "agent_id", "agent_type", "task_id", "workflow", "project", table="t.")
            | _texts("prompt_id", "model", table="m.")
            | _of(Kind.INTEGER, *_TOKENS, table="m.")
            | _texts("modifiers", table="m.")
            | {"cost_usd": ("m.cost / 1e12", Kind.NUMBER), "price_source": ("p.source", Kind.TEXT)},
            "messages AS m JOIN transcripts AS t USING (transcript_id) LEFT JOIN prices AS p USING (price_id)",
            "m.message_id",
            "",
            "m.timestamp",
        ),
        Dataset(
            "sessions",
            _texts("session_uuid", "task_id", "status")
            | _of(Kind.TIME, "status_since")
            | _texts(
                "status_detail", "origin", "parent_uuid", "cwd", "transcript_path", "model", "permission_mode", "host"
            )
            | _of(Kind.INTEGER, "pid")
            | _of(Kind.TIME, "started_at", "last_event_at", "ended_at")
            | _texts("end_reason")
            | _of(Kind.INTEGER, "events", "prompts"),
            "sessions",
            "session_uuid",
            "",
            "last_event_at",
        ),
        Dataset(
            "tasks",
            _texts("task_id")
            | _of(Kind.INTEGER, "user_id")
            | _texts("description", "status")
            | {"priority": ("CASE priority WHEN 0 THEN 'high' WHEN 1 THEN 'normal' ELSE 'low' END", Kind.TEXT)}
            | _texts("agent_type", "workflow", "model", "workspace")
            | _of(Kind.INTEGER, "attempt")
            | _texts("session_uuid", "branch", "base_branch", "base_commit")
            | _of(Kind.INTEGER, "commits")
            | _texts("merge_state", "merge_detail", "merge_commit", "result", "error", "failure")
            | _of(Kind.INTEGER, "turns", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
            | {"reported_cost_usd": ("cost_usd", Kind.NUMBER)}
            | _of(Kind.JSON, "activity_log")
            | _of(Kind.TIME, "created_at", "started_at", "finished_at"),
            "tasks",
            "task_id",
            "",
            "created_at",
        ),
        Dataset(
            "files",
            _of(Kind.INTEGER, "id")
            | _of(Kind.TIME, "timestamp")
            | _texts("path", "action", "session_uuid", "task_id", "agent_id", "tool_use_id"),
            "files",
            "id",
            0,
            "timestamp",
        ),
        Dataset(
            "status",
            _of(Kind.INTEGER, "id")
            | _of(Kind.TIME, "timestamp")
            | _texts("session_uuid", "task_id", "agent_id", "status", "previous", "cause", "detail"),
            "agent_status",
            "id",
            0,
            "timestamp",
        ),
        Dataset(
            "events",
            _of(Kind.INTEGER, "seq")
            | _of(Kind.TIME, "timestamp")
            | _texts("session_uuid", "kind", "task_id", "agent_id", "prompt_id", "tool_name", "tool_use_id")
            | _of(Kind.INTEGER, "pid")
            | _texts("flags")
            | _of(Kind.JSON, "body"),
            "events",
            "seq",
            0,
            "timestamp",
        ),
    )
}
