"""Reset times in the words of the client."""

import json
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tasks.agent import OutputReader, parse_reset

PARIS, NEW_YORK = ZoneInfo("Europe/Paris"), ZoneInfo("America/New_York")
#: Sunday, 4 October 2026, 13:00 in Paris
NOW = datetime(2026, 10, 4, 13, 0, tzinfo=PARIS)


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


@pytest.mark.parametrize(
    ("words", "moment"),
    [
        ("You've hit your 5-hour limit · resets 3pm (Europe/Paris)", datetime(2026, 10, 4, 15, tzinfo=PARIS)),
        (
            "You've hit your session limit · resets 2:30am (America/New_York)",
            datetime(2026, 10, 5, 2, 30, tzinfo=NEW_YORK),
        ),
        ("You've hit your weekly limit · resets Oct 5, 3pm (UTC)", datetime(2026, 10, 5, 15, tzinfo=UTC)),
        (
            "You've hit your weekly limit · resets Oct 5 at 3:05pm (UTC) · progress saved",
            datetime(2026, 10, 5, 15, 5, tzinfo=UTC),
        ),
        ("5-hour limit reached ∙ resets 12am", datetime(2026, 10, 5, tzinfo=PARIS)),
        ("5-hour limit reached ∙ resets 12pm", datetime(2026, 10, 5, 12, tzinfo=PARIS)),
        ("Your limit will reset at 3pm (Etc/GMT+5).", datetime(2026, 10, 4, 20, tzinfo=UTC)),
        ("Claude AI usage limit reached|1791129600", datetime(2026, 10, 4, 16, tzinfo=UTC)),
        ("Claude AI usage limit reached|1791129600000", datetime(2026, 10, 4, 16, tzinfo=UTC)),
        ("limit reached, resets at 15:10", datetime(2026, 10, 4, 15, 10, tzinfo=PARIS)),
        ("limit reached, resets at 15:10 UTC", datetime(2026, 10, 4, 15, 10, tzinfo=UTC)),
        ("resets 9 a.m. (UTC+02:00)", datetime(2026, 10, 5, 9, tzinfo=timezone(timedelta(hours=2)))),
        ("You will regain access on 2026-11-01 at 00:00 UTC.", datetime(2026, 11, 1, tzinfo=UTC)),
        ("resets 2026-10-04T18:00:00Z", datetime(2026, 10, 4, 18, tzinfo=UTC)),
        ("spend limit reached · resets Nov 8 · request an increase", datetime(2026, 11, 8, tzinfo=PARIS)),
        ("limit reached, resets in 2h 5m", NOW + timedelta(hours=2, minutes=5)),
        ("limit reached, resets in 3 hours", NOW + timedelta(hours=3)),
        ("monthly limit · your 5-hour limit resets 3pm (UTC)", datetime(2026, 10, 4, 15, tzinfo=UTC)),
        ("resets 3pm (Nowhere/Known)", datetime(2026, 10, 4, 15, tzinfo=PARIS)),
        ("resets 3pm (../../etc/passwd)", datetime(2026, 10, 4, 15, tzinfo=PARIS)),
        ("resets 3pm (Europe)", datetime(2026, 10, 4, 15, tzinfo=PARIS)),
    ],
)
def test_reset_time_is_found(words: str, moment: datetime) -> None:
    assert parse_reset(words, ms(NOW), PARIS) == ms(moment)


@pytest.mark.parametrize(
    "words",
    [
        "", "You've hit your 5-hour limit", "resets 5 times", "resets soon", "resets 25:00", "resets 13pm", "resets 0am",
        "resets Feb 30, 3pm", "resets Oct 3, 3pm (UTC)", "resets Apr 4, 3pm", "resets Jan 2, 2031, 3pm", "limit reached|1",
        "limit reached|1700000000", "limit reached|9999999999", "resets 2026-13-01", "resets 3:75pm", "preset 3pm",
        "resets in 9999 d",
    ],
)  # fmt: skip
def test_no_time_or_a_wrong_one_is_none(words: str) -> None:
    assert parse_reset(words, ms(NOW), PARIS) is None


def test_year_turns() -> None:
    new_years_eve = ms(datetime(2026, 12, 31, 22, tzinfo=UTC))
    assert parse_reset("resets Jan 2, 3am (UTC)", new_years_eve) == ms(datetime(2027, 1, 2, 3, tzinfo=UTC))
    assert parse_reset("resets Jan 2, 2027, 3am (UTC)", new_years_eve) == ms(datetime(2027, 1, 2, 3, tzinfo=UTC))
    assert parse_reset("resets 1am (UTC)", new_years_eve) == ms(datetime(2027, 1, 1, 1, tzinfo=UTC))


def test_hour_that_comes_twice_is_its_next_one() -> None:
    between = datetime(2026, 10, 25, 0, 45, tzinfo=UTC)  # 2:45 in summer time; 2:30 comes again at 1:30 UTC
    assert parse_reset("resets 2:30am (Europe/Paris)", ms(between)) == ms(datetime(2026, 10, 25, 1, 30, tzinfo=UTC))


def as_the_client_writes(moment: datetime, now: datetime, zone: str) -> str:
    clock = (
        f"{moment.hour % 12 or 12}{f':{moment.minute:02}' if moment.minute else ''}{'am' if moment.hour < 12 else 'pm'}"
    )
    if moment - now > timedelta(hours=24):
        year = f", {moment.year}" if moment.year != now.year else ""
        clock = f"{moment:%b} {moment.day}{year}, {clock}"
    return f"You've hit your weekly limit · resets {clock} ({zone})"


@given(
    st.integers(0, 2 * 365 * 24 * 60),
    st.integers(1, 60 * 24 * 60),
    st.sampled_from(["Europe/Paris", "America/New_York", "UTC", "Asia/Kolkata", "Pacific/Auckland"]),
)
@example(87 * 24 * 60 + 30, 60, "Europe/Paris")  # summer time begins
@example((365 + 58) * 24 * 60, 60 * 24 * 2, "UTC")  # the end of February
def test_what_the_client_writes_is_read_back(start: int, minutes: int, zone: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=start)
    moment = (now + timedelta(minutes=minutes)).astimezone(ZoneInfo(zone))
    read = parse_reset(as_the_client_writes(moment, now.astimezone(ZoneInfo(zone)), zone), ms(now))
    assert read is not None
    assert datetime.fromtimestamp(read / 1000, ZoneInfo(zone)).replace(fold=0) == moment.replace(fold=0)


WORDS = st.lists(
    st.sampled_from(
        ["resets", "reset", "at", "on", "in", "Oct", "February", "5", "31,", "2027", "3pm", "12:60", "0am", "15:10",
         "24:00", "(UTC)", "(Europe/Paris)", "(+14)", "UTC", "|1791129600", "2026-10-05", "T", "2h", "9999d", "·",
         "regain access", "99999999999999"]
    )
    | st.text(max_size=5),
    max_size=8,
)  # fmt: skip


@given(WORDS.map(" ".join), st.integers(1_600_000_000_000, 2_500_000_000_000))
def test_any_words_give_a_near_future_or_nothing(words: str, now: int) -> None:
    read = parse_reset(words, now)
    assert read is None or now < read <= now + 62 * 24 * 3600 * 1000


def limited(**error: object) -> list[bytes]:
    words = "You've hit your 5-hour limit · resets 3pm (Europe/Paris)"
    message = {"type": "assistant", "is_api_error_message": True, "message": {"model": "<synthetic>"}, **error}
    result = {
        "type": "result",
        "subtype": "success",
        "is_error": True,
        "num_turns": 1,
        "api_error_status": 429,
        "result": words,
    }
    return [json.dumps(line).encode() for line in (message, result)]


def test_words_are_about_the_day_they_were_said() -> None:
    lines = limited(timestamp="2026-10-04T11:00:00.000Z")
    reader = OutputReader(now=lambda: ms(NOW))
    reader.feed(b"\n".join(lines) + b"\n")
    late = OutputReader(now=lambda: ms(NOW + timedelta(hours=20)))
    late.feed(b"\n".join(lines) + b"\n")
    assert reader.limit is not None
    assert reader.limit.resets_at == ms(datetime(2026, 10, 4, 15, tzinfo=PARIS))
    assert late.limit is not None
    assert late.limit.resets_at is None


def test_exact_time_comes_before_the_words() -> None:
    exact = ms(NOW + timedelta(hours=1, seconds=7)) // 1000
    (message, result) = limited(api_error_params={"rate_limit_info": {"resetsAt": exact}})
    reader = OutputReader(now=lambda: ms(NOW))
    reader.feed(message + b"\n" + result + b"\n")
    assert reader.limit is not None
    assert reader.limit.resets_at == exact * 1000


def test_limit_of_a_subagent_or_one_that_is_over_does_not_count() -> None:
    event = {"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "resetsAt": ms(NOW) // 1000 + 60}}
    allowed = {"type": "rate_limit_event", "rate_limit_info": {"status": "allowed"}}
    subagent = limited(
        parent_tool_use_id="toolu_1", api_error_params={"rate_limit_info": {"resetsAt": ms(NOW) // 1000 + 90}}
    )
    reader = OutputReader(now=lambda: ms(NOW))
    reader.feed(b"\n".join([json.dumps(event).encode(), json.dumps(allowed).encode(), *subagent]) + b"\n")
    assert reader.limit is not None
    assert reader.limit.resets_at == ms(datetime(2026, 10, 4, 15, tzinfo=PARIS))
