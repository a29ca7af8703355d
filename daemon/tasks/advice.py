"""What a person can do about a task, as commands to copy."""

from __future__ import annotations

import shlex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_AGAIN = "`tasksd retry {id}`"
_SETTING = "raise {key} in config.toml and restart the daemon, then " + _AGAIN
#: Failure → what makes the next try go better.
_REMEDIES = {
    "agent_error": "see what it said with `tasksd logs {id}`, and try again with " + _AGAIN,
    "not_started": "repair what the error names, then " + _AGAIN,
    "no_worktree": "repair what the error names, then " + _AGAIN + "; or submit it with --no-isolation",
    "timeout": _SETTING.replace("{key}", "agent.wall_clock"),
    "no_progress": "see where it hung with `tasksd logs {id}`; " + _AGAIN + ", or raise agent.no_progress before",
    "output_limit": "see what it wrote with `tasksd logs --raw {id}`; "
    + _AGAIN
    + ", or raise agent.output_bytes before",
    "lost": "its process vanished without a word; " + _AGAIN + " starts it again",
    "policy": "see what it said with `tasksd logs {id}`, do what the error names, then " + _AGAIN,
}
#: Failure → the field of a task, the option of `submit` and the setting that limit it.
_LIMITS = {
    "budget": ("budget_usd", "--budget", "agent.budget_usd"),
    "max_turns": ("max_turns", "--max-turns", "agent.max_turns"),
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
    if state == "merged":
        return ["the work has arrived; `tasksd clean` removes the worktree once it can"] * bool(one["worktree"])
    match one["status"]:
        case "failed":
            return [_remedy(one), *_left(one)]
        case "stopped":
            return [f"`tasksd retry {id_}` starts it again", *_left(one)]
        case "running":
            return [f"`tasksd logs --follow {id_}` looks on, `tasksd cancel {id_}` stops it"]
        case _:
            return []


def _remedy(one: Mapping[str, Any]) -> str:
    failure = one["failure"] or ""
    if failure not in _LIMITS:
        remedy = _REMEDIES.get(failure, _REMEDIES["agent_error"])
    else:
        field, option, key = _LIMITS[failure]
        own = f"{_AGAIN} gives it the same once more; for more submit it anew with a larger {option}"
        remedy = own if one[field] is not None else _SETTING.replace("{key}", key)
    return remedy.format(id=one["task_id"])


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
        "  cd -                       # a worktree that somebody is in is not removed",
        f"  tasksd merge {id_}{into}",
    ]


def _look(one: Mapping[str, Any]) -> list[str]:
    id_, base, branch = one["task_id"], one["base_branch"], one["branch"]
    since = base or one.get("base_commit") or "HEAD"
    log = f"log {_quoted(f'{since}..{branch}')}" if branch else ""
    merge = f"tasksd merge {id_}" if base else f"tasksd merge {id_} --into BRANCH"
    again = [f"or let it go on there: tasksd retry {id_}"] if one["status"] in ("failed", "stopped") else []
    if one["worktree"]:
        return [
            "look at what it left, commit what shall stay, then merge:",
            f"  cd {_quoted(one['worktree'])}",
            *([f"  git {log}"] if log and one["commits"] else []),
            "  git status                 # git add and git commit what shall stay",
            "  cd -                       # a worktree that somebody is in is not removed",
            f"  {merge}",
            *again,
        ]
    return [*([f"git -C {_quoted(one['workspace'])} {log}"] if one["workspace"] and log else []), merge, *again]


def _left(one: Mapping[str, Any]) -> list[str]:
    """Where work lies that was begun."""
    return [f"what it left is in {one['worktree']}"] if one["worktree"] else []


def _quoted(text: str | None) -> str:
    return shlex.quote(text or "")
