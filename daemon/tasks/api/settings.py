"""/v1/settings: the settings in force, without secrets."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from tasks import config
from tasks.api.access import Ctx
from tasks.config import Settings
from tasks.redaction import Redactor
from tasks.words import PrivacyLevel

router = APIRouter(tags=["status"])

#: Tables whose values are nobody's business: that there is one is all that is told.
_SECRET = {("otlp", "headers"), ("agent", "environment")}


class Setting(BaseModel):
    #: table of the config file; agent.types.NAME and enforcement.types.NAME: what holds for agents of one type
    section: str
    key: str
    #: number, text, true or false, list of texts, or table; of tables with secrets every value is "set"
    value: Any
    #: what it is when nobody sets it; for one type of agent: what holds for all
    default: Any
    changed: bool


class SettingsInForce(BaseModel):
    config_file: str
    data_dir: str
    #: of a type of agent, only what differs from what holds for all
    settings: list[Setting]


@router.get("/settings")
async def read_settings(ctx: Ctx) -> SettingsInForce:
    """What the daemon was started with; a later change of the file is not in it."""
    clean = Redactor(config.secret_key(ctx.settings), PrivacyLevel.FULL).text
    return SettingsInForce(
        config_file=clean(_printable(ctx.settings.config_file)),
        data_dir=clean(_printable(ctx.settings.data_dir)),
        settings=list(_all(ctx.settings, clean)),
    )


def _all(settings: Settings, clean: Callable[[str], str]) -> Iterator[Setting]:
    for section in fields(Settings):
        if section.name in ("data_dir", "config_file"):
            continue
        chosen = getattr(settings, section.name)
        default: Any = section.default_factory() if callable(section.default_factory) else None
        yield from _compared(section.name, section.name, chosen, default, clean)
        for name, of_type in getattr(chosen, "types", {}).items():
            every = _compared(section.name, f"{section.name}.types.{name}", of_type, chosen, clean)
            yield from (one for one in every if one.changed)


def _compared(table: str, section: str, chosen: Any, default: Any, clean: Callable[[str], str]) -> Iterator[Setting]:
    for key in fields(chosen):
        if key.metadata.get("per_type"):
            continue
        value, usual = getattr(chosen, key.name), getattr(default, key.name)
        secret = (table, key.name) in _SECRET
        yield Setting(
            section=clean(section),
            key=key.name,
            value=_shown(value, clean, secret=secret),
            default=_shown(usual, clean, secret=secret),
            changed=value != usual,
        )


def _shown(value: Any, clean: Callable[[str], str], *, secret: bool) -> Any:
    if isinstance(value, Mapping):
        return {clean(name): "set" if secret else _shown(one, clean, secret=False) for name, one in value.items()}
    if isinstance(value, str):
        return clean(str(value))
    if isinstance(value, tuple):
        return [_shown(one, clean, secret=secret) for one in value]
    return value


def _printable(path: os.PathLike[str]) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")
