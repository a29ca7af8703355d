"""What the agents cost, against sums over the messages themselves."""

import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tasks.analytics import AnalyticsDB
from tasks.analytics.costs import costs_by, daily_costs
from tasks.analytics.days import QUARTER, find_zone, local_days, period, today
from tasks.database import Reader, SyncDatabase, Write
from tasks.errors import ConfigError
from tasks.rollups import HOUR, MINUTE
from tasks.words import CostDimension

from .money import Run, Spent, fill

#: Zone → a local day with a change of clocks, or an ordinary one.
ZONES = {
    "UTC": date(2026, 3, 29),
    "Asia/Kathmandu": date(2026, 3, 29),
    "Asia/Kolkata": date(2025, 12, 31),
    "America/St_Johns": date(2026, 3, 8),
    "Europe/Paris": date(2026, 3, 29),
    "Pacific/Apia": date(2011, 12, 31),
    "America/Nuuk": date(2026, 3, 28),
    "Africa/Cairo": date(2026, 4, 24),
    "Australia/Lord_Howe": date(2026, 4, 5),
    "America/Havana": date(2026, 11, 1),
    "Asia/Beirut": date(2026, 10, 25),
}
TOKENS = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "web_searches"
)  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TASKSD_DATA_DIR", "TASKSD_CONFIG", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "TASKSD_COSTS_ZONE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TZ", "UTC")


@pytest.fixture
def analytics(tmp_path: Path) -> Iterator[AnalyticsDB]:
    fill(tmp_path, [])
    made = AnalyticsDB(tmp_path)
    yield made
    made.close()


def ms(zone: str, *parts: int) -> int:
    return round(datetime(*parts, tzinfo=ZoneInfo(zone)).timestamp() * 1000)  # type: ignore[misc, arg-type]


def local_date(timestamp: int, zone: str) -> str:
    return datetime.fromtimestamp(timestamp / 1000, ZoneInfo(zone)).date().isoformat()


def expected(messages: list[Spent]) -> dict[str, Any]:
    sums = {name: sum(getattr(one, name) for one in messages) for name in TOKENS}
    return sums | {
        "messages": len(messages), "unpriced": sum(not one.priced for one in messages),
        "cost": sum(one.cost or 0 for one in messages) / 10**12,
        "cache_write_tokens": sums["cache_write_5m_tokens"] + sums["cache_write_1h_tokens"],
    }  # fmt: skip


def figures(row: Any) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name in expected([])}


# Days.


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [("Europe/Paris", date(2026, 3, 29), 23), ("Europe/Paris", date(2026, 10, 25), 25),
     ("Europe/Paris", date(2026, 7, 1), 24), ("America/St_Johns", date(2026, 3, 8), 23),
     ("America/St_Johns", date(2026, 11, 1), 25), ("Asia/Kathmandu", date(2026, 3, 29), 24),
     ("Australia/Lord_Howe", date(2026, 4, 5), 24.5), ("America/Nuuk", date(2026, 3, 28), 23),
     ("Africa/Cairo", date(2026, 4, 24), 23), ("America/Havana", date(2026, 11, 1), 25)],
)  # fmt: skip
def test_a_day_is_as_long_as_its_clocks_say(zone: str, day: date, hours: float) -> None:
    (found,) = local_days(day, day, ZoneInfo(zone))
    assert (found.end - found.start) / HOUR == hours


def test_a_day_that_a_zone_skipped_is_none() -> None:
    days = local_days(date(2011, 12, 28), date(2012, 1, 1), ZoneInfo("Pacific/Apia"))
    assert [day.date.day for day in days] == [28, 29, 31, 1]
    assert all(day.end - day.start == 24 * HOUR for day in days)


@pytest.mark.parametrize("zone", sorted(ZONES))
def test_every_quarter_hour_is_of_the_day_that_its_clock_shows(zone: str) -> None:
    middle = ZONES[zone]
    days = local_days(middle - timedelta(days=3), middle + timedelta(days=3), ZoneInfo(zone))
    assert all(before.end == after.start for before, after in pairwise(days))
    for day in days:
        assert {today(ZoneInfo(zone), at) for at in (*range(day.start, day.end, QUARTER), day.end - 1)} == {day.date}


def test_a_day_whose_midnight_the_clocks_jumped_over_begins_where_they_land() -> None:
    toronto = ZoneInfo("America/Toronto")  # 23:30 was followed by 00:30
    before, after = local_days(date(1919, 3, 30), date(1919, 3, 31), toronto)
    assert datetime.fromtimestamp(after.start / 1000, toronto).isoformat() == "1919-03-31T00:30:00-04:00"
    assert (before.end - before.start, after.end - after.start) == (23.5 * HOUR, 23.5 * HOUR)


@pytest.mark.parametrize("name", ["Europe/Nowhere", "Europe", "../../etc/passwd", "x\0y", "zone.tab", "\udcff"])
def test_a_zone_that_there_is_not_is_named(name: str) -> None:
    with pytest.raises(ValueError, match="is no time zone"):
        find_zone(name)


@pytest.mark.parametrize(
    ("variable", "hours"),
    [("Asia/Kathmandu", 5.75), (":Asia/Kathmandu", 5.75), ("", 0), ("Nonsense", 0), ("XYZ-3", 3),
     ("CET-1CEST,M3.5.0,M10.5.0/3", 2), ("<+0545>-5:45", 5.75)],
)  # fmt: skip
def test_the_machines_zone_is_what_tz_says(variable: str, hours: float) -> None:
    zone = find_zone("", environ={"TZ": variable})
    assert datetime(2026, 7, 1, tzinfo=zone).utcoffset() == timedelta(hours=hours)


def test_without_tz_the_machines_zone_is_what_localtime_is(tmp_path: Path) -> None:
    kathmandu = tmp_path / "share/zoneinfo/Asia/Kathmandu"
    kathmandu.parent.mkdir(parents=True)
    kathmandu.touch()
    link = tmp_path / "localtime"
    link.symlink_to(kathmandu)
    assert find_zone("", environ={}, localtime=link).key == "Asia/Kathmandu"
    link.unlink()
    assert find_zone("", environ={}, localtime=link).key == "UTC"
    link.write_bytes(b"nonsense")
    assert find_zone("", environ={}, localtime=link).key == "UTC"
    # A copy, as containers have it: version 1, one kind of time, 5 h 45 min ahead.
    numbers = b"".join(number.to_bytes(4, "big") for number in (0, 0, 0, 0, 1, 4))
    link.write_bytes(b"TZif\0" + bytes(15) + numbers + (20_700).to_bytes(4, "big") + b"\0\0+05\0")
    assert datetime(2026, 7, 1, tzinfo=find_zone("", environ={}, localtime=link)).utcoffset() == timedelta(hours=5.75)


# Daily costs.


def test_the_example_of_the_specification_holds(tmp_path: Path) -> None:
    noon = ms("UTC", 2025, 10, 23, 12)
    fill(tmp_path, [Spent(noon), Spent(noon - 24 * HOUR)], [Run("a1", noon - 24 * HOUR), Run("a2", noon)])
    with time_machine.travel(noon / 1000, tick=False):
        analytics = AnalyticsDB(tmp_path)
        found = analytics.get_daily_costs(days=30)
        analytics.close()
    assert [one["date"] for one in found] == [
        (date(2025, 9, 24) + timedelta(days=number)).isoformat() for number in range(30)
    ]
    assert found[-1] == expected([Spent(noon)]) | {"date": "2025-10-23", "tasks": 1}
    assert found[0] == expected([]) | {"date": "2025-09-24", "tasks": 0}


def test_a_task_counts_on_the_day_of_its_first_run(tmp_path: Path) -> None:
    noon = ms("UTC", 2026, 5, 5, 12)
    runs = [Run("a", noon - 24 * HOUR), Run("a", noon, attempt=2), Run("b", noon), Run("c", noon - 12 * HOUR)]
    fill(tmp_path, [], runs)
    with time_machine.travel(noon / 1000, tick=False):
        analytics = AnalyticsDB(tmp_path)
        assert [one["tasks"] for one in analytics.get_daily_costs(days=2, zone="UTC")] == [1, 2]
        assert [one["tasks"] for one in analytics.get_daily_costs(days=2, zone="America/New_York")] == [2, 1]
        analytics.close()


@pytest.mark.parametrize("zone", sorted(ZONES))
def test_messages_at_the_borders_of_days_count_where_their_clock_says(tmp_path: Path, zone: str) -> None:
    middle = ZONES[zone]
    days = local_days(middle - timedelta(days=2), middle + timedelta(days=2), ZoneInfo(zone))
    times = [
        at for day in days for at in (day.start - 1, day.start, day.start + 1, day.start + QUARTER, day.end - QUARTER)
    ]
    messages = [Spent(at, output_tokens=number) for number, at in enumerate(times, 1)]
    fill(tmp_path, messages)
    reader = Reader(tmp_path / "tasks.db")
    chosen = period(ZoneInfo(zone), days[-1].end - 1, since=days[0].date, until=days[-1].date)
    found = daily_costs(reader.query, chosen)
    middle_three = period(ZoneInfo(zone), 0, since=days[1].date, until=days[-2].date)
    totals = [
        costs_by(reader.query, middle_three, by, limit=limit)["rows"]
        for by in (CostDimension.MODEL, CostDimension.PROJECT, CostDimension.SESSION) for limit in (None, 9)
    ]  # fmt: skip
    reader.close()
    inside = [one for one in messages if days[1].start <= one.timestamp < days[-1].start]
    assert [[figures(one) for one in rows] for rows in totals] == [[expected(inside)]] * 6
    assert {one["date"]: figures(one) for one in found} == {
        day.date.isoformat(): expected(
            [one for one in messages if local_date(one.timestamp, zone) == day.date.isoformat()]
        )
        for day in days
    }


#: From a week before a change of clocks on, in quarter hours and milliseconds beside their borders.
SPENT = st.builds(
    lambda quarter, beside, **fields: Spent(ms("UTC", 2026, 3, 20) + quarter * QUARTER + beside, **fields),
    st.integers(0, 40 * 96), st.sampled_from((-1, 0, 1)),
    model=st.sampled_from(("claude-sonnet-5", "claude-opus-5", "odd")),
    session_uuid=st.sampled_from(("s1", "s2", "s3")),
    task_id=st.sampled_from((None, "t1", "t2")),
    workflow=st.sampled_from((None, "w1")),
    agent_type=st.sampled_from(("", "Explore")),
    project=st.sampled_from(("", "/a", "/b")),
    input_tokens=st.integers(0, 10**6), cache_write_5m_tokens=st.integers(0, 10**5), web_searches=st.integers(0, 3),
    priced=st.booleans(),
)  # fmt: skip


@hypothesis_settings(max_examples=40)
@given(messages=st.lists(SPENT, max_size=40), data=st.data())
def test_sums_by_day_and_by_anything_else_are_those_of_the_messages(messages: list[Spent], data: st.DataObject) -> None:
    zone = data.draw(st.sampled_from(sorted(ZONES)))
    first = data.draw(st.dates(date(2026, 3, 18), date(2026, 5, 1)))
    last = data.draw(st.dates(first, date(2026, 5, 3)))
    by = data.draw(st.sampled_from([one for one in CostDimension if one is not CostDimension.DAY]))
    inside = [one for one in messages if first.isoformat() <= local_date(one.timestamp, zone) <= last.isoformat()]
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), messages)
        reader = Reader(Path(folder) / "tasks.db")
        chosen = period(ZoneInfo(zone), 0, since=first, until=last)
        daily, rows = daily_costs(reader.query, chosen), costs_by(reader.query, chosen, by)
        limited = costs_by(reader.query, chosen, by, limit=2)
        by_day = costs_by(reader.query, chosen, CostDimension.DAY)
        reader.close()
    dates = [(first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1)]
    assert [(one["date"], figures(one)) for one in daily] == [
        (day, expected([one for one in inside if local_date(one.timestamp, zone) == day])) for day in dates
    ]
    attribute = {"session": "session_uuid", "task": "task_id"}.get(by, str(by))
    values = {getattr(one, attribute) for one in inside} - {None}
    assert {one["value"]: figures(one) for one in rows["rows"]} == {
        value: expected([one for one in inside if getattr(one, attribute) == value]) for value in values
    }
    costs = [one["cost"] for one in rows["rows"]]
    assert costs == sorted(costs, reverse=True)
    assert limited == {**rows, "rows": rows["rows"][:2]}
    assert figures(rows["total"]) == figures(by_day["total"]) == expected(inside)
    assert (
        sorted(rows["unpriced_models"])
        == by_day["unpriced_models"]
        == sorted({m.model for m in inside if not m.priced})
    )
    assert [figures(one) for one in by_day["rows"]] == [figures(one) for one in daily]


# Costs by something.


def test_the_highest_cost_comes_first_and_a_limit_cuts_the_lowest(tmp_path: Path, analytics: AnalyticsDB) -> None:
    now = round(datetime.now(UTC).timestamp() * 1000)
    fill(tmp_path, [Spent(now, task_id=f"t{number}", output_tokens=1000 * number) for number in range(5)])
    assert [one["value"] for one in analytics.get_costs("task", limit=2)] == ["t4", "t3"]
    assert [one["value"] for one in analytics.get_costs("task")] == ["t4", "t3", "t2", "t1", "t0"]
    assert sum(one["share"] for one in analytics.get_costs("task")) == pytest.approx(1)


def test_of_costs_that_are_the_same_the_one_with_more_messages_comes_first(
    tmp_path: Path, analytics: AnalyticsDB
) -> None:
    now = round(datetime.now(UTC).timestamp() * 1000)
    fill(tmp_path, [Spent(now, task_id=task, priced=False) for task in ("a", "b", "b", "c")])
    assert [one["value"] for one in analytics.get_costs("task", limit=1)] == ["b"]
    assert [one["value"] for one in analytics.get_costs("task", limit=None)] == ["b", "a", "c"]


def test_tasks_are_told_by_their_description_and_sessions_by_their_folder(
    tmp_path: Path, analytics: AnalyticsDB
) -> None:
    now = round(datetime.now(UTC).timestamp() * 1000)
    fill(tmp_path, [Spent(now, task_id="t1"), Spent(now, task_id="gone")], tasks={"t1": "mend the roof"})
    assert {one["value"]: one["label"] for one in analytics.get_costs("task")} == {"t1": "mend the roof", "gone": None}
    assert [one["label"] for one in analytics.get_costs("session")] == [None]


def test_a_model_without_a_price_is_never_free(tmp_path: Path, analytics: AnalyticsDB) -> None:
    now = round(datetime.now(UTC).timestamp() * 1000)
    fill(tmp_path, [Spent(now, model="odd", priced=False)])
    (row,) = analytics.get_costs("model")
    assert (row["messages"], row["unpriced"], row["output_tokens"]) == (1, 1, 100)
    assert (row["cost"], row["share"]) == (0, 0)


def test_wrong_spans_are_refused_with_what_is_needed(analytics: AnalyticsDB) -> None:
    for arguments, reason in (
        ({"days": 0}, "whole number from 1"),
        ({"days": 1.5}, "whole number from 1"),
        ({"days": 100_000}, "whole number from 1"),
        ({"days": 3, "since": "2026-01-01"}, "say one of them"),
        ({"since": "yesterday"}, "a day such as"),
        ({"until": "2026-02-30"}, "a day such as"),
        ({"since": "2026-02-02", "until": "2026-02-01"}, "is later than"),
        ({"since": "1950-01-01"}, "a day from"),
        ({"since": "2000-01-01", "until": "2026-02-01"}, "more than"),
        ({"until": date.max}, "a day from"),
        ({"zone": "Mars/Base"}, "no time zone"),
        ({"by": "colour"}, "one of model, project"),
        ({"limit": 0}, "above 0"),
    ):
        with pytest.raises(ValueError, match=reason):
            analytics.get_costs(**arguments)


def test_a_wrong_zone_in_the_config_names_the_setting(
    tmp_path: Path, analytics: AnalyticsDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKSD_COSTS_ZONE", "Mars/Base")
    made = AnalyticsDB(tmp_path)
    with pytest.raises(ConfigError, match=r"costs\.zone.*Mars/Base"):
        made.get_daily_costs()
    made.close()


def test_days_are_those_of_the_configured_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = ms("UTC", 2026, 5, 5, 20)
    fill(tmp_path, [Spent(at)])
    monkeypatch.setenv("TASKSD_COSTS_ZONE", "Asia/Kathmandu")
    with time_machine.travel(at / 1000, tick=False):
        analytics = AnalyticsDB(tmp_path)
        (found,) = analytics.get_daily_costs(days=1)
        analytics.close()
    assert (found["date"], found["messages"]) == ("2026-05-06", 1)


# A period at a glance.


@pytest.fixture
def clock() -> Iterator[int]:
    """It is noon of the 20th of May 2026, UTC."""
    now = ms("UTC", 2026, 5, 20, 12)
    with time_machine.travel(now / 1000, tick=False):
        yield now


def summary(path: Path, days: int | None = 30, **fields: Any) -> Any:
    analytics = AnalyticsDB(path)
    try:
        return analytics.get_cost_summary(days, **fields)
    finally:
        analytics.close()


def test_today_yesterday_and_the_month_are_told_whatever_the_period(tmp_path: Path, clock: int) -> None:
    day = 24 * HOUR
    spent = {"today": [Spent(clock)], "yesterday": [Spent(clock - day)], "early": [Spent(clock - 15 * day)],
             "april": [Spent(clock - 25 * day)]}  # fmt: skip
    fill(tmp_path, [one for messages in spent.values() for one in messages])
    found = summary(tmp_path, days=1)
    assert figures(found["today"]) == expected(spent["today"]) == figures(found["total"])
    assert figures(found["yesterday"]) == expected(spent["yesterday"])
    assert figures(found["month"]) == expected(spent["today"] + spent["yesterday"] + spent["early"])
    assert [one["date"] for one in found["daily"]] == ["2026-05-20"]
    past = summary(tmp_path, days=None, since="2026-04-01", until="2026-04-30")
    assert figures(past["total"]) == expected(spent["april"])
    assert figures(past["today"]) == expected(spent["today"])
    assert len(past["daily"]) == 30


def test_what_clocks_that_were_ahead_have_left_is_not_spent_yet(tmp_path: Path, clock: int) -> None:
    now, ahead = Spent(clock), Spent(clock + 3 * 24 * HOUR)
    fill(tmp_path, [now, ahead])
    found = summary(tmp_path, days=None, until="2026-05-31")
    assert figures(found["month"]) == figures(found["today"]) == expected([now])
    assert found["projection"]["spent"] == pytest.approx(expected([now])["cost"])
    assert figures(found["total"]) == expected([now, ahead])
    assert figures(summary(tmp_path)["total"]) == expected([now])


def test_models_are_ranked_and_those_without_a_price_have_their_own_tokens(tmp_path: Path, clock: int) -> None:
    priced = [Spent(clock, model="a"), Spent(clock, model="b", output_tokens=5000)]
    missing = [Spent(clock, model="a", priced=False, output_tokens=7), Spent(clock, model="odd", priced=False)]
    before = [Spent(clock - 90 * 24 * HOUR, model="a", priced=False)]
    fill(tmp_path, priced + missing + before)
    found = summary(tmp_path)
    assert [one["model"] for one in found["models"]] == ["b", "a", "odd"]
    assert sum(one["share"] for one in found["models"]) == pytest.approx(1)
    assert {one["model"]: figures(one) for one in found["unpriced_models"]} == {
        "a": expected(missing[:1]), "odd": expected(missing[1:])
    }  # fmt: skip


@pytest.mark.parametrize("minutes", [0, 7])
def test_the_burn_rate_counts_to_the_millisecond(tmp_path: Path, clock: int, minutes: int) -> None:
    now = clock + minutes * MINUTE
    hour = [Spent(now - HOUR), Spent(now - 1)]
    day = [Spent(now - HOUR - 1), Spent(now - 24 * HOUR)]
    week = [Spent(now - 24 * HOUR - 1), Spent(now - 7 * 24 * HOUR, priced=False)]
    fill(tmp_path, [*hour, *day, *week, Spent(now - 7 * 24 * HOUR - 1)])
    with time_machine.travel(now / 1000, tick=False):
        analytics = AnalyticsDB(tmp_path)
        found = analytics.get_burn_rate()
        analytics.close()
    assert found == {
        "last_hour": expected(hour)["cost"],
        "last_24_hours": expected(hour + day)["cost"],
        "per_day": expected(hour + day + week)["cost"] / 7,
        "unpriced": {"last_hour": 0, "last_24_hours": 0, "per_day": 1},
    }


def test_cached_tokens_are_compared_with_plain_input(tmp_path: Path, clock: int) -> None:
    one = Spent(clock, cache_read_tokens=1_000_000, cache_write_5m_tokens=100_000, cache_write_1h_tokens=10_000)
    fill(tmp_path, [one])
    # 1 M read for 0.30 instead of 3 $, 0.1 M written for 3.75 and 0.01 M for 6 instead of 3 $ a million.
    assert summary(tmp_path)["cache_savings"] == pytest.approx(2.7 - 0.075 - 0.03)
    fill(tmp_path, [Spent(clock, model="odd", priced=False, cache_read_tokens=10**9)])
    assert summary(tmp_path)["cache_savings"] == pytest.approx(2.7 - 0.075 - 0.03)


def test_without_a_price_nobody_knows_what_the_cache_saved(tmp_path: Path, clock: int) -> None:
    fill(tmp_path, [Spent(clock, model="odd", priced=False)])
    assert summary(tmp_path)["cache_savings"] is None


def test_the_projection_is_of_the_month_of_the_zone(tmp_path: Path) -> None:
    at = ms("UTC", 2026, 4, 30, 20)
    messages = [Spent(at - number * 24 * HOUR) for number in range(20)]
    fill(tmp_path, messages)
    with time_machine.travel(at / 1000, tick=False):
        analytics = AnalyticsDB(tmp_path)
        here, there = analytics.get_projection(zone="UTC"), analytics.get_projection(zone="Asia/Kathmandu")
        analytics.close()
    assert (here["since"], here["until"]) == ("2026-04-01", "2026-04-30")
    assert here["spent"] == pytest.approx(expected(messages)["cost"])
    assert (there["since"], there["until"]) == ("2026-05-01", "2026-05-31")
    assert there["spent"] == pytest.approx(expected(messages[:1])["cost"])
    for one in (here, there):
        assert one["spent"] <= one["estimate"]
        assert one["low"] <= one["estimate"] <= one["high"]
        assert one["method"]
    assert there["estimate"] > 2 * there["spent"]


# Our figure and the client's.


def test_a_task_whose_runs_all_have_a_figure_is_compared_as_a_whole(tmp_path: Path, clock: int) -> None:
    ours = [Spent(clock - HOUR, task_id="a", output_tokens=1000), Spent(clock - 1, task_id="a")]
    cost = expected(ours)["cost"]
    fill(tmp_path, ours, [Run("a", clock - 2 * HOUR, 1, cost / 2), Run("a", clock - HOUR // 2, 2, cost / 2)])
    found = summary(tmp_path)["reported"]
    assert (found["compared"], found["beyond_limit"], found["beyond"]) == (1, 0, [])
    assert found["ours"] == found["reported"] == cost
    assert found["drift"] == pytest.approx(0)


def test_differences_beyond_the_limit_are_listed_the_furthest_first(tmp_path: Path, clock: int) -> None:
    cost = expected([Spent(clock)])["cost"]
    reported = {"near": cost * 0.96, "high": cost / 1.5, "low": cost / 0.6, "free": 0.0}
    fill(tmp_path, [Spent(clock, task_id=task) for task in reported], [Run(*one) for one in [
        (task, clock - 1, 1, value) for task, value in reported.items()
    ]])  # fmt: skip
    found = summary(tmp_path)["reported"]
    assert [(one["task_id"], one["drift"] and round(one["drift"])) for one in found["beyond"]] == [
        ("free", None), ("high", 50), ("low", -40)
    ]  # fmt: skip
    assert (found["compared"], found["beyond_limit"], found["limit"]) == (4, 3, 5.0)


@pytest.mark.parametrize(("ended", "factor", "compared"), [(1, 2.0, 0), (1, 1.0, 1), (1, 0.5, 1), (120, 2.0, 1)])
def test_what_has_just_ended_is_no_difference_until_its_transcript_can_be_read(
    tmp_path: Path, clock: int, ended: int, factor: float, compared: int
) -> None:
    spent = Spent(clock - HOUR, task_id="a")
    fill(tmp_path, [spent], [Run("a", clock - HOUR, 1, expected([spent])["cost"] * factor)])
    store = SyncDatabase(tmp_path / "tasks.db")
    store.apply([Write.one("UPDATE runs SET finished_at = :at", {"at": clock - ended * 1000})])
    store.close()
    found = summary(tmp_path)["reported"]
    assert (found["compared"], found["beyond_limit"]) == (compared, compared if factor != 1.0 else 0)


def test_of_a_task_with_a_run_without_a_figure_the_others_are_compared(tmp_path: Path, clock: int) -> None:
    first, second = Spent(clock - HOUR, task_id="a"), Spent(clock - HOUR // 2, task_id="a", output_tokens=777)
    killed = Run("a", clock - 2 * HOUR, 1), Run("a", clock - HOUR // 2, 2, expected([second])["cost"] * 2)
    going = Run("b", clock - 2 * HOUR, 1, expected([first])["cost"] * 2), Run("b", clock - HOUR // 2, 2)
    others = [
        Spent(one.timestamp, task_id="b", session_uuid="s2", output_tokens=one.output_tokens) for one in (first, second)
    ]
    fill(tmp_path, [first, second, *others], [*killed, *going])
    found = summary(tmp_path)["reported"]["beyond"]
    assert [(one["task_id"], one["attempt"], round(one["drift"])) for one in found] == [("a", 2, -50), ("b", 1, -50)]


def test_what_has_no_price_or_no_transcript_is_not_compared(tmp_path: Path, clock: int) -> None:
    runs = [Run("odd", clock, 1, 1.0), Run("untold", clock, 1, 1.0), Run("quiet", clock), Run("old", 1000, 1, 9.0)]
    fill(
        tmp_path,
        [Spent(clock, task_id="odd", priced=False), Spent(clock, task_id="quiet"), Spent(0, task_id="old")],
        runs,
    )
    found = summary(tmp_path)["reported"]
    assert (found["compared"], found["unpriced"], found["drift"]) == (0, 1, None)
