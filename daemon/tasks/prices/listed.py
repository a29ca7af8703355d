"""The price list that is installed (genai-prices): read offline, on first use, and only here."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

from tasks.prices.names import Host, Name, version
from tasks.prices.rates import WEB_SEARCHES, Dollars

_PRICES = (
    "input_mtok",
    "output_mtok",
    "cache_read_mtok",
    "cache_write_mtok",
    "cache_write_1h_mtok",
    "web_searches_kcount",
)
#: A price per request can be told neither per token nor per search.
_UNFIT = "requests_kcount"
#: The names of providers in the list, in the order of asking.
_PROVIDERS = {Host.DIRECT: ("anthropic",), Host.BEDROCK: ("aws", "anthropic"), Host.VERTEX: ("google", "anthropic")}


@dataclass(frozen=True, slots=True)
class Found:
    """One model of the list. `own`: the entry is that of the host and region which the name says."""

    model: str
    provider: str
    own: bool
    entry: Any

    @property
    def within_the_day(self) -> bool:
        """Whether the price depends on the time of day."""
        prices = self.entry.prices if isinstance(self.entry.prices, list) else []
        constraints = [one.constraint for one in (*prices, *(self.entry.price_variants or ()))]
        return any(hasattr(constraint, "start_time") for constraint in constraints)

    def tiers(self, at: int, *, fast: bool) -> list[tuple[int, Dollars]] | None:
        """Prices at `at` (ms): (0, …), then (n, …) for requests with more than n tokens of context. None: not told, or free
        for want of a figure. `fast`: those of fast mode, where the list has them, else None."""
        when = _moment(at)
        context = None
        if fast:
            context = {"speed": "fast"}
            variants = [one for one in self.entry.price_variants or () if one.when == context]
            if not any(one.constraint is None or one.constraint.active(when) for one in variants):
                return None
        prices = self.entry.get_prices(when, context)
        found = {key: value for key in _PRICES if (value := getattr(prices, key, None)) is not None}
        if getattr(prices, _UNFIT, None) or "input_mtok" not in found or "output_mtok" not in found:
            return None
        starts = sorted({0, *(tier.start for value in found.values() for tier in getattr(value, "tiers", ()))})
        tiers = [
            (start, self._dollars({key: _above(value, start) for key, value in found.items()})) for start in starts
        ]
        return tiers if any(dollars.input or dollars.output for _, dollars in tiers) else None

    def _dollars(self, found: Mapping[str, Decimal]) -> Dollars:
        """What the list leaves out costs what the list's own reckoning takes for it: a cached token what a plain one does.
        Only writes for an hour, missing where other cache prices of a Claude model are known, cost twice the input."""
        plain = found["input_mtok"]
        write = found.get("cache_write_mtok", plain)
        hour = 2 * plain if "cache_write_mtok" in found and "claude" in self.model else write
        return Dollars(
            input=plain,
            output=found["output_mtok"],
            cache_read=found.get("cache_read_mtok", plain),
            cache_write_5m=write,
            cache_write_1h=found.get("cache_write_1h_mtok", hour),
            web_search=found.get("web_searches_kcount", WEB_SEARCHES),
        )


class PriceList:
    """Looks models up in the list. Opens no connection: the list is the one that came with the package."""

    @cached_property
    def _snapshot(self) -> Any:
        from genai_prices import data_snapshot

        return data_snapshot.get_snapshot()

    @cached_property
    def source(self) -> str:
        """The list and its version."""
        from importlib.metadata import version as installed

        return f"genai-prices {installed('genai-prices')}"

    def find(self, name: Name) -> Found | None:
        """The entry of exactly that model; None: the list has none. A Claude model of another version is another model."""
        if not name.is_claude:
            return self._foreign(name.given)
        providers = {one.id: one for one in self._snapshot.providers}
        if name.version is None:
            return None
        for provider in _PROVIDERS[name.host]:
            asked = name.given if provider in ("aws", "google") else name.plain
            entry = providers[provider].find_model(asked) if provider in providers else None
            if entry is None or version(_bare(entry.id)) != name.version:
                continue
            own = provider != "anthropic" and _region_fits(provider, entry.id, name)
            if provider == "anthropic" or own:
                return Found(entry.id, provider, own, entry)
        return None

    def _foreign(self, given: str) -> Found | None:
        """A model that is not Anthropic's, such as a proxy offers."""
        head, _, tail = given.partition("/")
        provider = next((one for one in self._snapshot.providers if tail and one.id == head), None)
        try:
            if provider is None:
                provider, entry = self._snapshot.find_provider_model(given, None, None, None)
            else:
                entry = provider.find_model(tail)
        except LookupError:
            return None
        return Found(entry.id, provider.id, True, entry) if entry is not None else None


def _bare(entry: str) -> str:
    """`regional.anthropic.claude-sonnet-5-v1:0` → `claude-sonnet-5`."""
    from tasks.prices.names import parse

    name = parse(entry)
    return name.plain if name else entry


def _region_fits(provider: str, entry: str, name: Name) -> bool:
    if provider == "aws":
        return entry.startswith("regional.") == name.is_regional or entry.startswith("regional.anthropic.claude-3")
    return not name.is_regional


def _above(price: Any, start: int) -> Decimal:
    """The price of a request with more than `start` tokens of context."""
    if isinstance(price, Decimal):
        return price
    chosen: Decimal = price.base
    for tier in price.tiers:
        if start >= tier.start and start > 0:
            chosen = tier.price
    return chosen


def _moment(at: int) -> datetime:
    """Any number is a time here: a transcript may hold nonsense."""
    return datetime.fromtimestamp(min(max(at, 0), 253_402_300_799_000) / 1000, UTC)
