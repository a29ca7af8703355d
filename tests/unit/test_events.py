import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tasks.events import Event, Parsed, Rejected, models, parse_event
from tasks.events.models import PostToolBatch, PostToolUse, PostToolUseFailure, ToolEvent, UnknownEvent
from tasks.words import QuarantineReason

RECORDED = sorted((Path(__file__).parents[1] / "data/hooks").glob("*.json"))

ENVELOPE: dict[str, Any] = {
    "session_id": "s",
    "hook_event_name": "PostToolUse",
    "tool_name": "Write",
    "tool_use_id": "t",
}


def payload(**fields: Any) -> bytes:
    return json.dumps(ENVELOPE | fields).encode()


def with_raw(key: str, raw: str, **fields: Any) -> bytes:
    """A payload that has `raw` as the text of one value."""
    return payload(**fields)[:-1] + f', "{key}": {raw}}}'.encode()


def parsed(raw: bytes) -> Parsed:
    found = parse_event(raw)
    assert isinstance(found, Parsed), found
    return found


def extras(event: Event) -> dict[str, Any]:
    return event.model_extra or {}


def rejected(raw: bytes) -> Rejected:
    found = parse_event(raw)
    assert isinstance(found, Rejected), found
    assert len(found.detail) <= 200
    return found


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_recorded_payload_parses_to_the_model_of_its_kind(path: Path) -> None:
    kind = path.name.partition("-")[0]
    event = parsed(path.read_bytes()).event
    assert type(event) is getattr(models, kind)
    assert event.hook_event_name == kind


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_recorded_payload_keeps_every_field(path: Path) -> None:
    recorded = json.loads(path.read_bytes())
    assert parsed(path.read_bytes()).event.model_dump().keys() >= recorded.keys()


def test_every_recorded_kind_has_a_sample() -> None:
    kinds = {path.name.partition("-")[0] for path in RECORDED}
    assert {"PreToolUse", "PostToolUse", "PostToolUseFailure", "PostToolBatch", "SessionStart", "SessionEnd"} <= kinds


def test_an_unknown_kind_is_kept_with_all_its_fields() -> None:
    event = parsed(b'{"session_id": "s", "hook_event_name": "Telepathy", "strength": {"db": 3}}').event
    assert type(event) is UnknownEvent
    assert event.hook_event_name == "Telepathy"
    assert extras(event) == {"strength": {"db": 3}}


def test_an_unknown_kind_with_a_lone_surrogate_is_kept_too() -> None:
    found = parsed(b'{"session_id": "s", "hook_event_name": "Telepathy", "thought": "\\ud800"}')
    assert type(found.event) is UnknownEvent
    assert extras(found.event) == {"thought": "\ufffd"}


def test_unknown_fields_of_known_kinds_are_kept() -> None:
    event = parsed(payload(tool_input={"a": 1}, novelty=[1, {"b": None}])).event
    assert type(event) is PostToolUse
    assert extras(event) == {"novelty": [1, {"b": None}]}


def test_unknown_fields_of_a_batch_entry_are_kept() -> None:
    raw = payload(hook_event_name="PostToolBatch", tool_calls=[{"tool_name": "A", "tool_use_id": "1", "odd": 7}])
    event = parsed(raw).event
    assert isinstance(event, PostToolBatch)
    assert event.tool_calls[0].model_extra == {"odd": 7}


def test_lone_surrogates_become_replacement_characters_and_a_flag() -> None:
    found = parsed(payload(tool_input={"content": "cut \ud83d", "\udc00": 1}))
    assert isinstance(found.event, ToolEvent)
    assert found.event.tool_input == {"content": "cut \ufffd", "\ufffd": 1}
    assert found.flags == ("surrogates",)


def test_whole_surrogate_pairs_are_left_alone() -> None:
    found = parsed(b'{"session_id": "s", "hook_event_name": "Stop", "x": "\\ud83d\\ude00"}')
    assert extras(found.event) == {"x": "\N{GRINNING FACE}"}
    assert found.flags == ()


def test_escaped_nul_becomes_a_replacement_character_and_a_flag() -> None:
    found = parsed(payload(tool_input={"content": "a\x00b"}))
    assert isinstance(found.event, ToolEvent)
    assert found.event.tool_input == {"content": "a\ufffdb"}
    assert found.flags == ("nul",)


def test_the_text_backslash_u0000_is_not_taken_for_a_nul() -> None:
    found = parsed(payload(tool_input={"content": r"\u0000"}))
    assert isinstance(found.event, ToolEvent)
    assert found.event.tool_input == {"content": r"\u0000"}
    assert found.flags == ()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", str(2**70), "1" + "0" * 400])
def test_numbers_that_json_or_sqlite_lack_are_kept_where_nothing_depends_on_them(number: str) -> None:
    assert "odd" in extras(parsed(with_raw("odd", number)).event)
    assert "odd" in extras(parsed(with_raw("odd", number, other="\ud800")).event)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1", "1e999", str(2**70), "1" + "0" * 400, "true", '"x"', "[]"])
@pytest.mark.parametrize("other", ["plain", "\ud800"], ids=["strict", "lenient"])
def test_an_impossible_duration_is_no_reason_to_refuse_an_event(number: str, other: str) -> None:
    assert parsed(with_raw("duration_ms", number, other=other)).event.session_id


def test_an_integer_of_5000_digits_is_rejected() -> None:
    assert rejected(with_raw("odd", "7" * 5000)).reason is QuarantineReason.INT_RANGE


def test_the_last_of_duplicate_envelope_keys_wins_and_is_flagged() -> None:
    found = parsed(b'{"session_id": "first", "hook_event_name": "Stop", "session_id": "last"}')
    assert found.event.session_id == "last"
    assert found.flags == ("dup_keys",)


def test_envelope_keys_inside_other_values_are_no_duplicates() -> None:
    raw = payload(tool_input={"session_id": "inner"}, note='{"session_id": "quoted"}')
    found = parsed(raw)
    assert found.event.session_id == "s"
    assert found.flags == ()


@pytest.mark.parametrize("depth", [129, 200, 100_000])
def test_deep_nesting_is_rejected(depth: int) -> None:
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        body = opening * depth + "1" + closing * depth
        assert rejected(with_raw("deep", body)).reason is QuarantineReason.TOO_DEEP


def test_nesting_up_to_the_bound_is_kept() -> None:
    assert "deep" in extras(parsed(with_raw("deep", "[" * 127 + "]" * 127)).event)


def test_brackets_within_strings_are_no_nesting() -> None:
    found = parsed(payload(tool_input={"content": '[{"\\' * 10_000}))
    assert isinstance(found.event, ToolEvent)


def test_a_byte_order_mark_is_skipped() -> None:
    assert parsed(b"\xef\xbb\xbf" + payload()).event.session_id == "s"


def test_utf_16_is_rejected() -> None:
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        assert rejected(payload().decode().encode(encoding)).reason in (QuarantineReason.NUL, QuarantineReason.BAD_UTF8)


def test_a_nul_byte_is_rejected() -> None:
    assert rejected(payload() + b"\x00").reason is QuarantineReason.NUL
    assert rejected(b"\x00" * 100).reason is QuarantineReason.NUL


def test_bytes_that_are_not_utf_8_are_rejected() -> None:
    found = rejected(b'{"session_id": "\xff"}')
    assert (found.reason, found.maybe_unfinished) == (QuarantineReason.BAD_UTF8, False)


def test_an_empty_file_may_be_one_that_is_not_written_yet() -> None:
    assert rejected(b"") == Rejected(QuarantineReason.EMPTY, "no bytes", maybe_unfinished=True)


@pytest.mark.parametrize(
    "raw",
    [
        b"[]", b"{}", b"1", b'"text"', b"null", b'{"session_id": "s"}', b'{"hook_event_name": "Stop"}',
        b'{"session_id": 1, "hook_event_name": "Stop"}', b'{"session_id": "", "hook_event_name": "Stop"}',
        b'{"session_id": "s", "hook_event_name": []}', b'{"session_id": "s", "hook_event_name": ["\\ud800"]}',
        b'{"session_id": "a\\nb", "hook_event_name": "Stop"}',
        b'{"session_id": "s", "hook_event_name": "PostToolUse"}',
    ],
)  # fmt: skip
def test_json_that_is_no_event_is_rejected_for_good(raw: bytes) -> None:
    found = rejected(raw)
    assert (found.reason, found.maybe_unfinished) == (QuarantineReason.SCHEMA, False)


def test_text_after_the_object_is_rejected_for_good() -> None:
    found = rejected(payload() + b"}")
    assert (found.reason, found.maybe_unfinished) == (QuarantineReason.BAD_JSON, False)


def test_the_reason_for_rejecting_quotes_no_payload() -> None:
    secret = "hunter2hunter2"
    raws = (
        payload(session_id=[secret]),
        payload(tool_name="\x01" + secret),
        payload(tool_input=secret)[:-2],
        payload(tool_use_id=[secret]),
        payload(hook_event_name=[secret]),
    )
    assert [rejected(raw).detail for raw in raws if secret in rejected(raw).detail] == []


def test_a_write_of_4_megabytes_is_parsed_fast() -> None:
    content = 'def f(a: dict[str, "int"]) -> None: {}\n' * 54_000
    raw = payload(tool_input={"content": content}, tool_response={"content": content})
    assert len(raw) > 4_200_000
    started = time.perf_counter()
    found = parsed(raw)
    assert time.perf_counter() - started < 2
    assert isinstance(found.event, ToolEvent)
    assert found.event.tool_input["content"] == content


@pytest.mark.parametrize("cut", [-1, -20, -2_000_000])
def test_a_torn_write_of_4_megabytes_costs_no_more_than_a_whole_one(cut: int) -> None:
    content = 'def f(a: dict[str, "int"]) -> None: {}\n' * 54_000
    raw = payload(tool_input={"content": content}, tool_response={"content": content})[:cut]
    started = time.perf_counter()
    assert rejected(raw).maybe_unfinished
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 200 + b'"' + b"\\" * 999_999,
        b"[" * 200 + b'"\\"' * 300_000,
        b"[{" * 200 + b'"' * 999_999,
        b'{"a":' * 100 + b'"x' * 300_000,
    ],
    ids=["backslashes", "escaped quotes", "quotes", "unbalanced"],
)
def test_no_input_makes_the_look_at_the_depth_slow(raw: bytes) -> None:
    started = time.perf_counter()
    parse_event(raw)
    assert time.perf_counter() - started < 2


SAMPLES = [
    "PostToolUse-Bash-unicode_control",
    "PostToolUse-Bash-lone_surrogate",
    "PostToolUse-Write",
    "PreToolUse-Bash",
]
NUMBERS = (
    b'{"session_id":"s","hook_event_name":"Stop","a":[-1.5e-10,true,false,null,-Infinity,NaN,1e999,{"b\\u00e9":""}]}'
)


@pytest.mark.parametrize(
    "raw",
    [path.read_bytes().strip() for path in RECORDED if path.stem in SAMPLES] + [NUMBERS, b"\xef\xbb\xbf" + NUMBERS],
    ids=lambda raw: f"{len(raw)} bytes",
)
def test_an_event_cut_off_anywhere_is_never_taken_for_an_event_and_may_still_grow(raw: bytes) -> None:
    parsed(raw)
    for end in range(len(raw)):
        found = parse_event(raw[:end])
        assert isinstance(found, Rejected), raw[:end]
        assert found.maybe_unfinished, raw[max(0, end - 60) : end]


def test_an_event_without_its_closing_newline_is_whole() -> None:
    assert isinstance(parse_event(payload() + b"\n"), Parsed)
    assert isinstance(parse_event(payload()), Parsed)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_answered_and_never_raise(raw: bytes) -> None:
    assert isinstance(parse_event(raw), Parsed | Rejected)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = sorted({name for model in (PostToolUse, PostToolUseFailure, PostToolBatch) for name in model.model_fields})


@given(
    kind=st.sampled_from(["PostToolUse", "PostToolBatch", "PostToolUseFailure", "SessionStart", "Stop", "Odd"]),
    fields=st.dictionaries(st.sampled_from([*KEYS, "other"]), JSON, max_size=8),
    ascii_=st.booleans(),
)
def test_any_values_in_any_fields_never_raise(kind: str, fields: dict[str, Any], ascii_: bool) -> None:
    text = json.dumps(ENVELOPE | {"hook_event_name": kind} | fields, ensure_ascii=ascii_)
    found = parse_event(text.encode("utf-8", "surrogatepass"))
    if isinstance(found, Parsed):
        found.event.model_dump_json()


EDIT = st.tuples(
    st.sampled_from(["set", "cut", "double", "insert"]), st.integers(0, 1 << 16), st.binary(min_size=1, max_size=4)
)


@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([path for path in RECORDED if path.stat().st_size < 4000]), st.lists(EDIT, min_size=1, max_size=5)
)
def test_mutated_payloads_never_raise(path: Path, edits: list[tuple[str, int, bytes]]) -> None:
    raw = bytearray(path.read_bytes())
    for how, where, new in edits:
        at = where % (len(raw) + 1)
        match how:
            case "set":
                raw[at : at + len(new)] = new
            case "cut":
                del raw[at : at + new[0]]
            case "double":
                raw[at:at] = raw[at : at + new[0]]
            case _:
                raw[at:at] = new
    assert isinstance(parse_event(bytes(raw)), Parsed | Rejected)
