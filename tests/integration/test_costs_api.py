"""/v1/costs on a real socket, in front of a real store."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tasks.analytics import AnalyticsDB
from tasks.rollups import DAY
from tasks.words import CostDimension

from .money import Run, Spent, fill
from .service import Service


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    monkeypatch.setenv("TZ", "UTC")
    made = Service(tmp_path)
    await made.start()
    yield made
    await made.stop()


def spend(path: Path) -> None:
    now = time.time_ns() // 1_000_000
    fill(
        path,
        [
            Spent(now, task_id="a1"),
            Spent(now - DAY, workflow="w", agent_type="Explore"),
            Spent(now, "odd", priced=False),
        ],
        [Run("a1", now, 1, 1.0)],
        {"a1": "mend the roof"},
    )


#: What changes while time passes, also if nothing is spent.
MOVING = {"burn_rate", "projection", "estimate", "low", "high"}


def lasting(answer: Any) -> Any:
    return {name: value for name, value in answer.items() if name not in MOVING}


async def test_the_answers_are_those_of_the_analytics(service: Service, tmp_path: Path) -> None:
    spend(tmp_path)
    analytics = AnalyticsDB(tmp_path)
    try:
        answer = (await service.ask("/v1/costs?days=7")).json()
        assert lasting(answer) == lasting(analytics.get_cost_summary(7))
        assert answer["burn_rate"].keys() == analytics.get_burn_rate().keys()
        assert (await service.ask("/v1/costs/daily")).json() == analytics.get_daily_costs()
        projection = (await service.ask("/v1/costs/projection")).json()
        assert lasting(projection) == lasting(analytics.get_projection())
        assert projection["estimate"] == pytest.approx(answer["projection"]["estimate"], rel=0.01)
        for by in CostDimension:
            answer = (await service.ask(f"/v1/costs/by/{by}?days=7")).json()
            assert answer["by"] == by
            assert answer["rows"] == analytics.get_costs(by, 7)
            assert answer["total"]["messages"] == 3
    finally:
        analytics.close()


async def test_a_store_without_messages_has_answers_too(service: Service) -> None:
    found = (await service.ask("/v1/costs")).json()
    assert (found["total"]["cost"], found["models"], len(found["daily"])) == (0, [], 30)
    assert found["reported"]["drift"] is None
    assert (await service.ask("/v1/costs/by/task")).json()["rows"] == []
    assert (await service.ask("/v1/costs/projection")).json()["spent"] == 0


async def test_days_can_be_chosen_by_number_by_date_and_by_zone(service: Service, tmp_path: Path) -> None:
    spend(tmp_path)
    assert len((await service.ask("/v1/costs/daily?days=3")).json()) == 3
    chosen = (await service.ask("/v1/costs/daily?since=2026-03-28&until=2026-03-30&zone=Europe/Paris")).json()
    assert [one["date"] for one in chosen] == ["2026-03-28", "2026-03-29", "2026-03-30"]
    assert (await service.ask("/v1/costs?zone=Asia/Kathmandu")).json()["zone"] == "Asia/Kathmandu"


async def test_a_limit_cuts_rows_and_says_how_many_there_are(service: Service, tmp_path: Path) -> None:
    spend(tmp_path)
    found = (await service.ask("/v1/costs/by/model?limit=1")).json()
    assert ([one["value"] for one in found["rows"]], found["found"]) == (["claude-sonnet-5"], 2)
    assert found["unpriced_models"] == ["odd"]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("?days=0", "greater than or equal to 1"),
        ("?days=4000", "less than or equal to 3660"),
        ("?days=x", "integer"),
        ("?days=3&since=2026-01-01", "say one of them"),
        ("?since=yesterday", "date"),
        ("?since=2026-02-02&until=2026-02-01", "is later than"),
        ("?zone=Mars/Base", "is no time zone; names are such as"),
        ("?zone=../../etc/passwd", "is no time zone"),
        ("/by/colour", "'model', 'project'"),
        ("/by/model?limit=0", "greater than or equal to 1"),
        ("/projection?zone=Nowhere", "is no time zone"),
    ],
)
async def test_a_wrong_question_is_told_what_is_needed(service: Service, target: str, reason: str) -> None:
    answer = await service.ask(f"/v1/costs{target}")
    assert answer.status == 422
    assert reason in answer.body.decode()


async def test_a_wrong_zone_in_the_config_is_told_by_its_setting(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    object.__setattr__(service.context.settings.costs, "zone", "Mars/Base")
    answer = await service.ask("/v1/costs")
    assert answer.status == 400
    assert "costs.zone: 'Mars/Base' is no time zone" in answer.json()["detail"]
    assert (await service.ask("/v1/costs?zone=UTC")).status == 200


async def test_the_types_are_in_the_description_of_the_api(service: Service) -> None:
    paths = service.app.openapi()["paths"]
    assert {"/v1/costs", "/v1/costs/daily", "/v1/costs/by/{dimension}", "/v1/costs/projection"} <= paths.keys()
    schemas = service.app.openapi()["components"]["schemas"]
    assert {"cost", "unpriced", "cache_read_tokens"} <= schemas["DailyCosts"]["properties"].keys()
