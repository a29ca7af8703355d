"""What a client would say that its tokens cost."""

from collections.abc import Mapping

from tasks.demo.conversation import Tokens
from tasks.demo.work import STRONG
from tasks.prices import PriceBook


def dollars(book: PriceBook, spent: Mapping[str, Tokens], at: int) -> float:
    """By the prices of `at` (epoch milliseconds). A client knows what its own models cost, also those that our list lacks."""
    total = 0
    for model, tokens in spent.items():
        rate = book.rate(model, at) or book.rate(STRONG, at)
        if rate is not None:
            rates = (rate.input, rate.output, rate.cache_read, rate.cache_write_5m, rate.cache_write_1h)
            total += sum(number * price for number, price in zip(tokens, rates, strict=True))
    return total / 1e12
