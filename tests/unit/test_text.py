import json

import pytest
from tasks.cli.quickjson import loads
from tasks.text import ago, count, milliseconds, moment, printable, size, span, spelled

HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\n\t\x00\x7f\x9b31m\u2028\u202e\ufeff"


def test_control_characters_become_visible_escapes() -> None:
    assert printable("a\x1b[31mb\nc\u202e\x9bd") == "a\\x1b[31mb\\nc\\u202e\\x9bd"


@pytest.mark.parametrize("one", list(HOSTILE))
def test_nothing_that_steers_a_terminal_survives(one: str) -> None:
    shown = printable(f"x{one}y")
    assert one == "]" or one not in shown or one.isprintable()
    assert shown.isprintable()


def test_letters_of_every_script_stay_as_they_are() -> None:
    assert printable("café 日本 😀") == "café 日本 😀"


def test_a_lone_surrogate_can_be_encoded() -> None:
    assert printable("\ud800x").encode() == b"\\ud800x"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3725, "1 h 2 min"), (90_000, "1 d 1 h")]
)
def test_a_span_is_said_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("before", "text"),
    [(0, "just now"), (3_000, "3 s ago"), (7_300_000, "2 h ago"), (-120_000, "2 min ahead of this clock")],
)
def test_a_moment_is_told_from_now(before: int, text: str) -> None:
    assert ago(1_000_000_000 - before, 1_000_000_000) == text


def test_an_impossible_time_is_shown_as_a_number() -> None:
    assert moment(1 << 80) == f"{1 << 80} ms"


def test_numbers_read_well() -> None:
    assert [milliseconds(value) for value in (None, 2.25, 12.0, 1234.0, 200_000.0)] == [
        "-", "2.2 ms", "12 ms", "1.2 s", "3 min 20 s",
    ]  # fmt: skip
    assert [size(value) for value in (12, 1_400, 1_400_000, 5e12)] == ["12 B", "1.4 kB", "1.4 MB", "5.0 TB"]
    assert [count(1, "file"), count(12_000, "file")] == ["1 file", "12,000 files"]


@pytest.mark.parametrize(
    "document",
    [
        '{"a":[1,-2.5e3,"x\\u00e9\\n",null,true,false,{}]}',
        "[]",
        '"text"',
        "12",
        '{"big":123456789012345678901234567890}',
    ],
)
def test_the_quick_parser_agrees_with_the_standard_one(document: str) -> None:
    assert loads(document.encode()) == json.loads(document)


@pytest.mark.parametrize("document", ["", "{", '{"a":1} x', "nul", '{"a" 1}'])
def test_the_quick_parser_refuses_what_the_standard_one_refuses(document: str) -> None:
    with pytest.raises(ValueError):
        loads(document.encode())


def test_values_are_spelled_as_compact_json() -> None:
    value = {"a": [1, 2.5, None, True, False], "b": {"c": 'x"y\\'}}
    assert json.loads(spelled(value)) == value
