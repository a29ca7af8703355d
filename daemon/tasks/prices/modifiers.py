"""What a way of being answered (fast, in a batch, inside the US) does to the price of a token.

A word that is not known here or in the config leaves a message unpriced: a price without it would be wrong and look right.
Web searches cost the same whatever the words are.
"""

from decimal import Decimal

#: Anthropic, "Fast mode": what it costs against the standard price, over the whole context window alike. Opus 4.6 and 4.7:
#: $30 in and $150 out instead of $5 and $25; all later ones twice the standard price.
FAST = {
    ("opus", 4, 6): Decimal(6),
    ("opus", 4, 7): Decimal(6),
    ("opus", 4, 8): Decimal(2),
    ("opus", 5, 0): Decimal(2),
    ("opus", 5, 5): Decimal(2),
    ("fable", 5, 2): Decimal(2),
    ("mythos", 5, 2): Decimal(2),
}
#: Anthropic, "Batch processing": half of every price of a token.
BATCH = Decimal("0.5")
#: Anthropic, "Data residency": US-only inference, of models from 4.6 on. Earlier ones cost the same everywhere.
GEO_US = Decimal("1.1")
GEO_SINCE = (4, 6)
#: Amazon Bedrock and Google Cloud, since the 4.5 generation: an endpoint of one region or one part of the world.
REGIONAL = Decimal("1.1")
REGIONAL_SINCE = (4, 5)
#: Words that change no price. Priority capacity is paid by commitment: what its tokens cost is what they would have cost.
PLAIN = frozenset({"standard", "priority", "geo_global", "geo_not_available"})


def factor(word: str, version: tuple[str, int, int] | None) -> Decimal | None:
    """What every price of a token is multiplied by, for a Claude model of that version; None: not known."""
    if version is None:
        return None
    match word:
        case "fast":
            return FAST.get(version)
        case "batch":
            return BATCH
        case "geo_us":
            return GEO_US if version[1:] >= GEO_SINCE else Decimal(1)
        case _:
            return Decimal(1) if word in PLAIN else None


def regional(version: tuple[str, int, int] | None) -> Decimal:
    """The same for an endpoint of a cloud that is not the global one."""
    return REGIONAL if version is not None and version[1:] >= REGIONAL_SINCE else Decimal(1)
