"""Sums over all time, for who takes differences himself: Prometheus."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.database import Row
from tasks.rollups import UNROLLED_CALLS

Query = Callable[[str, Mapping[str, Any]], list[Row]]

# Of the day slots, and of what is not rolled up yet.
_CALLS = f"""
SELECT tool_name, sum(calls), sum(successes), sum(timed), sum(duration_sum) FROM (
    SELECT tool_name, calls, successes, timed, duration_sum FROM tool_rollup WHERE grain = 86400000
    UNION ALL
    SELECT tool_name, count(*), sum(success), count(duration_ms), total(duration_ms) FROM tool_usage
    WHERE {UNROLLED_CALLS} GROUP BY tool_name
) GROUP BY tool_name ORDER BY tool_name
"""

_ERRORS = f"""
SELECT tool_name, error_category, sum(calls) FROM (
    SELECT tool_name, error_category, calls FROM error_rollup WHERE grain = 86400000
    UNION ALL
    SELECT tool_name, error_category, count(*) FROM tool_usage
    WHERE {UNROLLED_CALLS} AND success = 0 GROUP BY tool_name, error_category
) GROUP BY tool_name, error_category ORDER BY tool_name, error_category
"""

_MONEY = """
SELECT model, sum(messages), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), sum(cache_write_5m_tokens),
       sum(cache_write_1h_tokens), sum(web_searches), sum(cost), sum(unpriced)
FROM cost_rollup WHERE dimension = 'all' AND grain = 86400000 GROUP BY model ORDER BY model
"""

_RECONCILED = "SELECT total(expected), total(seen), total(added) FROM reconciliations"

_AGENT_TIME = "SELECT status, sum(ms) FROM state_rollup WHERE grain = 86400000 GROUP BY status ORDER BY status"


@dataclass(frozen=True, slots=True)
class ToolTotals:
    """Calls of one tool over all time; durations in milliseconds."""

    tool: str
    calls: int
    successes: int
    timed: int
    duration_sum: float


@dataclass(frozen=True, slots=True)
class ModelTotals:
    """Tokens and money of one model over all time; `cost` in picodollars, of the priced messages."""

    model: str
    messages: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    web_searches: int
    cost: int
    unpriced: int


@dataclass(frozen=True, slots=True)
class Totals:
    tools: list[ToolTotals]
    #: (tool, error category, calls)
    errors: list[tuple[str, str, int]]
    models: list[ModelTotals]
    #: calls that transcripts told of; of these, reported by hooks; of these, stored from the transcript alone
    expected: int
    seen: int
    added: int
    #: (status, milliseconds) of main agents, without the states that sessions are in now
    agent_time: list[tuple[str, int]]


def totals(query: Query) -> Totals:
    """What is stored, summed. The cost grows with days and kinds, not with calls."""
    expected, seen, added = query(_RECONCILED, {})[0]
    return Totals(
        tools=[ToolTotals(*row) for row in query(_CALLS, {})],
        errors=[(tool, category, calls) for tool, category, calls in query(_ERRORS, {})],
        models=[ModelTotals(*row) for row in query(_MONEY, {})],
        expected=int(expected),
        seen=int(seen),
        added=int(added),
        agent_time=[(status, ms) for status, ms in query(_AGENT_TIME, {})],
    )
