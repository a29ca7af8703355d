"""Calls by hour: what the roll-ups say is what the calls say, whatever is rolled up."""

from pathlib import Path

import pytest
from tasks.analytics.hours import calls_by_hour
from tasks.rollups import HOUR

from .recorded import NOW, ROLLED, Recorded, some_calls


@pytest.mark.parametrize("rolled", ROLLED)
def test_every_hour_has_the_calls_that_ended_in_it(tmp_path: Path, rolled: str) -> None:
    calls = some_calls(7, 1500 if rolled == "by_itself" else 400, days=2)
    recorded = Recorded(tmp_path)
    recorded.calls(calls, ROLLED[rolled])
    found = calls_by_hour(recorded.query, now=NOW)
    assert [one["start"] for one in found] == [(NOW // HOUR - ago) * HOUR for ago in range(23, -1, -1)]
    for one in found:
        here = [call for call in calls if one["start"] <= call["timestamp"] < one["start"] + HOUR]
        assert (one["calls"], one["failures"]) == (len(here), sum(not call["success"] for call in here))


def test_hours_without_a_call_are_there_too(tmp_path: Path) -> None:
    found = calls_by_hour(Recorded(tmp_path).query, now=NOW, hours=3)
    assert [(one["calls"], one["failures"]) for one in found] == [(0, 0)] * 3
