"""`[prices.models]` and `[prices.multipliers]` of the config, checked."""

import math
from collections.abc import Mapping
from decimal import Decimal

from tasks.config import PriceSettings
from tasks.errors import ConfigError
from tasks.prices.names import Name
from tasks.prices.rates import WEB_SEARCHES, Dollars

_KEYS = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "web_search")
#: What Anthropic takes for the cache, against the price of plain input.
_CACHE = {"cache_read": Decimal("0.1"), "cache_write_5m": Decimal("1.25"), "cache_write_1h": Decimal(2)}
#: Dollars per million tokens or thousand searches, and factors: beyond, sums would leave 64 bits, and no price is that high.
_HIGHEST = 100_000
_HIGHEST_FACTOR = 1_000


class Overrides:
    """What the config says a model costs. Raises ConfigError naming the key."""

    def __init__(self, settings: PriceSettings) -> None:
        self._exact: dict[str, tuple[str, Dollars]] = {}
        self._beginnings: list[tuple[str, str, Dollars]] = []
        for model, table in settings.models.items():
            dollars = _dollars(model, table)
            lower = model.strip().lower()
            if "*" in lower[:-1] or lower in ("", "<synthetic>"):
                raise ConfigError(
                    f"prices.models.{model}: a model's name, or its beginning and one * at the end, is needed"
                )
            if lower.endswith("*"):
                self._beginnings.append((lower[:-1], model, dollars))
            else:
                self._exact[lower] = (model, dollars)
        self._beginnings.sort(key=lambda one: (-len(one[0]), one[0]))
        self.multipliers = {
            word: _number(f"prices.multipliers.{word}", value, _HIGHEST_FACTOR)
            for word, value in settings.multipliers.items()
        }

    def find(self, name: Name) -> tuple[str, Dollars] | None:
        """The key of the config and its prices: the exact name before the longest beginning."""
        for spelling in name.spellings:
            if found := self._exact.get(spelling):
                return found
        for beginning, model, dollars in self._beginnings:
            if any(spelling.startswith(beginning) for spelling in name.spellings):
                return model, dollars
        return None


def _dollars(model: str, table: Mapping[str, float]) -> Dollars:
    where = f"prices.models.{model}"
    if unknown := sorted(set(table) - set(_KEYS)):
        raise ConfigError(f"{where}: unknown key {unknown[0]}; accepted are {', '.join(_KEYS)}")
    if missing := [key for key in ("input", "output") if key not in table]:
        raise ConfigError(f"{where}: {missing[0]} is missing: dollars per million tokens")
    given = {key: _number(f"{where}.{key}", value, _HIGHEST) for key, value in table.items()}
    derived = {key: given["input"] * factor for key, factor in _CACHE.items()}
    return Dollars(**{"web_search": WEB_SEARCHES, **derived, **given})


def _number(where: str, value: object, highest: int) -> Decimal:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or not 0 <= value <= highest
    ):
        raise ConfigError(f"{where} = {value!r}: a number from 0 to {highest:,} is needed")
    return Decimal(repr(value))
