"""Turns the answers of the API into pages. `now` and all times are epoch milliseconds."""

from __future__ import annotations

from tasks.cli.page import BAD, FAINT, GOOD, NOTICE, STRONG, Cell, Column, Facts, Table
from tasks.text import ago, count, milliseconds, moment, size, spelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from tasks.cli.page import Block

    Record = Mapping[str, Any]

STATUS_TONES = {
    "waiting_permission": NOTICE,
    "waiting_input": NOTICE,
    "working": GOOD,
    "failed": BAD,
    "lost": BAD,
    "ended": FAINT,
}
OVER = ("ended", "failed", "lost")

#: Between the columns of a line that stands alone.
GAP = Cell("  ")


def sessions(answer: Sequence[Record], now: int) -> list[Block]:
    columns = [
        Column("session"), Column("status"), Column("since"), Column("doing", flexible=True),
        Column("folder", flexible=True), Column("task", optional=True), Column("pid", right=True, optional=True),
        Column("events", right=True, optional=True), Column("prompts", right=True, optional=True), Column("last event"),
    ]  # fmt: skip
    table = Table("", columns, "no sessions")
    for one in answer:
        pid = "-" if one["pid"] is None or one["status"] in OVER else one["pid"]
        table.add(
            short_id(one["session_uuid"]), _status(one["status"]), when(one["status_since"], now), _doing(one),
            folder(one["cwd"]), one["task_id"] or "-", pid, one["events"], one["prompts"],
            when(one["last_event_at"], now),
        )  # fmt: skip
    return [table]


def folder(path: str | None) -> Cell:
    """The whole path; where room is short its end, which tells projects apart."""
    if not path:
        return Cell("-")
    short = "/".join(path.rsplit("/", 2)[-2:])
    return Cell(path, short=path if path.count("/") < 3 else f"…/{short}")


def session(answer: Record, now: int) -> list[Block]:
    facts = Facts()
    facts.add("session", Cell(answer["session_uuid"], STRONG))
    facts.add(
        "status",
        _status(answer["status"]),
        f" since {moment(answer['status_since'])} ({ago(answer['status_since'], now)})",
    )
    for label, key in (
        ("detail", "status_detail"), ("task", "task_id"), ("origin", "origin"), ("parent", "parent_uuid"),
        ("folder", "cwd"), ("model", "model"), ("pid", "pid"), ("end reason", "end_reason"),
    ):  # fmt: skip
        if answer[key] is not None:
            facts.add(label, str(answer[key]))
    for label, key in (("started", "started_at"), ("last event", "last_event_at"), ("ended", "ended_at")):
        if answer[key] is not None:
            facts.add(label, f"{moment(answer[key])} ({ago(answer[key], now)})")
    facts.add("events", f"{answer['events']:,}, {count(answer['prompts'], 'prompt')}")
    if answer["expected"]:
        facts.add("transcript", *reported(answer))
    if answer["spent"]["messages"]:
        facts.add("cost", spent(answer["spent"]))
    tables = (_calls(answer), _running(answer, now), _subagents(answer, now), _changes(answer))
    return [facts, *(table for table in tables if table.rows)]


def reported(answer: Record) -> list[Cell | str]:
    """How many of the calls that transcripts told of were reported by hooks."""
    said: list[Cell | str] = [f"{count(answer['expected'], 'call')}, {answer['seen']:,} reported by hooks"]
    return [*said, Cell(f", {answer['added']:,} added", NOTICE)] if answer["added"] else said


def spent(one: Record) -> str:
    """The money of a session or a task."""
    from tasks.cli.costviews import money

    tokens = [
        f"{one[key]:,} tokens {label}"
        for label, key in (("in", "input_tokens"), ("out", "output_tokens"), ("from cache", "cache_read_tokens"))
    ]
    written = one["cache_write_5m_tokens"] + one["cache_write_1h_tokens"]
    return ", ".join([money(one), count(one["messages"], "answer"), *tokens, f"{written:,} to it"])


def _calls(answer: Record) -> Table:
    table = Table("calls", [Column("tool"), Column("calls", right=True), Column("failed", right=True)], "")
    for tool, (total, failed) in answer["calls"].items():
        table.add(tool, total, Cell(failed, BAD if failed else ""))
    return table


def _running(answer: Record, now: int) -> Table:
    columns = [Column("tool"), Column("since"), Column("agent"), Column("parameters", flexible=True)]
    table = Table("running", columns, "")
    for call in answer["running"]:
        table.add(call["tool_name"], when(call["started_at"], now), call["agent_id"] or "-", call["parameters"] or "-")
    return table


def _subagents(answer: Record, now: int) -> Table:
    columns = [
        Column("agent"), Column("type"), Column("status"), Column("started"), Column("ended"),
        Column("detail", flexible=True),
    ]  # fmt: skip
    table = Table("subagents", columns, "")
    for agent in answer["subagents"]:
        table.add(
            agent["agent_id"], agent["agent_type"] or "-", _status(agent["status"]), when(agent["started_at"], now),
            when(agent["ended_at"], now), agent["detail"] or "-",
        )  # fmt: skip
    return table


def _changes(answer: Record) -> Table:
    columns = [
        Column("time"), Column("agent"), Column("status"), Column("before"), Column("cause"),
        Column("detail", flexible=True),
    ]  # fmt: skip
    table = Table("changes of status", columns, "")
    for change in answer["changes"]:
        table.add(
            moment(change["timestamp"]), change["agent_id"] or "-", _status(change["status"]), words(change["previous"]),
            change["cause"], change["detail"] or "-",
        )  # fmt: skip
    return table


def tools(answer: Mapping[str, Record], hours: str) -> list[Block]:
    columns = [
        Column("tool", wraps=True), Column("calls", right=True), Column("success", right=True),
        Column("average", right=True, optional=True), Column("median", right=True, optional=True),
        Column("95 %", right=True, optional=True), Column("longest", right=True, optional=True),
        Column("errors", flexible=True),
    ]  # fmt: skip
    table = Table("", columns, f"no calls in the last {hours} {'hour' if hours == '1' else 'hours'}")
    for tool, one in answer.items():
        rate = one["success_rate"]
        errors = ", ".join(f"{category} {number}" for category, number in one["errors"].items())
        durations = [milliseconds(one[f"{key}_duration_ms"]) for key in ("avg", "p50", "p95", "max")]
        # Rounding must not make a tool that fails look as if it never did.
        percent = f"{rate:.1%}" if rate in (0, 1) else f"{min(max(rate, 0.001), 0.999):.1%}"
        tone = GOOD if rate == 1 else NOTICE if rate >= 0.5 else BAD
        table.add(tool, f"{one['count']:,}", Cell(percent, tone), *durations, errors or "-")
    return [table]


def errors(answer: Mapping[str, int], days: str) -> list[Block]:
    columns = [Column("category"), Column("calls", right=True)]
    table = Table("", columns, f"no failed calls in the last {days} {'day' if days == '1' else 'days'}")
    for category, number in answer.items():
        table.add(category, f"{number:,}")
    return [table]


def failures(answer: Sequence[Record], now: int) -> list[Block]:
    columns = [
        Column("time"), Column("session"), Column("tool", flexible=True), Column("category"),
        Column("error", flexible=True), Column("parameters", flexible=True, optional=True),
    ]  # fmt: skip
    table = Table("", columns, "no failed calls")
    for one in answer:
        table.add(
            when(one["timestamp"], now), short_id(one["session_uuid"]), one["tool_name"], Cell(one["error_category"], BAD),
            _unwrapped(one["error"]), one["parameters"] or "-",
        )  # fmt: skip
    return [table]


def events(answer: Sequence[Record]) -> list[Block]:
    columns = [
        Column("number", right=True), Column("time"), Column("event"), Column("session"),
        Column("agent", optional=True), Column("tool"), Column("details", flexible=True),
    ]  # fmt: skip
    table = Table("", columns, "no events")
    for one in answer:
        table.add(*event(one))
    return [table]


def event(one: Record) -> list[Cell]:
    """The columns of one event."""
    return [
        Cell(one["seq"], FAINT),
        Cell(moment(one["timestamp"]), short=moment(one["timestamp"])[11:]),
        Cell(one["kind"], BAD if "Fail" in one["kind"] else STRONG),
        short_id(one["session_uuid"]),
        short_id(one["agent_id"]),
        Cell(one["tool_name"] or "-"),
        Cell(_details(one)),
    ]


#: What says most about a call, by the name of its parameter; and about an event, by the name of its field.
_TELLING = ("command", "file_path", "notebook_path", "pattern", "url", "query", "description", "prompt")
_SPEAKING = ("prompt", "last_assistant_message", "message", "error", "reason", "source")
_SPOKEN = ("prompt", "last_assistant_message", "message")
#: True of most events, and so of no help.
_SILENT = (
    "effort",
    "agent_type",
    "stop_hook_active",
    "background_tasks",
    "session_crons",
    "is_interrupt",
    "tool_response",
)


def _details(one: Record) -> str:
    """What was done, or went wrong, or was said; else the fields of the event."""
    if one["error_category"]:
        return f"{one['error_category']}: {_unwrapped(one['error'])}"
    parameters = one["parameters"]
    if isinstance(parameters, dict):
        return next((str(parameters[name]) for name in _TELLING if parameters.get(name)), spelled(parameters))
    body = one["body"] or {}
    names = [name for name in _SPEAKING if name in body]
    if names and names[0] in _SPOKEN and isinstance(body[names[0]], str):
        return str(body[names[0]])
    names += [name for name in body if name not in _SPEAKING and name not in _SILENT]
    return " ".join(f"{name}={_spelled(body[name])}" for name in names) or "-"


def _spelled(value: object) -> str:
    return value if isinstance(value, str) else spelled(value)


def _unwrapped(error: str | None) -> str:
    """An error without the tags that the client puts around it for the model."""
    return (error or "-").removeprefix("<tool_use_error>").removesuffix("</tool_use_error>")


def quarantined(answer: Sequence[Record], now: int) -> list[Block]:
    columns = [
        Column("id"), Column("since", optional=True), Column("reason"), Column("size", right=True, optional=True),
        Column("name", optional=True), Column("detail", flexible=True),
    ]  # fmt: skip
    table = Table("", columns, "nothing is quarantined")
    for one in answer:
        table.add(
            one["id"], when(one["quarantined_at"], now), Cell(one["reason"], NOTICE), size(one["size"]), one["name"],
            one["detail"] or "-",
        )  # fmt: skip
    return [table]


def short_id(id_: str | None) -> Cell:
    return Cell(id_ or "-", short=(id_ or "-")[:8])


def _status(word: str) -> Cell:
    return Cell(words(word), STATUS_TONES.get(word, ""))


def words(word: str | None) -> str:
    return word.replace("_", " ") if word else "-"


def when(then: int | None, now: int) -> Cell:
    return Cell("-") if then is None else Cell(moment(then), short=ago(then, now))


def _doing(one: Record) -> str:
    running = ", ".join(f"{call['tool_name']} {call['parameters'] or ''}".strip() for call in one["running"])
    return running or ("-" if one["status"] in OVER else one["status_detail"]) or "-"
