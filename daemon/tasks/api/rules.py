"""Who may ask for what: every route with the role that it takes. A route that is not in this table is refused to everybody
but the owner on the Unix socket, whatever it does.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tasks.words import Role

#: Methods that change nothing.
SAFE = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Rule:
    method: str
    #: the path as the route spells it
    path: str
    #: None: nobody has to be logged in
    role: Role | None
    #: only on the Unix socket
    socket_only: bool = False
    #: a form of a page, which brings its token along with its fields and is checked by whoever reads these
    form: bool = False

    @property
    def writes(self) -> bool:
        return self.method not in SAFE


def _rules(role: Role | None, routes: str, *, socket_only: bool = False, form: bool = False) -> list[Rule]:
    lines = [line.split() for line in routes.strip().splitlines()]
    return [Rule(method, path, role, socket_only, form) for method, path in lines]


API_RULES = (
    *_rules(
        None,
        """
        POST /v1/login
        """,
    ),
    *_rules(
        Role.VIEWER,
        """
        GET /openapi.json
        GET /metrics
        GET /v1/status
        GET /v1/sessions
        GET /v1/sessions/{session_uuid}
        GET /v1/sessions/{session_uuid}/calls
        GET /v1/sessions/{session_uuid}/turns
        GET /v1/sessions/{session_uuid}/tree
        GET /v1/tasks
        GET /v1/tasks/{task_id}
        GET /v1/tasks/{task_id}/activity
        GET /v1/tasks/{task_id}/calls
        GET /v1/tasks/{task_id}/conflict
        GET /v1/tasks/{task_id}/diff
        GET /v1/tasks/{task_id}/logs
        GET /v1/pool
        GET /v1/tools
        GET /v1/errors
        GET /v1/errors/recent
        GET /v1/events
        GET /v1/verdicts
        GET /v1/stats/tools
        GET /v1/stats/tools/durations
        GET /v1/stats/tools/by/{dimension}
        GET /v1/stats/workflows
        GET /v1/stats/models
        GET /v1/stats/sessions
        GET /v1/stats/files
        GET /v1/stats/files/contended
        GET /v1/stats/files/session/{session_uuid}
        GET /v1/stats/agents
        GET /v1/stats/agents/session/{session_uuid}
        GET /v1/stats/errors
        GET /v1/stats/errors/by/{dimension}
        GET /v1/stats/errors/kinds
        GET /v1/stats/errors/daily
        GET /v1/stats/tasks
        GET /v1/stats/tasks/by/{dimension}
        GET /v1/costs
        GET /v1/costs/daily
        GET /v1/costs/by/{dimension}
        GET /v1/costs/projection
        GET /v1/settings
        GET /v1/me
        POST /v1/me/password
        GET /v1/logins
        DELETE /v1/logins/{login_id}
        POST /v1/logout
        POST /v1/renew
        """,
    ),
    *_rules(
        Role.OPERATOR,
        """
        POST /v1/tasks
        POST /v1/tasks/{task_id}/cancel
        POST /v1/tasks/{task_id}/retry
        POST /v1/tasks/{task_id}/merge
        POST /v1/tasks/clean
        POST /v1/pool/pause
        POST /v1/pool/resume
        POST /v1/pool/resize
        GET /v1/doctor
        GET /v1/quarantine
        POST /v1/quarantine/{id_}/retry
        """,
    ),
    *_rules(
        Role.ADMIN,
        """
        GET /v1/quarantine/{id_}
        DELETE /v1/quarantine/{id_}
        GET /v1/users
        POST /v1/users
        GET /v1/users/{name}
        DELETE /v1/users/{name}
        POST /v1/users/{name}/password
        POST /v1/users/{name}/role
        POST /v1/users/{name}/disable
        POST /v1/users/{name}/enable
        GET /v1/audit
        """,
    ),
    *_rules(
        Role.ADMIN,
        """
        POST /v1/guard
        POST /v1/dashboard
        """,
        socket_only=True,
    ),
)


class RuleBook:
    """Finds the rule of a request. Where a path fits several, one without parameters goes first."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        plain: dict[str, dict[str, Rule]] = {}
        patterns: dict[str, tuple[re.Pattern[str], dict[str, Rule]]] = {}
        for rule in rules:
            if "{" not in rule.path:
                methods = plain.setdefault(rule.path, {})
            else:
                _, methods = patterns.setdefault(rule.path, (_pattern(rule.path), {}))
            if rule.method in methods:
                raise ValueError(f"two rules for {rule.method} {rule.path}")
            methods[rule.method] = rule
        self._plain: Mapping[str, Mapping[str, Rule]] = plain
        self._patterns = list(patterns.values())

    def of(self, method: str, path: str) -> tuple[Rule | None, list[str]]:
        """The rule, and the methods that there are rules for at this path (none: there is nothing)."""
        method = "GET" if method == "HEAD" else method
        path = path.removesuffix("\n")  # routes are matched up to a `$`, which a line break may follow
        found: list[str] = []
        for methods in self._at(path):
            if method in methods:
                return methods[method], list(methods)
            found += methods
        return None, found

    def _at(self, path: str) -> Iterable[Mapping[str, Rule]]:
        if path in self._plain:
            yield self._plain[path]
        for pattern, methods in self._patterns:
            if pattern.fullmatch(path):
                yield methods


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{\w+(:path)?\}", path)
    # re.split gives the group of every parameter between the parts around it.
    literal, kinds = parts[::2], parts[1::2]
    text = re.escape(literal[0])
    for kind, after in zip(kinds, literal[1:], strict=True):
        text += (".+" if kind else "[^/]+") + re.escape(after)
    return re.compile(text, re.DOTALL)
