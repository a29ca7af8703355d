"""What a person can do about a task, as commands to copy."""

from __future__ import annotations

import shlex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: Failure → what makes the next try go better.
_REMEDIES = {
    "agent_error": "see what it said with `tasksd logs {id}`, and try again with `tasksd retry {id}`",
    "not_started": "repair what the error names (agent.command, or install `claude`), then `tasksd retry {id}`",
    "no_worktree": "repair what the error names, then `tasksd retry {id}`; or submit it with --no-isolation",
    "timeout": "raise agent.wall_clock, then `tasksd retry {id}`",
    "no_progress": "see where it hung with `tasksd logs {id}`; `tasksd retry {id}`, or raise agent.no_progress",
    "output_limit": "see what it wrote with `tasksd logs --raw {id}`; raise agent.output_bytes, or `tasksd retry {id}`",
    "budget": "submit it with a larger --budget, or raise agent.budget_usd and `tasksd retry {id}`",
    "max_turns": "submit it with more --max-turns, or raise agent.max_turns and `tasksd retry {id}`",
    "lost": "its process vanished without a word; `tasksd retry {id}` starts it again",
    "policy": "do what the error names, then `tasksd retry {id}`",
}


def advice(one: Mapping[str, Any]) -> list[str]:
    """Lines, most of them commands; none when nothing has to be done."""
    id_, state = one["task_id"], one["merge_state"]
    if state == "conflict":
        return _resolve(one)
    if state == "waiting":
        return [f"it is tried again by itself; `tasksd merge {id_}` tries at once"]
    if state == "kept":
        return _look(one)
    match one["status"]:
        case "failed":
            return [_REMEDIES.get(one["failure"] or "", _REMEDIES["agent_error"]).format(id=id_), *_left(one)]
        case "stopped":
            return [f"`tasksd retry {id_}` starts it again", *_left(one)]
        case "running":
            return [f"`tasksd logs --follow {id_}` looks on, `tasksd cancel {id_}` stops it"]
        case _:
            return []


def _resolve(one: Mapping[str, Any]) -> list[str]:
    id_, base = one["task_id"], one["base_branch"]
    into = "" if base else " --into BRANCH"
    if not one["worktree"]:
        return [
            "merge it by hand where the target branch is checked out:",
            f"  cd {_quoted(one['workspace'])}",
            f"  git merge {_quoted(one['branch'])}",
        ]
    return [
        "bring the two together in its worktree, then merge again:",
        f"  cd {_quoted(one['worktree'])}",
        f"  git merge {_quoted(base or 'BRANCH')}",
        "  git status                 # edit these files, then git add them",
        "  git commit --no-edit",
        f"  tasksd merge {id_}{into}",
    ]


def _look(one: Mapping[str, Any]) -> list[str]:
    id_, base, branch = one["task_id"], one["base_branch"], one["branch"]
    lines = []
    if one["workspace"] and branch:
        span = f"{base or one.get('base_commit') or 'HEAD'}..{branch}"
        lines.append(f"git -C {_quoted(one['workspace'])} log {_quoted(span)}")
    lines.append(f"tasksd merge {id_}" if base else f"tasksd merge {id_} --into BRANCH")
    return lines


def _left(one: Mapping[str, Any]) -> list[str]:
    """Where work lies that was begun."""
    return [f"what it left is in {one['worktree']}"] if one["worktree"] else []


def _quoted(text: str | None) -> str:
    return shlex.quote(text or "")
