"""The page of `tasksd status`. `now` and all times are epoch milliseconds."""

from __future__ import annotations

from tasks.cli.page import BAD, FAINT, GOOD, NOTICE, Cell, Facts
from tasks.cli.views import OVER, STATUS_TONES, reported
from tasks.text import ago, count, moment, size, span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from tasks.cli.page import Block

    Record = Mapping[str, Any]

#: Seconds for which an event may wait in the spool before that deserves attention.
LATE = 10.0


def status(answer: Record, now: int) -> list[Block]:
    facts = Facts()
    daemon, spool, ingest = answer["daemon"], answer["spool"], answer["ingest"]
    if daemon is None:
        facts.add("daemon", Cell(answer["watcher"], BAD))
    else:
        facts.add(
            "daemon",
            Cell("running", GOOD),
            f", pid {daemon['pid']}, version {daemon['version']}, up {span(daemon['uptime_s'])}",
        )
        facts.add("data", f"{daemon['data_dir']} (privacy: {daemon['privacy']})")
    facts.add("spool", *_waiting(spool))
    facts.add("dropped", Cell(count(spool["dropped"], "event"), BAD if spool["dropped"] else ""))
    facts.add("quarantined", Cell(count(spool["quarantined"], "file"), NOTICE if spool["quarantined"] else ""))
    if ingest is not None:
        duplicates = f", {count(ingest['duplicates'], 'duplicate')} ignored" if ingest["duplicates"] else ""
        facts.add("events", f"{ingest['events_total']:,} stored{duplicates}")
        last = ingest["last_event_at"]
        facts.add("last event", f"{moment(last)} ({ago(last, now)})" if last is not None else Cell("none yet", NOTICE))
        if ingest["degraded"]:
            facts.add("ingest", Cell(f"waiting: {ingest['degraded']}", BAD))
        elif daemon is not None:
            facts.add("ingest", Cell("ok", GOOD))
    facts.add("sessions", *_session_counts(answer["sessions"]))
    if answer["pool"] is not None:
        facts.add("pool", *pool_line(answer["pool"], now))
    if answer["tasks"] is not None:
        facts.add("tasks", *_task_counts(answer["tasks"]))
    if accounting := answer.get("accounting"):  # an older daemon that still runs does not tell
        facts.add("transcripts", *_accounting(accounting))
    if daemon is not None:
        watcher = answer["watcher"]
        facts.add("watcher", Cell(watcher, "" if watcher in ("watching", "starting") else NOTICE))
        if web := answer.get("web"):
            facts.add("page", _page(web))
    return [facts]


def _page(web: str) -> Cell:
    if web == "off":
        return Cell("off (web.enabled)", FAINT)
    return Cell(f"{web}, `tasksd dashboard` opens it") if web.startswith("http") else Cell(web, BAD)


def _accounting(accounting: Record) -> list[Cell | str]:
    if accounting["degraded"]:
        return [Cell(f"waiting: {accounting['degraded']}", BAD)]
    said: list[Cell | str] = []
    if accounting["transcripts"]:
        behind = f" ({size(accounting['behind_bytes'])} to read)" if accounting["behind_bytes"] else ""
        said.append(f"{count(accounting['transcripts'], 'file')} followed{behind}; ")
    said.append(count(accounting["messages"], "message"))
    if accounting["unpriced"]:
        said.append(Cell(f", {accounting['unpriced']:,} unpriced", NOTICE))
    if accounting["expected"]:
        said += ["; last 7 days: ", *reported(accounting)]
    return said


def _waiting(spool: Record) -> list[Cell]:
    first = [Cell("FULL, hooks drop events; ", BAD)] if spool["full"] else []
    if not spool["pending"]:
        return [*first, Cell("nothing waiting")]
    oldest = spool["oldest_age_s"] or 0.0
    text = f"{count(spool['pending'], 'event')} waiting ({size(spool['bytes'])}), the oldest for {span(oldest)}"
    return [*first, Cell(text, BAD if oldest > LATE else "")]


def _session_counts(counts: Mapping[str, int]) -> list[Cell]:
    permission, typed = counts.get("waiting_permission", 0), counts.get("waiting_input", 0)
    pieces = []
    if permission or typed:
        kinds = [f"{permission} for a permission"] * bool(permission) + [f"{typed} for an answer"] * bool(typed)
        pieces.append(Cell(f"{permission + typed} waiting for a person ({', '.join(kinds)})", NOTICE))
    shown = [name for name in counts if counts[name] and not name.startswith("waiting_")]
    pieces += [Cell(f"{counts[name]} {name}", STATUS_TONES.get(name, "")) for name in shown if name not in OVER]
    if not pieces:
        pieces.append(Cell("none live"))
    over = [Cell(f"{counts[name]} {name}", STATUS_TONES[name]) for name in shown if name in OVER]
    line = _joined(pieces)
    return [*line, Cell("; last 24 hours: "), *_joined(over)] if over else line


def _joined(pieces: Sequence[Cell]) -> list[Cell]:
    return [part for piece in pieces for part in (Cell(", "), piece)][1:]


def pool_line(pool: Record, now: int) -> list[Cell]:
    """How busy it is, and why nothing is started."""
    cells = []
    if pool["paused"]:
        cells += [Cell("paused", NOTICE), Cell("; ")]
    if pool["hold_reason"]:
        until = pool["hold_until"]
        when = f" until {moment(until)} (in {span((until - now) / 1000)})" if until and until > now else ""
        cells += [Cell(f"held{when}: {pool['hold_reason']}", NOTICE), Cell("; ")]
    waiting = f"{pool['queued_tasks']:,} waiting"
    full = pool["queued_tasks"] >= pool["queue_size"]
    return [
        *cells,
        Cell(f"{pool['active_workers']} of {pool['total_workers']} busy, "),
        Cell(f"{waiting}, which is all that may wait" if full else waiting, NOTICE if full else ""),
    ]


def _task_counts(counts: Record) -> list[Cell]:
    merges, statuses, conflicts = counts["merges"], counts["statuses"], counts["conflicts"]
    pieces = []
    if merges["conflict"]:
        named = f"tasksd show {conflicts[0]}" if len(conflicts) == 1 else " ".join(conflicts)
        more = " …" if merges["conflict"] > len(conflicts) else ""
        pieces.append(Cell(f"{count(merges['conflict'], 'merge conflict')} ({named}{more})", NOTICE))
    if merges["waiting"]:
        pieces.append(Cell(f"{count(merges['waiting'], 'merge')} waiting", NOTICE))
    pieces += [Cell(count(merges["merging"], "merge") + " under way")] * bool(merges["merging"])
    pieces += [Cell(f"{count(merges['kept'], 'branch', 'branches')} kept", NOTICE)] * bool(merges["kept"])
    for name in ("running", "queued", "pending"):
        pieces += [Cell(f"{statuses[name]:,} {name}", GOOD if name == "running" else "")] * bool(statuses[name])
        if name == "queued" and counts["held"]:
            pieces[-1:] = [Cell(f"{statuses[name]:,} queued ({counts['held']:,} held)", NOTICE)]
    line = _joined(pieces or [Cell("none at work")])
    tones = {"completed": "", "failed": BAD, "stopped": FAINT}
    over = [Cell(f"{statuses[name]:,} {name}", tone) for name, tone in tones.items() if statuses[name]]
    return [*line, Cell("; last 24 hours: "), *_joined(over)] if over else line
