"""What is to be told in the config before every message has a price."""

from collections.abc import Iterable, Sequence

from typing_extensions import TypedDict

from tasks.analytics.span import Query

_IS_PLAIN = "SELECT 1 FROM messages WHERE cost IS NULL AND model = :model AND modifiers = '' LIMIT 1"
# Asked only of models none of whose unpriced messages is plain.
_MODIFIERS = "SELECT DISTINCT modifiers FROM messages WHERE cost IS NULL AND model = :model"

#: Words whose effect on the price of a Claude model is always known.
_KNOWN = frozenset({"batch", "geo_us"})


class Missing(TypedDict):
    """Keys of [prices.models] and of [prices.multipliers] that the messages without a price need."""

    models: list[str]
    multipliers: list[str]


def missing(query: Query, sums: Iterable[tuple[str, Sequence[int]]]) -> Missing:
    """Of the models with messages without a price among `sums`: (model, sums in the order of `costs`), in that order.

    A model that has a price for other messages needs the factor of what is special about those without. A message without
    the name of a model can be given no price.
    """
    models: list[str] = []
    multipliers: set[str] = set()
    for model, (messages, *_, unpriced) in sums:
        if not unpriced or not model:
            continue
        words: set[str] = set()
        if not query(_IS_PLAIN, {"model": model}):
            words = {word for (modifiers,) in query(_MODIFIERS, {"model": model}) for word in modifiers.split()}
            if "claude" in model.lower():
                words = (words - _KNOWN) or words
        if not words or unpriced == messages:
            models.append(model)
        multipliers |= words
    return Missing(models=models, multipliers=sorted(multipliers))
