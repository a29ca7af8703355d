"""The tasks that the demo hands over: what they ask for, where, and what a finished one came to."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.demo.projects import PROJECTS, Project

#: Project, description, agent type, workflow.
_ORDERS: Sequence[tuple[str, str, str | None, str | None]] = (
    ("harbor", "Fix the login of expired sessions", "fixer", "bug-triage"),
    ("harbor", "Cover cancel_late with tests", "tester", None),
    ("harbor", "Round tariffs to cents in one place only", "fixer", None),
    ("harbor", "Add an index for open bookings by berth", None, None),
    ("harbor", "Reject manifests without a declared weight", "fixer", "bug-triage"),
    ("harbor", "Review error handling in the API and fix what is missing", "reviewer", "nightly-review"),
    ("harbor", "Update dependencies and make the tests pass", None, "dependency-updates"),
    ("harbor", "Explain storage_days in the docs, with an example", "writer", None),
    ("lumen", "Sort tables stably by more than one column", None, None),
    ("lumen", "Labels of the stacked chart overlap on narrow screens", "fixer", "bug-triage"),
    ("lumen", "Keep filters in the address of the page", None, None),
    ("lumen", "Review the state store for needless renders", "reviewer", "nightly-review"),
    ("lumen", "Format tonnes and money the same everywhere", "fixer", None),
    ("lumen", "Update dependencies and make the tests pass", None, "dependency-updates"),
    ("lumen", "Write tests for parseQuery and toQuery", "tester", None),
    ("atlas-etl", "Deduplicate positions that arrive twice within a minute", "fixer", "bug-triage"),
    ("atlas-etl", "Make copy_rows go on after a lost connection", None, None),
    ("atlas-etl", "Review the quality checks and list false alarms", "reviewer", "nightly-review"),
    ("atlas-etl", "Interpolate wind between two models", None, None),
    ("atlas-etl", "Test gaps of an hour and of a day", "tester", None),
    ("atlas-etl", "Update dependencies and make the tests pass", None, "dependency-updates"),
    ("quill", "Group commits by scope and then by kind", None, None),
    ("quill", "Escape what Markdown would take for a link", "fixer", "bug-triage"),
    ("quill", "Fold fixup commits into what they fix", None, None),
    ("quill", "Review exit codes and describe them in the README", "reviewer", "nightly-review"),
    ("quill", "Read flags from the environment too", None, None),
)

#: Accounts that hand over work: their ids are 1 and up.
ASKING = 3

Fate = Literal[
    "merged", "nothing", "stopped", "agent_error", "timeout", "no_progress", "max_turns", "budget", "policy", "not_started",
    "lost", "kept", "conflict",
]  # fmt: skip

_MERGED: Sequence[Fate] = ("merged", "merged")
#: What became of them, most of it good; each kind of failure at least once in a week.
FATES: Sequence[Fate] = (
    *_MERGED, *_MERGED, *_MERGED, "agent_error", *_MERGED, "stopped", "merged", "nothing", "merged", "timeout", *_MERGED,
    "budget", *_MERGED, "merged", "max_turns", "merged", "policy", *_MERGED, "no_progress", *_MERGED, "not_started", "merged",
    "agent_error", *_MERGED, "merged", "stopped", "merged", "lost", "merged",
)  # fmt: skip

ERRORS: dict[str, str] = {
    "agent_error": "API Error: 529 Overloaded. The API is at capacity; this is usually temporary.",
    "timeout": "the agent ran longer than 7,200 s (agent.wall_clock)",
    "no_progress": "neither output nor CPU time for 1,200 s (agent.no_progress)",
    "max_turns": "Reached maximum number of turns ({turns})",
    "budget": "Reached maximum budget ({budget})",
    "policy": "Agent made file changes without committing: {files}",
    "not_started": "cannot start claude: it is not on PATH; install it or name it by its full path",
    "lost": "the agent ended without a result, and how is not known",
}


@dataclass(frozen=True, slots=True)
class Order:
    project: Project
    description: str
    agent_type: str | None
    workflow: str | None


def error_of(fate: Fate, project: Project, *, turns: int, dollars: float) -> str | None:
    """What is said of a task that failed so in this project, after so many turns; None: it did not fail."""
    said = ERRORS.get("timeout" if fate == "kept" else fate)
    if said is None:
        return None
    budget = max(1, int(dollars * 100)) / 100
    return said.format(files=", ".join(sorted(project.files[:2])), turns=turns, budget=f"${budget:.2f}")


def orders(rng: random.Random) -> list[Order]:
    """All there are, in some order."""
    projects = {one.name: one for one in PROJECTS}
    found = [Order(projects[name], text, agent, workflow) for name, text, agent, workflow in _ORDERS]
    rng.shuffle(found)
    return found
