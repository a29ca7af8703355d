"""The tables of the config file: every setting, its default and what it means."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.words import Dirt, PrivacyLevel, RuleMode

#: Marks a number for which 0 is a value of its own: no limit, or never.
_MAY_BE_0 = {"zero": True}


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    max_files: int = 100_000
    max_bytes: int = 1 << 30
    #: one event; a 2 MiB Write makes an event of 4.2 MB
    max_event_bytes: int = 64 << 20
    quarantine_max_files: int = 10_000
    quarantine_max_bytes: int = 100 << 20
    #: raw payloads in quarantine hold unredacted text
    quarantine_max_days: int = 7


@dataclass(frozen=True, slots=True)
class PrivacySettings:
    level: PrivacyLevel = PrivacyLevel.DEFAULT


@dataclass(frozen=True, slots=True)
class LogSettings:
    level: str = field(default="info", metadata={"accepted": ("debug", "info", "warning", "error")})
    #: auto: journal fields under systemd, text otherwise
    format: str = field(default="auto", metadata={"accepted": ("auto", "text", "json")})


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    #: nightly backups kept
    backups: int = 7


@dataclass(frozen=True, slots=True)
class TranscriptSettings:
    """Reading the client's transcripts, where tokens and money come from."""

    #: read them as they grow
    follow: bool = True
    #: folder of the client's projects, for `tasksd backfill`; empty: $CLAUDE_CONFIG_DIR/projects, else ~/.claude/projects
    projects: str = ""
    #: seconds that hooks have to report a call before it is taken over from the transcript
    grace: int = 60


@dataclass(frozen=True, slots=True)
class CostSettings:
    #: IANA zone whose days costs are summed by; empty: the machine's own
    zone: str = ""
    #: difference between our figure and the client's above which it is shown, in percent
    drift: float = 5.0


@dataclass(frozen=True, slots=True)
class PriceSettings:
    """`[prices.models.NAME]`: dollars per million tokens, instead of the price list's; `[prices.multipliers]`."""

    #: model (exact, or a beginning that ends in `*`) → input, output, cache_read, cache_write_5m, cache_write_1h (dollars per
    #: million tokens), web_search (dollars per thousand)
    models: Mapping[str, Mapping[str, float]] = field(default_factory=dict, metadata={"numbers": 2})
    #: modifier (fast, batch, geo_us …) → factor on every rate
    multipliers: Mapping[str, float] = field(default_factory=dict, metadata={"numbers": 1})


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """What is pruned when. Roll-ups, money and tasks are kept for ever; 0: never pruned."""

    #: days that parameters, error texts and event bodies are kept
    bodies: int = field(default=30, metadata=_MAY_BE_0)
    #: days that rows of events, calls, files and status changes are kept
    rows: int = field(default=365, metadata=_MAY_BE_0)
    #: bytes that the database may take; beyond, the oldest bodies and then the oldest rows go
    max_bytes: int = field(default=0, metadata=_MAY_BE_0)


@dataclass(frozen=True, slots=True)
class OtlpSettings:
    """Traces pushed to an OpenTelemetry collector (needs the extra `otlp`); off while `endpoint` is empty."""

    #: such as http://127.0.0.1:4318/v1/traces
    endpoint: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    #: seconds between two pushes
    interval: int = 10


@dataclass(frozen=True, slots=True)
class WebSettings:
    """The web page, and the API behind a login, on loopback."""

    enabled: bool = False
    host: str = field(default="127.0.0.1", metadata={"accepted": ("127.0.0.1", "::1")})
    #: 0: any that is free
    port: int = field(default=7447, metadata=_MAY_BE_0)
    #: of bcrypt: each step doubles the time that a login, and a guess, takes
    password_cost: int = 12


@dataclass(frozen=True, slots=True)
class PoolSettings:
    #: agents at work at once
    max_agents: int = 3
    #: tasks that may wait
    queue_size: int = 1000
    #: seconds of waiting that raise a task by one priority; 0: never
    ageing: int = field(default=900, metadata=_MAY_BE_0)
    #: agents at work at once in one workspace; 0: no limit of its own
    per_workspace: int = field(default=0, metadata=_MAY_BE_0)
    #: bytes that must be free on the disk of the data directory before an agent starts; 0: not checked
    free_disk: int = field(default=1 << 30, metadata=_MAY_BE_0)


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """How agents are run; `[agent]` for all, `[agent.types.NAME]` for those of one type."""

    #: the program and its arguments; empty: the Claude Code client with the options below
    command: tuple[str, ...] = ()
    #: how its output is read: stream-json (success is what its last `result` line says) or text (the exit status decides)
    output: str = field(default="stream-json", metadata={"accepted": ("stream-json", "text")})
    model: str = ""
    permission_mode: str = field(
        default="acceptEdits",
        metadata={"accepted": ("acceptEdits", "bypassPermissions", "default", "dontAsk", "plan", "auto")},
    )
    #: beyond what the permission mode allows; nobody is there to ask. The default lets an agent commit, and not push
    allowed_tools: tuple[str, ...] = (
        "Bash(git add:*)",
        "Bash(git commit:*)",
        "Bash(git diff:*)",
        "Bash(git log:*)",
        "Bash(git mv:*)",
        "Bash(git rm:*)",
        "Bash(git show:*)",
        "Bash(git status:*)",
    )
    disallowed_tools: tuple[str, ...] = ()
    append_system_prompt: str = ""
    #: dollars one run may spend; 0: no limit
    budget_usd: float = field(default=0.0, metadata=_MAY_BE_0)
    max_turns: int = field(default=0, metadata=_MAY_BE_0)
    #: seconds one run may take
    wall_clock: int = 7200
    #: seconds without output and without CPU time
    no_progress: int = 1200
    #: the same after the result, for a client that does not end
    result_grace: int = 60
    #: bytes of output one run may write
    output_bytes: int = 64 << 20
    #: a git worktree of its own for every task
    isolation: bool = True
    #: agents of this type at work at once; 0: no limit of its own
    max_agents: int = field(default=0, metadata=_MAY_BE_0)
    #: run by /bin/sh in a new worktree before the agent starts
    setup: str = ""
    setup_timeout: int = 600
    #: added to what the agent inherits
    environment: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, "AgentSettings"] = field(default_factory=dict, metadata={"per_type": True})

    def of(self, agent_type: str | None) -> "AgentSettings":
        return self.types.get(agent_type or "", self)


@dataclass(frozen=True, slots=True)
class EnforcementSettings:
    """The rules for commits; `[enforcement]` for all, `[enforcement.types.NAME]` for agents of one type."""

    #: a dirty workspace before a task
    pre_task: RuleMode = RuleMode.BLOCK
    #: changes that the agent did not commit
    post_task: RuleMode = RuleMode.WARN
    #: what counts as dirty
    dirty: tuple[str, ...] = field(
        default=("staged", "unstaged", "untracked", "submodules", "in_progress"), metadata={"accepted": tuple(Dirt)}
    )
    #: patterns of paths that never count (as in .gitignore, without negation)
    exempt: tuple[str, ...] = ()
    #: a task without any commit does not pass either
    commits_required: bool = False
    types: Mapping[str, "EnforcementSettings"] = field(default_factory=dict, metadata={"per_type": True})

    def of(self, agent_type: str | None) -> "EnforcementSettings":
        return self.types.get(agent_type or "", self)


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """What hooks/guard does in a person's own sessions, once `tasksd hooks install --guard` has switched it on."""

    #: a dirty workspace when a prompt is sent
    prompt: RuleMode = RuleMode.WARN
    #: changes without a commit when the agent stops
    stop: RuleMode = RuleMode.BLOCK
    #: how often one prompt's stop is sent back
    stop_times: int = 2
    #: a commit on one of `protected_branches`
    commit: RuleMode = RuleMode.BLOCK
    protected_branches: tuple[str, ...] = ("main", "master")


@dataclass(frozen=True, slots=True)
class GitSettings:
    #: merge: finished work is merged back; keep: its branch is left for a person
    merge: str = field(default="merge", metadata={"accepted": ("merge", "keep")})
    #: seconds for one git command; checkouts of a large repository get ten times as long
    timeout: int = 60
    #: seconds between two tries of a merge that waits
    retry: int = 15
    #: names the ignored files that a new worktree gets a copy of, in the form of .gitignore
    include_file: str = ".worktreeinclude"
