"""From what the file, the environment and the options say to the values of one table; nothing is guessed."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from tasks.errors import ConfigError
from tasks.words import PrivacyLevel, RuleMode


def section(
    kind: type[Any],
    name: str,
    table: dict[str, Any],
    environ: Mapping[str, str],
    overrides: Mapping[str, str],
    config_file: Path,
) -> Any:
    """One table of the file with what the environment and the options say instead."""
    defaults = kind()
    types = _pop_types(kind, name, table, config_file)
    found = _filled(defaults, name, table, config_file)
    chosen: dict[str, Any] = {}
    for key in fields(kind):
        if key.metadata.get("per_type"):
            continue
        variable = f"TASKSD_{name}_{key.name}".upper()
        if (option := overrides.get(f"{name}_{key.name}")) is not None:
            chosen[key.name] = _convert(option, getattr(defaults, key.name), f"option {name}.{key.name}", key.metadata)
        elif variable in environ:
            where = f"environment {variable}"
            chosen[key.name] = _convert(environ[variable], getattr(defaults, key.name), where, key.metadata)
    found = replace(found, **chosen)
    if types:
        per_type = {one: _filled(found, f"{name}.types.{one}", part, config_file) for one, part in types.items()}
        found = replace(found, types=per_type)
    return found


def _pop_types(kind: type[Any], name: str, table: dict[str, Any], config_file: Path) -> dict[str, dict[str, Any]]:
    if not any(key.metadata.get("per_type") for key in fields(kind)):
        return {}
    types = table.pop("types", {})
    if not isinstance(types, dict) or not all(isinstance(part, dict) for part in types.values()):
        raise ConfigError(f"{config_file}: [{name}.types] must hold tables, one for each type: [{name}.types.NAME]")
    return types


def _filled(section: Any, name: str, table: dict[str, Any], config_file: Path) -> Any:
    """`section` with the values of a table in place of its own."""
    known = [key for key in fields(section) if not key.metadata.get("per_type")]
    if unknown := set(table) - {key.name for key in known}:
        accepted = ", ".join(key.name for key in known)
        raise ConfigError(f"{config_file}: unknown key {name}.{sorted(unknown)[0]}; accepted are {accepted}")
    return replace(
        section,
        **{
            key.name: _convert(
                table[key.name], getattr(section, key.name), f"{config_file}: {name}.{key.name}", key.metadata
            )
            for key in known
            if key.name in table
        },
    )


def _convert(value: Any, default: Any, where: str, metadata: Mapping[str, Any]) -> Any:
    """Bring a text or TOML value to the type of the default. `metadata`: the accepted texts; whether 0 is a number too."""
    accepted = metadata.get("accepted", ())
    if levels := metadata.get("numbers"):
        return _numbers(value, where, levels)
    match default:
        case PrivacyLevel() | RuleMode():
            return _word(value, type(default), where)
        case bool():
            return _flag(value, where)
        case int() | float():
            return _number(value, type(default), where, zero=metadata.get("zero", False))
        case tuple():
            return _texts(value, where, accepted)
        case str():
            return _text(value, where, accepted)
        case _:
            if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
                raise ConfigError(f"{where} = {value!r}: a table of texts is needed")
            return dict(value)


def _numbers(value: Any, where: str, levels: int) -> dict[str, Any]:
    """A table of numbers, or (2 levels) a table of such tables."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where} = {value!r}: a table is needed")
    if levels > 1:
        return {key: _numbers(part, f"{where}.{key}", levels - 1) for key, part in value.items()}
    return {key: float(_number(number, float, f"{where}.{key}", zero=True)) for key, number in value.items()}


def _word(value: Any, words: type[StrEnum], where: str) -> StrEnum:
    try:
        return words(value)
    except ValueError:
        raise ConfigError(f"{where} = {value!r}: accepted are {', '.join(words)}") from None


def _flag(value: Any, where: str) -> bool:
    if isinstance(value, str):
        value = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(value.lower())
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: true or false is needed")
    return value


def _number(value: Any, kind: type[int] | type[float], where: str, *, zero: bool) -> int | float:
    needed = ("a whole number" if kind is int else "a number") + (" of 0 or more" if zero else " above 0")
    refused = (bool, float) if kind is int else (bool,)
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{where} = {value!r}: {needed} is needed") from None
    if isinstance(value, refused) or not (0 if zero else 1e-9) <= number < 1 << 62:
        raise ConfigError(f"{where} = {value!r}: {needed} is needed")
    return number


def _texts(value: Any, where: str, accepted: Sequence[str]) -> tuple[str, ...]:
    """A list of texts; in the environment they are separated by commas."""
    if isinstance(value, str):
        value = [one.strip() for one in value.split(",") if one.strip()]
    if not isinstance(value, list):
        raise ConfigError(f"{where} = {value!r}: a list of texts is needed")
    return tuple(_text(one, where, accepted) for one in value)


def _text(value: Any, where: str, accepted: Sequence[str]) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{where} = {value!r}: text is needed")
    if accepted and value not in accepted:
        raise ConfigError(f"{where} = {value!r}: accepted are {', '.join(accepted)}")
    return value
