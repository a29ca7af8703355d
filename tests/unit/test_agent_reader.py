"""The reader of an agent's output: any bytes, in any pieces."""

import json
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks.agent import Note, NoteKind, OutputReader

DATA = Path(__file__).parents[1] / "data"
RECORDED = sorted([*DATA.glob("agent/*.jsonl"), *DATA.glob("transcripts/*/stream.jsonl")])


def notes_of(name: str) -> list[tuple[str, str]]:
    reader = OutputReader(now=lambda: 1_795_000_000_000)
    return [(str(note.kind), note.message) for note in reader.feed((DATA / "agent" / f"{name}.jsonl").read_bytes())]


def said(text: str, **fields: object) -> bytes:
    line = {"type": "assistant", "message": {"content": [{"type": "text", "text": text}]}, **fields}
    return json.dumps(line).encode() + b"\n"


def called(name: object, arguments: object) -> bytes:
    block = {"type": "tool_use", "name": name, "input": arguments}
    return json.dumps({"type": "assistant", "message": {"content": [block]}}).encode() + b"\n"


def messages(data: bytes) -> list[str]:
    return [note.message for note in OutputReader().feed(data)]


def test_notes_tell_what_an_agent_said_and_did() -> None:
    assert notes_of("tools")[1:] == [
        ("said", "First line of it."),
        ("tool", "Read: /etc/hostname"),
        ("other", "denied: Read: Path is outside allowed working directories"),
        ("tool", "Bash: echo a; exit 3"),
        ("tool", "Grep: x"),
        ("tool", "TodoWrite"),
        ("said", "End."),
        ("result", "done: 5 turns, $0.0049"),
    ]


def test_notes_of_subagents_are_marked() -> None:
    assert ("tool", "[general-purpose] Bash: echo inside") in notes_of("subagent")


def test_notes_tell_of_limits_and_errors() -> None:
    assert notes_of("too_many_requests_api_key")[1] == ("limit", "the API answered 429 rate_limit: try 1 of 10 in 1 s")
    kind, message = notes_of("limit")[-2]
    assert kind == "limit"
    assert message.startswith("five hour limit reached, resets 2026-11-2")
    assert notes_of("limit")[-1] == ("result", "failed: You've hit your 5-hour limit · resets 5:34pm (UTC)")
    assert any(message.startswith("92% of the five hour limit used") for _, message in notes_of("limit_warning"))


def test_prompt_is_not_repeated_in_a_note() -> None:
    assert ("other", "UserPromptSubmit operation blocked by hook: dirty workspace") in notes_of("blocked_prompt")
    assert not any("Original prompt" in message for _, message in notes_of("blocked_prompt"))


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_pieces_do_not_matter(path: Path) -> None:
    data = path.read_bytes()
    whole, split = OutputReader(now=lambda: 0), OutputReader(now=lambda: 0)
    expected = whole.feed(data)
    notes = [note for at in range(0, len(data), 7) for note in split.feed(data[at : at + 7])]
    assert (notes, split.result, split.session) == (expected, whole.result, whole.session)
    assert expected


def test_note_is_one_short_line_without_control_characters() -> None:
    hostile = "\x1b[31mred\x07 \u202eevil\u2028next\r" + "x" * 500
    (message,) = messages(called("Bash", {"command": hostile}))
    assert len(message) == 200
    assert message.startswith("Bash: [31mred evil next x")
    assert message.endswith("…")


def test_secret_on_the_cut_is_redacted_before_the_cut() -> None:
    secret = "s" * 300
    reader = OutputReader(redact=lambda text: text.replace(secret, "[hidden]"))
    assert reader.feed(said("x " * 80 + secret))[0].message.endswith("[hidden]")


def test_lone_surrogates_become_storable() -> None:
    reader = OutputReader()
    line = b'{"type":"result","subtype":"success","is_error":false,"num_turns":1,"result":"cut \\ud83d"}\n'
    assert reader.feed(b'{"type":"assistant","message":{"content":[{"type":"text","text":"a \\ud83d b"}]}}\n' + line)
    assert reader.result is not None
    assert reader.result.text == "cut \ufffd"


def test_lines_that_are_no_messages_are_told_and_kept() -> None:
    reader = OutputReader()
    assert reader.feed(b"plain\r\n\n{broken\n[1]\n" + b"\xff\n") == [
        Note(words, NoteKind.OTHER) for words in ("plain", "{broken", "[1]", "\ufffd")
    ]
    assert reader.last_lines == "plain\n{broken\n[1]\n\ufffd"


def test_flood_of_plain_lines_makes_few_notes() -> None:
    notes = messages(b"".join(b"%d\n" % number for number in range(10_000)))
    assert len(notes) == 21
    assert notes[0] == "… 9,980 more lines"
    assert notes[-1] == "9999"


def test_unknown_messages_are_passed_over() -> None:
    lines = (b'{"type":"brand_new","x":1}', b'{"type":"system","subtype":"brand_new"}', b'{"type":"assistant"}',
             b'{"type":"assistant","message":{"content":[null,3,{"type":"tool_use"},{"type":"text","text":7}]}}',
             b'{"type":"rate_limit_event","rate_limit_info":[]}', b'{"type":"system","subtype":"api_retry"}')  # fmt: skip
    assert messages(b"\n".join(lines) + b"\n") == ["?", "the API answered an error: try 0 of 0 in 0 s"]


def test_numbers_that_are_none_count_as_nothing() -> None:
    usage = {"a": {"inputTokens": -5, "outputTokens": 1e9, "cacheReadInputTokens": True}, "b": None}
    line = {"type": "result", "num_turns": 1 << 70, "total_cost_usd": 1e999, "modelUsage": usage, "result": 5}
    reader = OutputReader()
    reader.feed(json.dumps(line).encode() + b"\n")
    result = reader.result
    assert result is not None
    assert (result.turns, result.input_tokens, result.output_tokens, result.cache_read_tokens) == (0, 0, 0, 0)
    assert (result.cost_usd, result.text) == (0.0, "")


def test_too_long_line_is_left_out_and_the_next_is_read() -> None:
    reader = OutputReader(longest_line=1000)
    notes = [note for _ in range(50) for note in reader.feed(b"x" * 100)]
    assert notes == []
    assert [note.message for note in reader.feed(b"\n" + said("after"))] == ["after"]


def test_long_line_in_small_pieces_takes_linear_time_and_its_own_memory() -> None:
    data = called("Write", {"file_path": "/a", "content": "x" * (8 << 20)})
    reader = OutputReader()
    tracemalloc.start()
    try:
        began = time.process_time()
        notes = [note for at in range(0, len(data), 1024) for note in reader.feed(data[at : at + 1024])]
        seconds, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [note.message for note in notes] == ["Write: /a"]
    # 8,192 pieces: copying what came before for each would take minutes.
    assert seconds < 10
    assert peak < 8 * len(data)


def test_long_answers_of_tools_are_not_looked_into() -> None:
    answer = b'{"type":"user","message":{"content":"' + b"x" * 100_000 + b'"}}\n'
    reader = OutputReader()
    assert reader.feed(answer) == []
    assert reader.last_lines == ""


def test_it_is_done_when_nothing_can_start_another_turn() -> None:
    reader = OutputReader()
    done = []
    for line in (DATA / "agent" / "background.jsonl").read_bytes().splitlines(keepends=True):
        reader.feed(line)
        done.append(reader.is_done)
    # The first result comes while a command is at work in the background.
    assert done == [False] * 13 + [True]


def test_another_turn_undoes_that_it_is_done() -> None:
    reader = OutputReader()
    reader.feed(b'{"type":"result","num_turns":1}\n')
    assert reader.is_done
    reader.feed(b'{"type":"system","subtype":"init"}\n')
    assert not reader.is_done


def test_same_state_of_a_limit_is_told_once() -> None:
    event = {"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "rateLimitType": "five_hour"}}
    line = json.dumps(event).encode() + b"\n"
    assert messages(line * 3) == ["five hour limit reached"]


def test_what_the_client_says_in_place_of_the_agent_is_not_told_as_said() -> None:
    assert not any(kind == "said" for kind, _ in notes_of("local_command") + notes_of("authentication"))


def test_text_output_is_never_taken_for_messages() -> None:
    reader = OutputReader("text")
    assert reader.feed(said("hello")) == [Note(said("hello").decode().strip(), NoteKind.SAID)]
    assert reader.result is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=4), max_leaves=6
)  # fmt: skip
FIELDS = (
    "subtype", "message", "result", "errors", "num_turns", "modelUsage", "model_usage_since_last_result", "is_error",
    "rate_limit_info", "tasks", "timestamp", "is_api_error_message", "api_error_params", "total_cost_usd", "session_id",
    "parent_tool_use_id", "content", "level", "retry_delay_ms",
)  # fmt: skip
MESSAGES = st.fixed_dictionaries(
    {"type": st.sampled_from(["assistant", "system", "result", "rate_limit_event", "user", "?"])},
    optional={
        **{name: JSON | st.dictionaries(st.sampled_from(["content", "a", "status"]), JSON) for name in FIELDS},
        "subtype": st.sampled_from(["success", "init", "api_retry", "informational", "background_tasks_changed"])
        | JSON,
    },
)


@given(st.lists(st.binary(max_size=40) | MESSAGES.map(lambda message: json.dumps(message).encode()), max_size=8))
def test_nothing_that_is_written_makes_it_fail(lines: list[bytes]) -> None:
    reader = OutputReader()
    for note in reader.feed(b"\n".join(lines)) + reader.finish():
        assert 0 < len(note.message) <= 200
        assert note.message.encode().decode().isprintable() or not note.message.isascii()
    if reader.result is not None:
        assert 0 <= reader.result.turns < 1 << 63
        reader.result.text.encode()
