"""/metrics: what is going on and what it adds up to, in the text formats of Prometheus and OpenMetrics."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from tasks import history
from tasks.analytics.totals import Totals, totals
from tasks.api.access import Ctx
from tasks.api.status import Status, read_status

router = APIRouter(tags=["metrics"])

_TOKENS = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def read_metrics(ctx: Ctx, accept: Annotated[str, Header()] = "") -> Response:
    """Everything below is counted from the store, so that a restart of the daemon resets nothing."""
    now = time.time_ns() // 1_000_000
    status = await read_status(ctx)
    found, tasks = await ctx.database.read(
        lambda reader: (totals(reader.query), history.task_counts(reader.query, now=now))
    )
    size = await asyncio.to_thread(lambda: ctx.settings.database_file.stat().st_size)
    registry = CollectorRegistry()
    registry.register(_Found([*_of_daemon(status, size), *_of_work(status, tasks), *_of_history(found)]))
    encode, content_type = choose_encoder(accept)
    return Response(encode(registry), headers={"content-type": content_type})


class _Found(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _of_daemon(status: Status, database_bytes: int) -> Iterator[Metric]:
    yield _labelled(GaugeMetricFamily, "tasksd_build_info", "The running version.", ["version"],
                    [(status.daemon.version, 1)])  # fmt: skip
    yield GaugeMetricFamily("tasksd_uptime_seconds", "Since the daemon started.", status.daemon.uptime_s)
    yield GaugeMetricFamily("tasksd_database_bytes", "Size of tasks.db.", database_bytes)
    yield CounterMetricFamily("tasksd_events", "Hook events stored.", status.ingest.events_total)
    yield CounterMetricFamily("tasksd_duplicate_events", "Hook events that came twice.", status.ingest.duplicates)
    yield CounterMetricFamily("tasksd_dropped_events", "Events dropped: the spool was full.", status.spool.dropped)
    yield GaugeMetricFamily(
        "tasksd_ingest_degraded", "1 while ingestion is hindered.", status.ingest.degraded is not None
    )
    yield GaugeMetricFamily("tasksd_spool_files", "Events that wait in the spool.", status.spool.pending)
    yield GaugeMetricFamily("tasksd_spool_bytes", "What they take.", status.spool.bytes)
    yield GaugeMetricFamily("tasksd_spool_oldest_seconds", "Age of the oldest.", status.spool.oldest_age_s or 0.0)
    yield GaugeMetricFamily("tasksd_quarantined_files", "Files that are no events.", status.spool.quarantined)


def _of_work(status: Status, tasks: dict[str, Any]) -> Iterator[Metric]:
    yield _labelled(GaugeMetricFamily, "tasksd_sessions", "Sessions; those that are over: of the last 24 hours.",
                    ["status"], status.sessions.items())  # fmt: skip
    yield _labelled(GaugeMetricFamily, "tasksd_tasks", "Tasks; those that are over: of the last 24 hours.",
                    ["status"], tasks["statuses"].items())  # fmt: skip
    yield _labelled(GaugeMetricFamily, "tasksd_merges", "Merges that are not done.", ["state"], tasks["merges"].items())
    if status.pool is not None:
        yield GaugeMetricFamily("tasksd_pool_workers", "Agents that may work at once.", status.pool.total_workers)
        yield GaugeMetricFamily("tasksd_pool_active", "Agents at work.", status.pool.active_workers)
        yield GaugeMetricFamily("tasksd_pool_queued", "Tasks that wait for a worker.", status.pool.queued_tasks)


def _of_history(found: Totals) -> Iterator[Metric]:
    calls = CounterMetricFamily("tasksd_tool_calls", "Finished tool calls.", labels=["tool", "success"])
    seconds = SummaryMetricFamily("tasksd_tool_duration_seconds", "Time of calls, where known.", labels=["tool"])
    for one in found.tools:
        calls.add_metric([one.tool, "true"], one.successes)
        calls.add_metric([one.tool, "false"], one.calls - one.successes)
        seconds.add_metric([one.tool], count_value=one.timed, sum_value=one.duration_sum / 1000)
    yield calls
    yield seconds
    errors = CounterMetricFamily("tasksd_tool_errors", "Failed tool calls.", labels=["tool", "category"])
    for tool, category, count in found.errors:
        errors.add_metric([tool, category], count)
    yield errors
    tokens = CounterMetricFamily("tasksd_tokens", "Tokens by kind.", labels=["model", "kind"])
    for model in found.models:
        for kind in _TOKENS:
            tokens.add_metric([model.model, kind], getattr(model, f"{kind}_tokens"))
    yield tokens
    for name, text, values in (
        ("tasksd_messages", "Answers of the API.", [(one.model, one.messages) for one in found.models]),
        ("tasksd_unpriced_messages", "Of these, without a price: not in the cost.",
         [(one.model, one.unpriced) for one in found.models]),
        ("tasksd_cost_usd", "What the API charges for them.", [(one.model, one.cost / 1e12) for one in found.models]),
    ):  # fmt: skip
        yield _labelled(CounterMetricFamily, name, text, ["model"], values)
    yield CounterMetricFamily("tasksd_calls_expected", "Calls that transcripts told of.", found.expected)
    yield CounterMetricFamily("tasksd_calls_seen", "Of these, reported by hooks.", found.seen)
    yield CounterMetricFamily("tasksd_calls_added", "Of these, stored from the transcript alone.", found.added)
    yield _labelled(CounterMetricFamily, "tasksd_agent_seconds", "Time of main agents by state, up to its last change.",
                    ["status"], [(status, ms / 1000) for status, ms in found.agent_time])  # fmt: skip


def _labelled(kind: Any, name: str, text: str, labels: list[str], values: Iterable[tuple[str, float]]) -> Metric:
    family: Metric = kind(name, text, labels=labels)
    for label, value in values:
        family.add_metric([label], value)  # type: ignore[attr-defined]
    return family
