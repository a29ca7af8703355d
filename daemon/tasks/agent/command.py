"""The command line of an agent. The prompt is never in it: it goes in by stdin, where `ps` does not show it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.config import AgentSettings

#: What stands for a value in the words of a configured command; braces around anything else are left alone.
_PLACEHOLDER = re.compile(r"\{(session|model|session_option)\}")


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start an agent."""

    argv: tuple[str, ...]
    #: added to what it inherits
    environ: Mapping[str, str] = field(default_factory=dict)


def launch(
    settings: AgentSettings,
    *,
    session: str,
    program: str | None = None,
    resume: bool = False,
    model: str | None = None,
    budget_usd: float | None = None,
    max_turns: int | None = None,
    hooks: Mapping[str, object] | None = None,
    instructions: str = "",
) -> Launch:
    """The call for one run. `model`, `budget_usd` and `max_turns` come before those of the settings; 0 means no limit.

    The client counts dollars and turns of this one process, also when it goes on with a session.

    Without a configured command it is the Claude Code client `program` (default: `claude`). `session` is a UUID; the
    client refuses one that it has seen before, unless `resume` says to go on with it. `instructions` go into the system
    prompt, before those of the settings. `hooks` is the table of that name
    in a settings file: the client runs them beside the user's own, and what both name (same command) once.

    A configured command is taken word for word. In it `{session}` stands for the session, `{model}` for the model (may be
    empty) and `{session_option}` for `--session-id` or `--resume`; nothing else of the arguments above reaches it.
    """
    model = model or settings.model
    option = "--resume" if resume else "--session-id"
    if settings.command:
        values = {"session": session, "model": model, "session_option": option}
        argv = tuple(_PLACEHOLDER.sub(lambda match: values[match[1]], word) for word in settings.command)
        return Launch(argv, dict(settings.environment))
    argv = (program or "claude", "-p", "--output-format", "stream-json", "--verbose", option, session)
    budget_usd = settings.budget_usd if budget_usd is None else budget_usd
    max_turns = settings.max_turns if max_turns is None else max_turns
    system = "\n\n".join(filter(None, (instructions, settings.append_system_prompt)))
    options = _options(settings, model, budget_usd, max_turns, hooks, system)
    return Launch((*argv, *options), dict(settings.environment))


def resumable(settings: AgentSettings) -> bool:
    """Whether a run can go on with the session of an earlier one: of configured commands those with {session_option}."""
    return not settings.command or any("{session_option}" in word for word in settings.command)


def _options(
    settings: AgentSettings,
    model: str,
    budget_usd: float,
    max_turns: int,
    hooks: Mapping[str, object] | None,
    system: str,
) -> list[str]:
    """Options with `=`: a value that begins with a dash stays a value."""
    options = [f"--permission-mode={settings.permission_mode}"]
    if model:
        options.append(f"--model={model}")
    if budget_usd:
        options.append(f"--max-budget-usd={budget_usd}")
    if max_turns:
        options.append(f"--max-turns={max_turns}")
    if system:
        options.append(f"--append-system-prompt={system}")
    if hooks:
        options.append(f"--settings={json.dumps({'hooks': hooks})}")
    # These two take every word up to the next option.
    if settings.allowed_tools:
        options += ["--allowedTools", *settings.allowed_tools]
    if settings.disallowed_tools:
        options += ["--disallowedTools", *settings.disallowed_tools]
    return options
