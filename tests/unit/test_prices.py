"""Prices: exact, by date, and never a guess."""

import socket
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks.config import PriceSettings, load
from tasks.errors import ConfigError
from tasks.prices import PriceBook, Rate, cost

KINDS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
NOW = 1_790_000_000_000  # 2026-09-21
BOOK = PriceBook(PriceSettings())
PICO = Decimal(10) ** 12


def anthropic_models() -> list[Any]:
    from genai_prices import data_snapshot

    snapshot = data_snapshot.get_snapshot()
    return next(provider for provider in snapshot.providers if provider.id == "anthropic").models


MODELS = {model.id: model for model in anthropic_models()}


def rates(rate: Rate | None) -> tuple[int, ...]:
    """The five prices of a token; fails for what is unpriced."""
    assert rate is not None
    return rate.input, rate.output, rate.cache_read, rate.cache_write_5m, rate.cache_write_1h


def dollars(*values: str) -> tuple[int, ...]:
    """Dollars per million tokens as picodollars per token."""
    return tuple(int(Decimal(value) * 1_000_000) for value in values)


def book(models: dict[str, dict[str, float]] | None = None, multipliers: dict[str, float] | None = None) -> PriceBook:
    return PriceBook(PriceSettings(models=models or {}, multipliers=multipliers or {}))


usages = st.fixed_dictionaries(
    {kind: st.one_of(st.integers(0, 3000), st.integers(0, 400_000)) for kind in KINDS}
    | {"web_searches": st.integers(0, 20)}
)
moments = st.datetimes(datetime(2024, 3, 1), datetime(2027, 2, 1), timezones=st.just(UTC))  # noqa: DTZ001


def as_the_list_says(
    model: Any, usage: dict[str, int], when: datetime, context: dict[str, str] | None = None
) -> Decimal:
    """What genai-prices itself makes of it, in picodollars."""
    from genai_prices import Usage, calc_price

    writes = usage["cache_write_5m_tokens"] + usage["cache_write_1h_tokens"]
    prices = model.get_prices(when)
    told = Usage(
        input_tokens=usage["input_tokens"] + usage["cache_read_tokens"] + writes,
        output_tokens=usage["output_tokens"],
        cache_read_tokens=usage["cache_read_tokens"],
        cache_write_tokens=writes,
        cache_write_1h_tokens=usage["cache_write_1h_tokens"],
        web_searches=usage["web_searches"] if prices.web_searches_kcount is not None else 0,
    )
    price = calc_price(told, model.id, provider_id="anthropic", genai_request_timestamp=when, price_context=context)
    assert price.model.id == model.id
    return price.total_price * PICO


def context_of(usage: dict[str, int]) -> int:
    return sum(usage[kind] for kind in KINDS if kind != "output_tokens")


@given(model=st.sampled_from(sorted(MODELS)), usage=usages, when=moments)
def test_cost_equals_the_lists_own_reckoning_for_every_anthropic_model(
    model: str, usage: dict[str, int], when: datetime
) -> None:
    rate = BOOK.rate(model, int(when.timestamp() * 1000), context_tokens=context_of(usage))
    assert rate is not None
    if MODELS[model].get_prices(when).web_searches_kcount is None:
        usage = usage | {"web_searches": 0}
    tolerance = sum(usage.values())  # 1e-12 dollars a token
    assert abs(cost(rate, **usage) - as_the_list_says(MODELS[model], usage, when)) <= tolerance


@pytest.mark.parametrize("model", sorted(MODELS))
def test_flat_and_tiered_prices_are_exact_at_their_borders(model: str) -> None:
    for when in (datetime(2026, 1, 15, 23, 59, 59, tzinfo=UTC), datetime(2026, 3, 13, tzinfo=UTC)):
        for context in (0, 1, 99_999, 100_000, 100_001, 199_999, 200_000, 200_001, 900_000):
            usage = dict.fromkeys(KINDS, 0) | {"input_tokens": context, "output_tokens": 7, "web_searches": 0}
            rate = BOOK.rate(model, int(when.timestamp() * 1000), context_tokens=context)
            assert rate is not None
            assert cost(rate, **usage) == as_the_list_says(MODELS[model], usage, when)


VARIANTS = sorted(
    (model.id, next(iter(variant.when.items()))) for model in MODELS.values() for variant in model.price_variants or ()
)


@pytest.mark.parametrize(("model", "variant"), VARIANTS, ids=[f"{model}-{what[1]}" for model, what in VARIANTS])
def test_modifiers_agree_with_the_variants_of_the_list(model: str, variant: tuple[str, str]) -> None:
    when = datetime(2026, 11, 1, tzinfo=UTC)
    usage = {kind: 1000 + number for number, kind in enumerate(KINDS)} | {"web_searches": 0}
    for plain in (0, 300_000):
        usage["input_tokens"] = plain
        rate = BOOK.rate(model, int(when.timestamp() * 1000), variant[1], context_of(usage))
        assert rate is not None
        assert rate.modifiers == variant[1]
        assert cost(rate, **usage) == as_the_list_says(MODELS[model], usage, when, dict([variant]))


def test_the_price_is_that_of_the_messages_day() -> None:
    day_before, first_day = (int(datetime(2026, 3, day, tzinfo=UTC).timestamp() * 1000) for day in (12, 13))
    assert rates(BOOK.rate("claude-opus-4-6", first_day - 1, "", 200_001))[:2] == dollars("10", "37.5")
    assert rates(BOOK.rate("claude-opus-4-6", first_day, "", 200_001))[:2] == dollars("5", "25")
    assert rates(BOOK.rate("claude-opus-4-6", day_before, "", 200_000))[:2] == dollars("5", "25")


PLAIN_OPUS_5 = dollars("5", "25", "0.5", "6.25", "10")
REGIONAL_OPUS_5 = dollars("5.5", "27.5", "0.55", "6.875", "11")
SAME = {
    "plain": ("claude-opus-5", PLAIN_OPUS_5),
    "upper-case": ("Claude-Opus-5", PLAIN_OPUS_5),
    "million": ("claude-opus-5[1m]", PLAIN_OPUS_5),
    "dated": ("claude-opus-5-20260801", PLAIN_OPUS_5),
    "latest": ("claude-opus-5-latest", PLAIN_OPUS_5),
    "vendor": ("anthropic/claude-opus-5", PLAIN_OPUS_5),
    "router": ("openrouter/anthropic/claude-opus-5", PLAIN_OPUS_5),
    "vertex": ("claude-opus-5@20260801", PLAIN_OPUS_5),
    "vertex-default": ("claude-opus-5@default", PLAIN_OPUS_5),
    "vertex-global": ("projects/p/locations/global/publishers/anthropic/models/claude-opus-5@20260801", PLAIN_OPUS_5),
    "vertex-region": ("projects/p/locations/europe-west1/publishers/anthropic/models/claude-opus-5", REGIONAL_OPUS_5),
    "bedrock-global": ("global.anthropic.claude-opus-5-v1:0", PLAIN_OPUS_5),
    "bedrock-global-million": ("global.anthropic.claude-opus-5-v1:0[1m]", PLAIN_OPUS_5),
    "bedrock-us": ("us.anthropic.claude-opus-5-v1:0", REGIONAL_OPUS_5),
    "bedrock-local": ("anthropic.claude-opus-5", REGIONAL_OPUS_5),
    "bedrock-not-in-the-list": ("apac.anthropic.claude-opus-5-v1:0", REGIONAL_OPUS_5),
    "bedrock-litellm": ("bedrock/eu.anthropic.claude-opus-5", REGIONAL_OPUS_5),
    "bedrock-arn": (
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-5-v1:0",
        REGIONAL_OPUS_5,
    ),
    "bedrock-foundation-arn": (
        "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-opus-5-v1:0",
        REGIONAL_OPUS_5,
    ),
    "regional-costs-more-since-4-5-only": (
        "us.anthropic.claude-opus-4-1-20250805-v1:0",
        dollars("15", "75", "1.5", "18.75", "30"),
    ),
    "hour-missing-in-the-list": ("claude-opus-4-1@20250805", dollars("15", "75", "1.5", "18.75", "30")),
    "family-last": ("claude-3-5-haiku-20241022", dollars("0.8", "4", "0.08", "1", "1.6")),
    "old-vertex": ("claude-3-5-sonnet-v2@20241022", dollars("3", "15", "0.3", "3.75", "6")),
    "no-minor": ("claude-sonnet-4-20250514", dollars("3", "15", "0.3", "3.75", "6")),
    "dots": ("claude-haiku-4.5", dollars("1", "5", "0.1", "1.25", "2")),
}


@pytest.mark.parametrize("name", SAME)
def test_a_models_names_are_understood(name: str) -> None:
    model, expected = SAME[name]
    assert rates(BOOK.rate(model, NOW)) == expected


@pytest.mark.parametrize(
    "model",
    [
        "<synthetic>",
        "",
        "  ",
        "claude-opus-4-10",
        "claude-opus-4-8-fast",
        "claude-opus-4-5-thinking",
        "claude-opus-99",
        "claude-sonnet-6-1-20270101",
        "claude-unheard-of-5",
        "us.anthropic.claude-opus-4-99-v1:0",
        "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3",
        "my-own-model",
        "opus",
        "\x00",
        "claude-" * 10_000,
    ],
    ids=lambda model: model[:40].encode("unicode_escape").decode() or "empty",
)
def test_what_the_list_does_not_know_is_unpriced(model: str) -> None:
    assert BOOK.rate(model, NOW) is None


def test_a_model_that_is_not_anthropics_has_the_lists_price() -> None:
    assert rates(BOOK.rate("gpt-5", NOW))[:2] == dollars("1.25", "10")
    assert rates(BOOK.rate("openai/gpt-5", NOW)) == rates(BOOK.rate("gpt-5", NOW))


@pytest.mark.parametrize("at", [-(10**18), -1, 0, 10**18, 10**30])
def test_no_time_is_too_far_away(at: int) -> None:
    assert rates(BOOK.rate("claude-opus-5", at)) == PLAIN_OPUS_5


class TestModifiers:
    @pytest.mark.parametrize(
        ("model", "words", "expected"),
        [
            ("claude-opus-5", "fast", ("10", "50", "1", "12.5", "20")),
            ("claude-opus-4-8", "fast", ("10", "50", "1", "12.5", "20")),
            ("claude-opus-4-7", "fast", ("30", "150", "3", "37.5", "60")),
            ("claude-opus-5", "geo_us", ("5.5", "27.5", "0.55", "6.875", "11")),
            ("claude-sonnet-4-5", "geo_us", ("3", "15", "0.3", "3.75", "6")),
            ("claude-opus-5", "batch", ("2.5", "12.5", "0.25", "3.125", "5")),
            ("claude-opus-5", "fast geo_us", ("11", "55", "1.1", "13.75", "22")),
            ("claude-opus-5", "batch fast geo_us", ("5.5", "27.5", "0.55", "6.875", "11")),
            ("claude-opus-5", "geo_us fast fast", ("11", "55", "1.1", "13.75", "22")),
            ("claude-opus-5", "priority", ("5", "25", "0.5", "6.25", "10")),
        ],
    )
    def test_known_ones_multiply_every_price_of_a_token(
        self, model: str, words: str, expected: tuple[str, ...]
    ) -> None:
        rate = BOOK.rate(model, NOW, words)
        assert rates(rate) == dollars(*expected)
        assert rate is not None
        assert rate.web_search == 10**10

    def test_fast_mode_has_one_price_for_the_whole_context(self) -> None:
        launch = int(datetime(2026, 2, 10, tzinfo=UTC).timestamp() * 1000)
        assert rates(BOOK.rate("claude-opus-4-6", launch, "", 500_000))[0] == 10_000_000
        assert rates(BOOK.rate("claude-opus-4-6", launch, "fast", 500_000))[0] == 30_000_000

    @pytest.mark.parametrize(
        ("model", "words"),
        [("claude-opus-5", "warp"), ("claude-sonnet-5", "fast"), ("claude-opus-5", "geo_eu fast"), ("gpt-5", "batch")],
    )
    def test_one_without_a_known_factor_leaves_the_message_unpriced(self, model: str, words: str) -> None:
        assert BOOK.rate(model, NOW, words) is None

    def test_the_config_goes_before_what_is_known(self) -> None:
        own = book(multipliers={"fast": 3, "warp": 1.5, "geo_us": 1})
        assert rates(own.rate("claude-opus-5", NOW, "fast"))[:2] == dollars("15", "75")
        assert rates(own.rate("claude-sonnet-5", NOW, "warp"))[:2] == dollars("3", "15")
        assert rates(own.rate("claude-opus-5", NOW, "geo_us")) == PLAIN_OPUS_5

    def test_the_rate_tells_what_is_in_it(self) -> None:
        told = {words: BOOK.rate("claude-opus-5", NOW, words) for words in ("", "geo_us fast", "priority")}
        assert [rate.modifiers if rate else None for rate in told.values()] == ["", "fast geo_us", ""]


class TestOverrides:
    def test_the_exact_name_goes_before_the_longest_beginning(self) -> None:
        own = book(
            {
                "claude-*": {"input": 1, "output": 1},
                "claude-opus-5": {"input": 2, "output": 2},
                "claude-opus-*": {"input": 3, "output": 3},
            }
        )
        asked = ("claude-opus-5", "claude-opus-5-20260801[1m]", "claude-opus-4-8", "claude-sonnet-5", "gpt-5")
        assert [rates(own.rate(model, NOW))[0] for model in asked] == [
            2_000_000,
            2_000_000,
            3_000_000,
            1_000_000,
            1_250_000,
        ]
        rate = own.rate("claude-opus-4-8", NOW)
        assert rate is not None
        assert (rate.source, rate.model) == ("config", "claude-opus-*")

    def test_what_is_not_given_is_derived_from_the_input(self) -> None:
        rate = book({"mine": {"input": 4, "output": 20}}).rate("mine", NOW)
        assert rates(rate) == dollars("4", "20", "0.4", "5", "8")
        assert rate is not None
        assert rate.web_search == 10**10

    def test_every_price_can_be_given_and_be_zero(self) -> None:
        given = {
            "input": 0.0,
            "output": 1.5,
            "cache_read": 0.123456,
            "cache_write_5m": 2,
            "cache_write_1h": 3,
            "web_search": 0,
        }
        rate = book({"mine": given}).rate("mine", NOW)
        assert rates(rate) == dollars("0", "1.5", "0.123456", "2", "3")
        assert rate is not None
        assert rate.web_search == 0

    def test_hosts_can_be_told_apart(self) -> None:
        own = book({"us.anthropic.*": {"input": 9, "output": 9}})
        assert rates(own.rate("us.anthropic.claude-opus-5-v1:0", NOW))[0] == 9_000_000
        assert rates(own.rate("claude-opus-5", NOW)) == PLAIN_OPUS_5

    def test_modifiers_multiply_them_too(self) -> None:
        own = book({"claude-opus-5": {"input": 4, "output": 20}, "mine": {"input": 4, "output": 20}}, {"warp": 2})
        assert rates(own.rate("claude-opus-5", NOW, "fast"))[0] == 8_000_000
        assert rates(own.rate("mine", NOW, "warp"))[0] == 8_000_000
        assert own.rate("mine", NOW, "fast") is None

    def test_the_list_is_not_loaded_for_them(self) -> None:
        program = (
            "import sys; from tasks.prices import PriceBook; from tasks.config import PriceSettings;"
            "own = PriceBook(PriceSettings(models={'*': {'input': 1, 'output': 1}}));"
            "assert own.rate('claude-opus-5', 0); assert own.rate('<synthetic>', 0) is None;"
            "assert not [name for name in sys.modules if name.startswith(('genai_prices', 'pydantic'))]"
        )
        subprocess.run([sys.executable, "-c", program], check=True, timeout=60)

    @pytest.mark.parametrize(
        ("models", "multipliers", "named"),
        [
            ({"m": {"input": -1, "output": 1}}, {}, "prices.models.m.input"),
            ({"m": {"input": 1, "output": float("nan")}}, {}, "prices.models.m.output"),
            ({"m": {"input": 1, "output": float("inf")}}, {}, "prices.models.m.output"),
            ({"m": {"input": 1, "output": 1e9}}, {}, "prices.models.m.output"),
            ({"m": {"input": 1, "output": 1, "cache_write": 1}}, {}, "prices.models.m: unknown key cache_write"),
            ({"m": {"input": 1}}, {}, "prices.models.m: output is missing"),
            ({"m": {}}, {}, "prices.models.m: input is missing"),
            ({"a*b": {"input": 1, "output": 1}}, {}, "prices.models.a*b"),
            ({"": {"input": 1, "output": 1}}, {}, "prices.models."),
            ({}, {"fast": -0.1}, "prices.multipliers.fast"),
            ({}, {"fast": float("nan")}, "prices.multipliers.fast"),
            ({}, {"fast": True}, "prices.multipliers.fast"),
        ],
    )
    def test_what_is_no_price_is_refused_by_name(
        self, models: dict[str, dict[str, float]], multipliers: dict[str, float], named: str
    ) -> None:
        with pytest.raises(ConfigError) as refused:
            book(models, multipliers)
        assert str(refused.value).startswith(named)


def test_answers_are_the_same_however_many_models_were_asked_for() -> None:
    own = book({"*": {"input": 1, "output": 2}})
    for number in range(60_000):
        assert own.rate(f"model-{number}", NOW) is not None
    assert len(own._rates) <= 50_000
    assert rates(own.rate("model-0", NOW))[:2] == dollars("1", "2")


def test_a_price_that_depends_on_the_hour_is_not_kept_for_the_day(monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import time

    from genai_prices.types import ClauseEquals, ConditionalPrice, ModelInfo, ModelPrice, TimeOfDateConstraint
    from tasks.prices.listed import Found, PriceList

    night = TimeOfDateConstraint(time(16, 30, tzinfo=UTC), time(0, 30, tzinfo=UTC))
    prices = [
        ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(2), output_mtok=Decimal(4))),
        ConditionalPrice(night, prices=ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(2))),
    ]
    entry = ModelInfo(id="hourly", match=ClauseEquals("hourly"), prices=prices)
    monkeypatch.setattr(PriceList, "find", lambda *_: Found("hourly", "someone", True, entry))
    own = book()
    for hour, expected in ((12, 2), (17, 1), (12, 2), (0, 1), (1, 2)):
        at = int(datetime(2026, 9, 21, hour, tzinfo=UTC).timestamp() * 1000)
        assert rates(own.rate("hourly", at))[0] == expected * 1_000_000


def test_no_connection_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert rates(book().rate("claude-opus-5", NOW)) == PLAIN_OPUS_5


def test_the_tokens_of_a_recorded_run_cost_what_the_client_said() -> None:
    own = book({"claude-sonnet-5": {"input": 3, "output": 15}})
    rate = own.rate("claude-sonnet-5", NOW)
    assert rate is not None
    usage = {
        "input_tokens": 14,
        "output_tokens": 153,
        "cache_read_tokens": 11_000,
        "cache_write_5m_tokens": 1200,
        "cache_write_1h_tokens": 0,
        "web_searches": 0,
    }
    assert cost(rate, **usage) == 10_137_000_000 == round(0.010137 * 1e12)


def test_a_wrong_price_is_told_with_its_file(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[prices.models."x"]\ninput = 1\n')
    settings = load(data_dir=tmp_path, environ={"TASKSD_CONFIG": str(config), "HOME": str(tmp_path)})
    with pytest.raises(ConfigError, match=rf"{config}: prices\.models"):
        PriceBook.of(settings)
