"""What a person may ask for, checked before anything is stored. Pure, but for the current folder and the home folder."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from tasks.manager.store import LONGEST_TEXT, storable
from tasks.words import Failure, TaskPriority, TaskStatus

#: Characters of a name: model, agent type, workflow.
LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """A task that can be stored."""

    user_id: int
    #: the prompt, word for word
    description: str
    model: str | None
    #: absolute
    workspace: str | None
    agent_type: str | None
    workflow: str | None
    priority: TaskPriority
    isolate: bool
    budget_usd: float | None
    max_turns: int | None


def asked(
    user_id: int,
    description: str,
    *,
    model: str | None,
    workspace: str | os.PathLike[str] | None,
    agent_type: str | None,
    workflow: str | None,
    priority: TaskPriority | int | str,
    isolate: bool,
    budget_usd: float | None,
    max_turns: int | None,
) -> Asked:
    """Raises ValueError saying which value is wrong, and what would be right."""
    if isinstance(user_id, bool) or not isinstance(user_id, int) or not -(1 << 63) <= user_id < 1 << 63:
        raise ValueError(f"user_id = {user_id!r}: a whole number is needed")
    if budget_usd is not None and not (isinstance(budget_usd, int | float) and 0 < budget_usd < math.inf):
        raise ValueError(f"budget_usd = {budget_usd!r}: dollars above 0 are needed")
    if max_turns is not None and not (isinstance(max_turns, int) and 0 < max_turns < 1 << 31):
        raise ValueError(f"max_turns = {max_turns!r}: a number above 0 is needed")
    return Asked(
        user_id=user_id,
        description=_prompt(description),
        model=_name("model", model),
        workspace=None if workspace is None else folder(workspace),
        agent_type=_name("agent_type", agent_type),
        workflow=_name("workflow", workflow),
        priority=_priority(priority),
        isolate=bool(isolate),
        budget_usd=None if budget_usd is None else float(budget_usd),
        max_turns=max_turns,
    )


def folder(path: str | os.PathLike[str]) -> str:
    """The absolute path as text; `~` is the home folder. Links are left as they are. Raises ValueError."""
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text or text != storable(text):
        raise ValueError(f"workspace = {text!r}: the path of a folder, in UTF-8, is needed")
    return str(Path(text).expanduser().absolute())


def status(value: TaskStatus | str) -> TaskStatus:
    """Raises ValueError naming the statuses there are."""
    try:
        return TaskStatus(value)
    except ValueError:
        raise ValueError(f"status = {value!r}: accepted are {', '.join(TaskStatus)}") from None


def failure(value: Failure | str) -> Failure:
    """Raises ValueError naming the failures there are."""
    try:
        return Failure(value)
    except ValueError:
        raise ValueError(f"failure = {value!r}: accepted are {', '.join(Failure)}") from None


def _prompt(text: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise ValueError("the description is empty: say what is to be done")
    if "\0" in text:
        raise ValueError("the description holds a NUL character: remove it")
    text = storable(text)
    if len(text) > LONGEST_TEXT or len(text.encode()) > LONGEST_TEXT:
        raise ValueError(f"the description is longer than {LONGEST_TEXT} bytes: put it into a file and name that")
    return text


def _name(what: str, value: str | None) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME or not value.isprintable():
        raise ValueError(f"{what} = {value!r}: a name of 1 to {LONGEST_NAME} printable characters is needed")
    return value


def _priority(value: TaskPriority | int | str) -> TaskPriority:
    try:
        return TaskPriority[value.upper()] if isinstance(value, str) else TaskPriority(value)
    except (KeyError, ValueError):
        names = ", ".join(one.name.lower() for one in TaskPriority)
        raise ValueError(f"priority = {value!r}: accepted are {names}") from None
