"""Files: what the roll-ups say is what the accesses say, whatever is rolled up, and after accesses were deleted."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tasks.analytics import files
from tasks.rollups import DAY, HOUR, MINUTE

from .recorded import NOW, ROLLED, SESSIONS, Entry, Recorded, some_files

SPANS = (None, 0.05, 0.7, 1.234, 2.9)
ORDERS: tuple[files.Order, ...] = ("accesses", "rereads", "contended")


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


def begin(days: float | None) -> int:
    return 0 if days is None else NOW - round(days * DAY)


def judged(entries: list[Entry]) -> list[Entry]:
    """Each access with whether it is a reread, and whether another agent had changed the file around then."""
    read: set[tuple[Any, ...]] = set()
    changed: list[Entry] = []
    for one in entries:
        who = (one["session"], one["agent"])
        one["reread"] = one["action"] == "read" and (one["path"], *who) in read
        one["contended"] = one["action"] != "read" and any(
            other["path"] == one["path"]
            and (other["session"], other["agent"]) != who
            and abs(other["timestamp"] - one["timestamp"]) <= 30 * MINUTE
            for other in changed
        )
        if one["action"] == "read":
            read.add((one["path"], *who))
        else:
            changed.append(one)
    return entries


def ranking(entries: list[Entry], order: files.Order, limit: int) -> list[tuple[Any, ...]]:
    """(path, accesses, reads, rereads, writes, edits, contended), as FileUse has them."""
    sums: dict[str, Counter[str]] = {}
    for one in entries:
        of = sums.setdefault(one["path"], Counter())
        of.update(("accesses", one["action"], *(name for name in ("reread", "contended") if one[name])))
    rows: list[tuple[Any, ...]] = [
        (path, of["accesses"], of["read"], of["reread"], of["write"], of["edit"], of["contended"])
        for path, of in sums.items()
    ]
    at = {"accesses": 1, "rereads": 3, "contended": 6}[order]
    return sorted((row for row in rows if row[at]), key=lambda row: (-row[at], row[0]))[:limit]


@pytest.mark.parametrize("rolled", ROLLED)
@pytest.mark.parametrize("days", SPANS)
@pytest.mark.parametrize("limit", [3, 50])
def test_files_are_ranked_as_their_accesses_say(
    recorded: Recorded, rolled: str, days: float | None, limit: int
) -> None:
    entries = some_files(limit + round((days or 0) * 10), 1500 if rolled == "by_itself" else 500)
    recorded.files(entries, ROLLED[rolled])
    since = begin(days)
    inside = [one for one in judged(entries) if one["timestamp"] >= since]
    assert any(one["reread"] for one in inside)
    assert any(one["contended"] for one in inside)
    for order in ORDERS:
        found = files.file_use(recorded.query, since=since, order=order, limit=limit)
        assert [tuple(one.values()) for one in found] == ranking(inside, order, limit), order
        project = files.file_use(recorded.query, since=since, order=order, limit=limit, project="/srv/one/")
        expected = [one for one in inside if one["path"].startswith("/srv/one/")]
        assert [tuple(one.values()) for one in project] == ranking(expected, order, limit), order


@pytest.mark.parametrize("favourites", [0, 5], ids=["flat", "steep"])
def test_the_first_few_are_found_among_many_files(
    recorded: Recorded, favourites: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the whole are not always among the first few of each slot; then everything is looked at."""
    entries = [
        {"timestamp": NOW - day * DAY - file, "path": f"/srv/{file:03}", "action": "read", "session": SESSIONS[0],
         "agent": None, "tool_use_id": f"t{day}-{file}-{again}"}
        for day in range(6) for file in range(150)
        for again in range(9 if file < favourites else 1 + (file * 7 + day) % 2)
    ]  # fmt: skip
    recorded.files(entries, 1.0)
    settled = []
    ranked = files._ranked

    def noted(*arguments: Any) -> Any:
        found = ranked(*arguments)
        settled.append(found is not None)
        return found

    monkeypatch.setattr(files, "_ranked", noted)
    found = files.file_use(recorded.query, since=0, limit=3)
    assert [tuple(one.values()) for one in found] == ranking(judged(entries), "accesses", 3)
    assert settled == [favourites > 0]


@pytest.mark.parametrize("rolled", ["rolled", "half"])
def test_what_was_read_before_counts_after_it_was_deleted(recorded: Recorded, rolled: str) -> None:
    entries = sorted(some_files(5, 800), key=lambda one: one["timestamp"])
    recorded.files(entries, ROLLED[rolled])
    judged(entries)
    border = entries[300]["timestamp"] // HOUR * HOUR
    recorded.write(f"DELETE FROM files WHERE timestamp < {border}")
    since = border + HOUR + 123_456
    for order in ORDERS:
        found = files.file_use(recorded.query, since=since, order=order)
        assert [tuple(one.values()) for one in found] == ranking(
            [one for one in entries if one["timestamp"] >= since], order, 50
        )
    # Where they were deleted, the first hour counts whole.
    found = files.file_use(recorded.query, since=border - 2 * HOUR + 1)
    assert [tuple(one.values()) for one in found] == ranking(
        [one for one in entries if one["timestamp"] >= border - 2 * HOUR], "accesses", 50
    )


@pytest.mark.parametrize("rolled", ROLLED)
def test_contended_files_name_those_that_changed_them_last(recorded: Recorded, rolled: str) -> None:
    entries = some_files(6, 1500)
    recorded.files(entries, ROLLED[rolled])
    since = begin(1.7)
    inside = [one for one in judged(entries) if one["timestamp"] >= since]
    found = files.contended_files(recorded.query, since=since, limit=4)
    assert [one["path"] for one in found] == [row[0] for row in ranking(inside, "contended", 4)]
    for one in found:
        by: dict[tuple[str, str | None], list[Entry]] = {}
        for entry in entries:
            if entry["path"] == one["path"] and entry["action"] != "read":
                by.setdefault((entry["session"], entry["agent"]), []).append(entry)
        expected = {
            who: (
                sum(entry["action"] == "write" for entry in some),
                sum(entry["action"] == "edit" for entry in some),
                max(entry["timestamp"] for entry in some),
            )
            for who, some in by.items()
        }
        agents = one["agents"]
        assert {
            (agent["session_uuid"], agent["agent_id"]): (agent["writes"], agent["edits"], agent["edited_at"])
            for agent in agents
        } == {who: of for who, of in expected.items() if of[2] >= since}
        assert [agent["edited_at"] for agent in agents] == sorted((a["edited_at"] for a in agents), reverse=True)


@pytest.mark.parametrize("rolled", ROLLED)
def test_files_of_a_session_are_all_that_its_agents_touched(recorded: Recorded, rolled: str) -> None:
    entries = some_files(7, 1500)
    recorded.files(entries, ROLLED[rolled])
    of: dict[tuple[str, str | None], list[Entry]] = {}
    for one in entries:
        if one["session"] == SESSIONS[1]:
            of.setdefault((one["path"], one["agent"]), []).append(one)
    found = files.session_files(recorded.query, SESSIONS[1])
    assert {(one["path"], one["agent_id"]): tuple(one.values())[2:] for one in found} == {
        key: (
            *(sum(one["action"] == action for one in some) for action in ("read", "write", "edit")),
            min(one["timestamp"] for one in some),
            max(one["timestamp"] for one in some),
            max((one["timestamp"] for one in some if one["action"] != "read"), default=None),
        )
        for key, some in of.items()
    }
    assert len(files.session_files(recorded.query, SESSIONS[1], limit=2)) == 2


def test_what_is_rolled_up_while_it_is_asked_counts_once(recorded: Recorded) -> None:
    entries = some_files(8)
    recorded.files(entries, 0.0)
    asked: list[bool] = []

    def query(statement: str, parameters: Any) -> Any:
        found = recorded.query(statement, parameters)
        if statement == files._LOOSE and not asked:
            recorded.write("INSERT INTO rolling_files (upto) VALUES (500)")
            asked.append(True)
        return found

    found = files.file_use(query, since=0)
    assert [tuple(one.values()) for one in found] == ranking(judged(entries), "accesses", 50)
