"""Settings: one's own account and, for those who may, everybody's; rules, retention, settings in force, doctor, audit."""

import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any

from fastapi import HTTPException

from tasks.api.audit import AuditEntry, read_audit
from tasks.api.doctor import Diagnosis, doctor_of
from tasks.api.quarantine import QuarantineContent, QuarantineEntry, list_quarantine, read_quarantined
from tasks.api.rules import API_RULES
from tasks.api.settings import SettingsInForce, read_settings
from tasks.api.status import read_status
from tasks.api.users import list_logins, list_users
from tasks.api.verdicts import list_verdicts
from tasks.config import EnforcementSettings
from tasks.users import accounts, logins
from tasks.web.frame import Data, Look, Page
from tasks.web.kept import Kept
from tasks.web.tables import Table
from tasks.words import Role

#: Rows of one table.
MOST = 100
#: Seconds after which the doctor looks again by itself, for as long as somebody reads what was found.
STALE = 600.0
#: What is written into the audit log besides the requests of API_RULES.
_DEEDS = (
    "login", "login_failed", "POST /logout", "users.create", "users.password", "users.role", "users.disable",
    "users.enable", "users.remove", "users.logout", "users.rotate-key",
)  # fmt: skip

#: Mark in what a browser calls itself → its name; most of them carry the marks of those further down, too.
_BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS = (
    ("Android", "Android"), ("iPhone", "iOS"), ("iPad", "iOS"), ("Windows", "Windows"), ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)  # fmt: skip

#: View → its words and who may see it.
VIEWS: Mapping[str, tuple[str, Role]] = {
    "account": ("Account", Role.VIEWER),
    "users": ("Users", Role.ADMIN),
    "rules": ("Rules", Role.VIEWER),
    "retention": ("Retention", Role.VIEWER),
    "settings": ("All settings", Role.VIEWER),
    "doctor": ("Doctor", Role.OPERATOR),
    "quarantine": ("Quarantine", Role.OPERATOR),
    "audit": ("Audit", Role.ADMIN),
}

_settings: Kept[SettingsInForce] = Kept(60.0)
_quarantine: Kept[list[QuarantineEntry]] = Kept(2.0)


async def load(look: Look) -> Data:
    view = look.choice("view", list(VIEWS))
    role = VIEWS[view][1]
    if not look.who.role.covers(role):
        raise HTTPException(403, f"{look.who.username} is {look.who.role}; this takes {role}")
    views = [(name, label) for name, (label, takes) in VIEWS.items() if look.who.role.covers(takes)]
    return {"view": view, "views": views} | await _LOADS[view](look)


async def _account(look: Look) -> Data:
    user_id = look.who.user_id
    if user_id is None:
        raise HTTPException(404, "the user that the daemon runs as has no account")
    return {
        "own": await look.ctx.database.read(lambda reader: accounts.by_id(reader.query, user_id)),
        "logins": await list_logins(look.ctx, look.who, every=False),
        "hours": logins.ABSOLUTE / 1000,
        "idle": logins.IDLE / 1000,
        "program": program,
    }


async def _users(look: Look) -> Data:
    return {
        "users": await list_users(look.ctx),
        "logins": await list_logins(look.ctx, look.who, every=True),
        "roles": list(Role),
        "program": program,
    }


async def _rules(look: Look) -> Data:
    """What holds for all, and what each type of agent has instead."""
    rules = look.ctx.settings.enforcement
    names = [one.name for one in fields(EnforcementSettings) if not one.metadata.get("per_type")]
    return {
        "rules": [(name, getattr(rules, name)) for name in names],
        "types": [
            (type_, [(name, getattr(own, name)) for name in names if getattr(own, name) != getattr(rules, name)])
            for type_, own in sorted(rules.types.items())
        ],
        "guard": list(asdict(look.ctx.settings.guard).items()),
        "verdicts": await list_verdicts(look.ctx, task=None, days=None, limit=MOST),
        "most": MOST,
    }


async def _retention(look: Look) -> Data:
    settings = look.ctx.settings
    return {
        "kept": (await read_status(look.ctx)).retention,
        "retention": settings.retention,
        "spool": settings.spool,
        "backups": settings.database.backups,
        "logins_kept": logins.KEPT,
        "privacy": settings.privacy.level,
    }


async def _in_force(look: Look) -> Data:
    found = await _settings.get(id(look.ctx), lambda: read_settings(look.ctx))
    sections = [(name, list(ones)) for name, ones in itertools.groupby(found.settings, key=lambda one: one.section)]
    return {"found": found, "sections": sections, "changed": sum(one.changed for one in found.settings)}


async def _doctor(look: Look) -> Data:
    """What was found the last time: a look takes seconds, and nobody waits for it here."""
    doctor = doctor_of(look.ctx)
    doctor.look_ahead(STALE)
    last = doctor.last
    is_known = isinstance(last, Diagnosis)
    return {"diagnosis": last if is_known else None, "trouble": "" if is_known else last, "looks": doctor.looks}


async def _quarantined(look: Look) -> Data:
    entries = await _quarantine.get(id(look.ctx), lambda: list_quarantine(look.ctx))
    shown: QuarantineContent | None = None
    if (id_ := look.query.get("id")) and look.may("admin"):
        shown = await read_quarantined(look.ctx, id_)
    return {"entries": entries[-MOST:][::-1], "total": len(entries), "shown": shown, "spool": look.ctx.settings.spool}


async def _audit(look: Look) -> Data:
    deeds = await _deeds(look, MOST + 1)
    filters = {name: look.query.get(name, "")[:200] for name in ("user", "action")}
    actions = sorted({*_DEEDS, *(f"{rule.method} {rule.path}" for rule in API_RULES if rule.writes)})
    return {
        "deeds": deeds[:MOST],
        "older": deeds[MOST - 1].id if len(deeds) > MOST else None,
        "is_first": not look.query.get("before"),
        "filters": filters,
        "actions": actions,
        "users": await list_users(look.ctx),
    }


async def _deeds(look: Look, limit: int) -> list[AuditEntry]:
    before = look.number("before", 0, most=999_999_999)
    return await read_audit(
        look.ctx,
        user=look.query.get("user", "")[:256] or None,
        action=look.query.get("action", "")[:256] or None,
        days=None,
        before=before or None,
        limit=limit,
    )


async def _audit_rows(look: Look) -> Iterable[Mapping[str, Any]]:
    return [one.model_dump() for one in await _deeds(look, 1000)]


def program(client: str | None) -> str:
    """What a browser calls itself, in short; whatever is no browser as it is."""
    said = client or ""
    name = next((name for mark, name in _BROWSERS if mark in said), None)
    if name is None:
        return said
    system = next((name for mark, name in _SYSTEMS if mark in said), "")
    return f"{name} on {system}" if system else name


_LOADS: Mapping[str, Callable[[Look], Awaitable[Data]]] = {
    "account": _account,
    "users": _users,
    "rules": _rules,
    "retention": _retention,
    "settings": _in_force,
    "doctor": _doctor,
    "quarantine": _quarantined,
    "audit": _audit,
}

PAGES = (Page("/settings", "settings", "Settings", load, tuple(VIEWS), personal=True),)
TABLES = (Table("/audit.csv", tuple(AuditEntry.model_fields), _audit_rows, role=Role.ADMIN),)
