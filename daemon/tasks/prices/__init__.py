"""What a model costs when, in picodollars (1e-12 USD) per token, as whole numbers: sums of them are exact in any order.

First comes what the config says (`[prices.models]`), then the price list that is installed, by the date of the message. What
neither knows is unpriced (None), never free, and so is a message with a modifier whose effect on the price is not known.
"""

from tasks.prices.book import PriceBook
from tasks.prices.rates import Rate, cost

__all__ = ["PriceBook", "Rate", "cost"]
