"""Questions about the whole history, answered from the roll-ups.

The functions take the `query` of a Reader, so that the API, the CLI beside a stopped daemon and AnalyticsDB share them.
"""

import os
from collections.abc import Sequence
from datetime import date
from typing import Any

from tasks.analytics import agents, errors, files, tasks, tools
from tasks.analytics.agents import StateTime
from tasks.analytics.costs import CostsOf, DailyCosts, costs_by, daily_costs
from tasks.analytics.days import Period, chosen_zone, period
from tasks.analytics.errors import DailyErrors, ErrorKind, FailureRate, error_rates
from tasks.analytics.files import ContendedFile, FileUse, SessionFile
from tasks.analytics.span import Query, now_ms, since
from tasks.analytics.spending import BurnRate, CostSummary, ProjectedCosts, burn_rate, cost_summary, projection
from tasks.analytics.tasks import TaskGroup, TaskStats
from tasks.analytics.tools import ToolDurations, ToolUse, UseStats
from tasks.config import load
from tasks.database import Reader
from tasks.words import CostDimension

__all__ = ["AnalyticsDB", "Query", "error_rates", "since"]


class AnalyticsDB:
    """High-level questions, synchronous and read-only, without a daemon and beside one.

    `data_dir` is where tasks.db lies (default: as for the daemon). Raises StoreUnavailable when there is none yet. Spans are
    the last `days`, to the millisecond; None is all time. Every method raises ValueError unless its span is above 0.
    """

    def __init__(self, data_dir: str | os.PathLike[str] | None = None) -> None:
        self._settings = load(data_dir=data_dir)
        self._reader = Reader(self._settings.database_file)
        self._query = self._reader.query

    # Tools.

    def get_tool_usage_by_workflow(self, workflow: str, days: float | None = None) -> list[ToolUse]:
        """Use of the tools by the tasks of a workflow, the most used first: `{"tool_name", "count", "avg_duration" …}`."""
        return tools.usage_of(self._query, "workflow", workflow, since=since(days=days))

    def get_tool_usage_by_agent_type(self, agent_type: str, days: float | None = None) -> list[ToolUse]:
        """As by workflow. Of subagents their own type counts; "" is the main agent of a session without a type."""
        return tools.usage_of(self._query, "agent_type", agent_type, since=since(days=days))

    def get_tool_usage_by_model(self, model: str, days: float | None = None) -> list[ToolUse]:
        """As by workflow. "" are the calls of which no transcript has told the model."""
        return tools.usage_of(self._query, "model", model, since=since(days=days))

    def get_tool_usage_by_session(self, session_uuid: str) -> list[ToolUse]:
        """Use of the tools in a session, over all time, the most used first."""
        return tools.usage_of(self._query, "session", session_uuid)

    def get_tool_usage_by_task(self, task_id: str) -> list[ToolUse]:
        """Use of the tools for a task, over all time, the most used first."""
        return tools.usage_of(self._query, "task", task_id)

    def get_tool_usage(self, days: float | None = None) -> list[ToolUse]:
        """Use of every tool, the most used first."""
        return tools.tool_usage(self._query, since=since(days=days))

    def get_tool_durations(
        self, days: float | None = 7, quantiles: Sequence[float] = tools.QUANTILES, *, hours: float | None = None
    ) -> list[ToolDurations]:
        """How long the calls of each tool took, in milliseconds, over the last `days`, or `hours` when given.

        Percentiles of more than 5,000 calls come from a histogram of steps of 26 %, interpolated. Raises ValueError for a
        quantile that is not between 0 and 1.
        """
        begin = since(hours=hours) if hours is not None else since(days=days)
        return tools.tool_durations(self._query, since=begin, quantiles=quantiles)

    def get_workflow_stats(self, days: float | None = 7) -> list[UseStats]:
        """Calls and failures by workflow, the one with the most calls first. Calls without a workflow are not in here."""
        return tools.stats_by(self._query, "workflow", since=since(days=days))

    def get_agent_type_stats(self, days: float | None = 7) -> list[UseStats]:
        """Calls and failures by type of agent, the one with the most calls first; "": a main agent without a type."""
        return tools.stats_by(self._query, "agent_type", since=since(days=days))

    def get_model_stats(self, days: float | None = 7) -> list[UseStats]:
        """Calls and failures by model, the one with the most calls first; "": no transcript has told it."""
        return tools.stats_by(self._query, "model", since=since(days=days))

    def get_session_stats(self, days: float | None = 7, limit: int = 50) -> list[UseStats]:
        """All calls of each session that was active, the one with the most calls first."""
        return tools.session_stats(self._query, since=since(days=days), limit=limit)

    # Files.

    def get_hot_files(self, days: float | None = 7, limit: int = 50, project: str | None = None) -> list[FileUse]:
        """The files with the most accesses; `project`: only those in this folder."""
        return files.file_use(self._query, since=since(days=days), limit=limit, project=project)

    def get_rereads(self, days: float | None = 7, limit: int = 50, project: str | None = None) -> list[FileUse]:
        """The files that agents read most often again, having read them before."""
        return files.file_use(self._query, since=since(days=days), order="rereads", limit=limit, project=project)

    def get_contended_files(
        self, days: float | None = 7, limit: int = 20, project: str | None = None
    ) -> list[ContendedFile]:
        """The files that several agents changed within 30 minutes, each with the agents and when each changed it last."""
        return files.contended_files(self._query, since=since(days=days), limit=limit, project=project)

    def get_session_files(self, session_uuid: str, limit: int = 1000) -> list[SessionFile]:
        """What the agents of a session did with which files, over all time; the most accessed first."""
        return files.session_files(self._query, session_uuid, limit=limit)

    # Agents.

    def get_agent_time(self, days: float | None = 7) -> dict[str, StateTime]:
        """Status → seconds that main agents spent in it, and its share; of sessions that were live at once, the sum."""
        return agents.agent_time(self._query, since=since(days=days))

    def get_session_time(self, session_uuid: str) -> dict[str, StateTime]:
        """As above, for one session, as far as its changes of status are still stored."""
        return agents.session_time(self._query, session_uuid)

    # Errors.

    def get_error_rates(self, days: float = 7) -> dict[str, int]:
        """Failed calls by error category, the most frequent first."""
        return error_rates(self._query, since=since(days=days))

    def get_failure_rates(self, by: errors.By = "tool", days: float | None = 7) -> list[FailureRate]:
        """How many calls failed by category, tool, agent_type, workflow or model; the one with most failures first."""
        return errors.failure_rates(self._query, by, since=since(days=days))

    def get_error_fingerprints(
        self, days: float | None = 7, limit: int = 20, tool: str | None = None, category: str | None = None
    ) -> list[ErrorKind]:
        """The kinds of errors with the most calls: what they said, since when, and whether they become more or fewer."""
        return errors.error_kinds(self._query, since=since(days=days), limit=limit, tool=tool, category=category)

    def get_error_trend(self, days: int = 30, *, zone: str | None = None) -> list[DailyErrors]:
        """Calls, failures and their categories of each of the last `days` local days, today included, in order."""
        return errors.error_trend(self._query, self._period(zone, days=days))

    # Tasks: those that were handed over in the span.

    def get_task_stats(self, days: float | None = 30) -> TaskStats:
        """What became of the tasks: success, failures by reason, durations, retries, merges and money."""
        return tasks.task_stats(self._query, since=since(days=days))

    def get_task_stats_by(self, by: tasks.By = "workflow", days: float | None = 30) -> list[TaskGroup]:
        """As above, by workflow, agent_type or model; the one with the most tasks first."""
        return tasks.task_groups(self._query, by, since=since(days=days))

    def get_task_success_rate(self, days: float | None = 30) -> float | None:
        """Completed tasks as a part of those that completed or failed, 0 to 1; None: there are none."""
        return tasks.success_rate(self._query, since=since(days=days))

    def get_task_failures(self, days: float | None = 30) -> dict[str, int]:
        """Failed tasks by reason, the most frequent first."""
        return tasks.failures(self._query, since=since(days=days))

    # Money. Whole local days of `zone` (an IANA name; default: `costs.zone` of the config file), today included.

    def get_daily_costs(self, days: int = 30, *, zone: str | None = None) -> list[DailyCosts]:
        """What each of the last `days` local days cost, in order, also those without cost."""
        return daily_costs(self._query, self._period(zone, days=days))

    def get_costs(
        self,
        by: str = "model",
        days: int | None = None,
        *,
        since: date | str | None = None,
        until: date | str | None = None,
        limit: int | None = 50,
        zone: str | None = None,
    ) -> list[CostsOf]:
        """What each model, project, session, task, agent_type, workflow or day cost: the `limit` highest (None: all), days in
        order and all of them.

        Over the last `days` (default: 30), or from the day `since` to the day `until`, both included.
        """
        if by not in tuple(CostDimension):
            raise ValueError(f"by = {by!r}: one of {', '.join(CostDimension)} is needed")
        chosen = self._period(zone, days=days, since=since, until=until)
        return costs_by(self._query, chosen, CostDimension(by), limit=limit)["rows"]

    def get_cost_summary(
        self,
        days: int | None = None,
        *,
        since: date | str | None = None,
        until: date | str | None = None,
        zone: str | None = None,
    ) -> CostSummary:
        """A period (default: the last 30 days) at a glance: total, by model and day, what has no price, what the cache saved,
        and our figure beside the client's; with today, yesterday, this month and its projection.
        """
        chosen = self._period(zone, days=days, since=since, until=until)
        return cost_summary(self._query, chosen, now=now_ms(), drift_limit=self._settings.costs.drift)

    def get_projection(self, *, zone: str | None = None) -> ProjectedCosts:
        """What this month will have cost at its end, with an interval; `tasks.forecast` says how."""
        return projection(self._query, chosen_zone(zone, self._settings.costs.zone), now=now_ms())

    def get_burn_rate(self) -> BurnRate:
        """Dollars of the last hour, of the last 24 hours, and a day over the last seven."""
        return burn_rate(self._query, now=now_ms())

    def _period(self, zone: str | None, **span: Any) -> Period:
        return period(chosen_zone(zone, self._settings.costs.zone), now_ms(), **span)

    def close(self) -> None:
        self._reader.close()
