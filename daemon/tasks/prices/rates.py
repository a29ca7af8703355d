"""A price, and what usage costs at it."""

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

#: Picodollars per token for one dollar per million tokens.
PER_MILLION = 1_000_000
#: Picodollars per search for one dollar per thousand searches.
PER_THOUSAND = 1_000_000_000
#: Dollars per thousand web searches where nothing else is said: what Anthropic takes for every model.
WEB_SEARCHES = Decimal(10)


@dataclass(frozen=True, slots=True)
class Rate:
    """Picodollars per token, and per web search. Equal to a row of the table `prices` without its id."""

    #: the name under which the price was found: in the list, or in the config
    model: str
    #: `config`, or the price list with its version
    source: str
    #: sorted words of what is in the rates beside the plain price; '' for none
    modifiers: str
    input: int
    output: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    web_search: int


def cost(
    rate: Rate,
    *,
    input_tokens: int,
    output_tokens: int,
    cache_read_tokens: int,
    cache_write_5m_tokens: int,
    cache_write_1h_tokens: int,
    web_searches: int,
) -> int:
    """Picodollars, exact. `input_tokens` are those that were neither read from the cache nor written to it."""
    return (
        rate.input * input_tokens
        + rate.output * output_tokens
        + rate.cache_read * cache_read_tokens
        + rate.cache_write_5m * cache_write_5m_tokens
        + rate.cache_write_1h * cache_write_1h_tokens
        + rate.web_search * web_searches
    )


@dataclass(frozen=True, slots=True)
class Dollars:
    """The same before modifiers: dollars per million tokens, and per thousand searches."""

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    web_search: Decimal = WEB_SEARCHES

    def times(self, factor: Decimal) -> "Dollars":
        """Every price of a token by `factor`; searches cost the same in every mode."""
        return Dollars(
            self.input * factor,
            self.output * factor,
            self.cache_read * factor,
            self.cache_write_5m * factor,
            self.cache_write_1h * factor,
            self.web_search,
        )

    def rate(self, model: str, source: str, modifiers: str) -> Rate:
        """In whole picodollars; a half goes to the even one."""
        return Rate(
            model,
            source,
            modifiers,
            input=_whole(self.input * PER_MILLION),
            output=_whole(self.output * PER_MILLION),
            cache_read=_whole(self.cache_read * PER_MILLION),
            cache_write_5m=_whole(self.cache_write_5m * PER_MILLION),
            cache_write_1h=_whole(self.cache_write_1h * PER_MILLION),
            web_search=_whole(self.web_search * PER_THOUSAND),
        )


def _whole(picodollars: Decimal) -> int:
    return int(picodollars.quantize(Decimal(1), rounding=ROUND_HALF_EVEN))
