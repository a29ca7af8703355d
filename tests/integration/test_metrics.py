"""What a scraper reads at /metrics."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tasks.database import Write
from tasks.tracker import ToolUsageTracker

from .service import Service

MONEY = """
INSERT INTO cost_rollup (dimension, grain, slot, value, model, messages, input_tokens, output_tokens, cache_read_tokens,
                         cache_write_5m_tokens, cache_write_1h_tokens, web_searches, cost, unpriced)
VALUES (?, ?, ?, '', ?, ?, ?, ?, ?, ?, ?, 0, ?, ?)
"""


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    made = Service(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def scrape(service: Service, **headers: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Sample → value, read by the library's own parser."""
    answer = await service.ask("/metrics", headers=headers)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


async def test_an_empty_store_can_be_scraped(service: Service) -> None:
    found = await scrape(service)
    assert found["tasksd_build_info", (("version", "1.2.3"),)] == 1
    assert found["tasksd_events_total", ()] == 0
    assert found["tasksd_sessions", (("status", "working"),)] == 0
    assert found["tasksd_database_bytes", ()] > 0


async def test_calls_errors_and_durations_are_counted(service: Service, tmp_path: Path) -> None:
    tracker = ToolUsageTracker(data_dir=tmp_path)
    for success in (True, True, False):
        tracker.record_tool_usage(
            tool_name="Bash", duration_ms=500.0, success=success, error=None if success else "Permission denied"
        )
    tracker.close()
    for _ in range(2):  # whether rolled up or not
        found = await scrape(service)
        assert found["tasksd_tool_calls_total", (("success", "true"), ("tool", "Bash"))] == 2
        assert found["tasksd_tool_calls_total", (("success", "false"), ("tool", "Bash"))] == 1
        assert found["tasksd_tool_errors_total", (("category", "permission_denied"), ("tool", "Bash"))] == 1
        assert found["tasksd_tool_duration_seconds_sum", (("tool", "Bash"),)] == 1.5
        assert found["tasksd_tool_duration_seconds_count", (("tool", "Bash"),)] == 3
        roll = "INSERT INTO rolling_calls (upto) SELECT max(id) FROM tool_usage"
        await service.context.database.apply([Write.one(roll)])


async def test_tokens_and_money_are_counted_and_what_has_no_price_is_not_free(service: Service) -> None:
    day = 86_400_000
    rows = [
        ("all", day, 20_000, "opus", 2, 10, 20, 30, 40, 50, 1_500_000_000_000, 0),
        ("all", day, 20_001, "opus", 1, 1, 2, 3, 4, 5, 250_000_000_000, 0),
        ("all", 3_600_000, 480_000, "opus", 9, 9, 9, 9, 9, 9, 9, 9),  # the same at another grain counts once
        ("project", day, 20_000, "opus", 9, 9, 9, 9, 9, 9, 9, 9),
        ("all", day, 20_000, "new", 3, 7, 7, 7, 7, 7, 0, 3),
    ]
    await service.context.database.apply([Write(MONEY, rows)])
    found = await scrape(service)
    assert found["tasksd_cost_usd_total", (("model", "opus"),)] == 1.75
    assert found["tasksd_tokens_total", (("kind", "cache_write_1h"), ("model", "opus"))] == 55
    assert found["tasksd_messages_total", (("model", "opus"),)] == 3
    assert found["tasksd_unpriced_messages_total", (("model", "new"),)] == 3


async def test_openmetrics_is_spoken_when_asked_for(service: Service) -> None:
    answer = await service.ask("/metrics", headers={"accept": "application/openmetrics-text;version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.body.endswith(b"# EOF\n")
