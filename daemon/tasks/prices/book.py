"""The price of a model at a time, with modifiers, as often as asked."""

from decimal import Decimal
from typing import TypeAlias

from tasks.config import PriceSettings, Settings
from tasks.errors import ConfigError
from tasks.prices.listed import Found, PriceList
from tasks.prices.modifiers import factor, regional
from tasks.prices.names import Name, parse
from tasks.prices.overrides import Overrides
from tasks.prices.rates import Dollars, Rate

_DAY = 86_400_000
#: Distinct (model, day, modifiers) kept; names come from files that anybody may have written.
_KEPT = 50_000

#: Rates by size of context: (more than so many tokens, rate), the largest first. Empty: unpriced.
_Tiers: TypeAlias = tuple[tuple[int, Rate], ...]


class PriceBook:
    """Prices by the config and the installed list. For any number of threads; the first question of a model the config does
    not price loads the list (about a quarter of a second), others cost about a microsecond. Never opens a connection.

    Raises ConfigError, naming the key, for a price or factor that is none.
    """

    def __init__(self, settings: PriceSettings) -> None:
        self._overrides = Overrides(settings)
        self._list = PriceList()
        self._rates: dict[tuple[str, int, str], _Tiers] = {}
        self._by_minute: set[str] = set()
        #: what the list has for a model, whatever the day
        self._found: dict[str, Found | None] = {}

    @classmethod
    def of(cls, settings: Settings) -> "PriceBook":
        """Raises ConfigError naming the file as well."""
        try:
            return cls(settings.prices)
        except ConfigError as error:
            raise ConfigError(f"{settings.config_file}: {error}") from error

    def rate(self, model: str, at: int, modifiers: str = "", context_tokens: int = 0) -> Rate | None:
        """What `model` cost at `at` (ms since 1970 UTC); None: unpriced, which is not free.

        `modifiers`: words separated by blanks, in any order. `context_tokens`: input, cache reads and cache writes of the
        request together; above 200,000 some models cost more.
        """
        key = (model, at // _DAY, modifiers)
        tiers = self._rates.get(key)
        if tiers is None or model in self._by_minute:
            tiers = self._look_up(key, at)
        for start, rate in tiers:
            if context_tokens > start or start == 0:
                return rate
        return None

    def _look_up(self, key: tuple[str, int, str], at: int) -> _Tiers:
        model, _, modifiers = key
        if len(self._rates) >= _KEPT:
            self._rates.clear()
            self._found.clear()
        name = parse(model)
        tiers = self._tiers(name, model, at, modifiers) if name else ()
        if name:
            self._rates[key] = tiers
        return tiers

    def _tiers(self, name: Name, model: str, at: int, modifiers: str) -> _Tiers:
        words = sorted(set(modifiers.split()))
        if chosen := self._overrides.find(name):
            key, dollars = chosen
            return self._multiplied(name, words, [(0, dollars)], key, "config")
        if model not in self._found:
            self._found[model] = self._list.find(name)
        found = self._found[model]
        if found is None:
            return ()
        if found.within_the_day:
            self._by_minute.add(model)
        listed_fast = None
        if "fast" in words and "fast" not in self._overrides.multipliers:
            listed_fast = found.tiers(at, fast=True)
        tiers = listed_fast or found.tiers(at, fast=False)
        if tiers is None:
            return ()
        source = self._list.source if found.provider == "anthropic" else f"{self._list.source} {found.provider}"
        told = ("fast",) if listed_fast else ()
        return self._multiplied(name, words, tiers, found.model, source, told=told, found=found)

    def _multiplied(
        self,
        name: Name,
        words: list[str],
        tiers: list[tuple[int, Dollars]],
        model: str,
        source: str,
        *,
        told: tuple[str, ...] = (),
        found: Found | None = None,
    ) -> _Tiers:
        """The tiers as rates. `told`: words whose effect is in the prices already."""
        product, labels = Decimal(1), list(told)
        for word in words:
            if word in told:
                continue
            by = self._overrides.multipliers.get(word)
            if by is None:
                by = factor(word, name.version)
                if word == "fast":
                    tiers = tiers[:1]  # one price for the whole context window
            if by is None:
                return ()
            product *= by
            if by != 1:
                labels.append(word)
        if found is not None and not found.own and name.is_regional and (surcharge := regional(name.version)) != 1:
            product *= surcharge
            labels.append("regional")
        label = " ".join(sorted(labels))
        return tuple((start, dollars.times(product).rate(model, source, label)) for start, dollars in reversed(tiers))
