from pathlib import Path

import pytest
from tasks.history import Output
from tasks.redaction import Redactor
from tasks.words import PrivacyLevel

TOKEN = "ghp_" + "a1B2" * 9  # made up
KEY = "-----BEGIN PRIVATE KEY-----\n" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldY\n" * 40 + "-----END PRIVATE KEY-----\n"

redact = Redactor(b"k" * 32, PrivacyLevel.FULL).text


def pieces(output: Output, *, final: bool = True) -> list[str]:
    found = []
    while (text := output.piece(final=final)) is not None:
        found.append(text)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "output"


def test_a_missing_file_is_an_empty_one(path: Path) -> None:
    assert Output(path, redact).piece(final=True) is None


def test_whole_lines_are_given_as_the_file_grows(path: Path) -> None:
    output = Output(path, redact)
    path.write_bytes(b"one\ntw")
    assert output.piece(final=False) == "one\n"
    assert output.piece(final=False) is None
    with path.open("ab") as file:
        file.write(b"o\nthree")
    assert output.piece(final=False) == "two\n"
    assert output.offset == 8
    assert pieces(output) == ["three"]
    assert output.offset == 13


def test_a_large_file_comes_in_small_pieces_and_whole(path: Path) -> None:
    content = b"".join(b"%d\n" % number for number in range(300_000))
    path.write_bytes(content)
    found = pieces(Output(path, redact))
    assert "".join(found).encode() == content
    assert max(map(len, found)) <= 128 << 10


def test_every_offset_given_is_one_to_go_on_at(path: Path) -> None:
    content = "".join(f"{number}\n" for number in range(60_000))
    path.write_text(content)
    output = Output(path, redact)
    first = output.piece(final=True)
    assert first is not None
    assert first + "".join(pieces(Output(path, redact, output.offset))) == content


def test_the_middle_of_a_line_is_no_place_to_begin(path: Path) -> None:
    path.write_text(f"token {TOKEN} here\nsecond\n")
    assert pieces(Output(path, redact, 15)) == ["second\n"]
    assert pieces(Output(path, redact, 10_000)) == []


@pytest.mark.parametrize("before", [0, 65_530, 65_536 - 20, 131_072 - 3])
def test_a_secret_across_two_reads_is_taken_out(path: Path, before: int) -> None:
    path.write_text("x" * 99 + "\n" + ("y" * 99 + "\n") * (before // 100) + "z" * (before % 100) + f" {TOKEN}\n")
    text = "".join(pieces(Output(path, redact)))
    assert TOKEN not in text
    assert TOKEN[:12] not in text
    assert "[REDACTED:github:" in text


@pytest.mark.parametrize("before", [0, 64_000, 65_000, 65_500])
def test_a_private_key_across_two_reads_is_taken_out(path: Path, before: int) -> None:
    path.write_text("y" * before + "\n" + KEY + "after\n")
    text = "".join(pieces(Output(path, redact)))
    assert "QUJDREVGR0hJ" not in text
    assert text.endswith("after\n")


def test_a_private_key_that_is_being_written_waits_for_its_end(path: Path) -> None:
    path.write_text("before\n" + KEY[:100])
    output = Output(path, redact)
    assert output.piece(final=False) == "before\n"
    assert output.piece(final=False) is None
    path.write_text("before\n" + KEY)
    text = output.piece(final=False)
    assert text is not None
    assert "QUJDREVGR0hJ" not in text


@pytest.mark.parametrize("size", [600 << 10, 3 << 20])
def test_of_a_line_that_is_too_long_the_beginning_is_given(path: Path, size: int) -> None:
    path.write_text("a\n" + f"x {TOKEN} ".ljust(size, "x") + "\nb\n" + "c")
    found = pieces(Output(path, redact))
    text = "".join(found)
    assert text.startswith("a\nx [REDACTED:github:")
    assert text.endswith("KiB]\nb\nc")
    assert len(text) < 80 << 10


def test_bytes_that_are_no_text_do_no_harm(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\0\n\x80")
    assert "".join(pieces(Output(path, redact))) == "\ufffd\ufffd\ufffd\n\ufffd"
