"""What one line, one recorded run and one fork say."""

import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tasks import transcripts
from tasks.transcripts import Chunk, Message, Position
from tasks.transcripts.lines import TEXT_LIMIT, TOKEN_LIMIT

DATA = Path(__file__).parents[1] / "data"
SESSION = "0b1c2d3e-0000-4000-8000-000000000001"
AT = 1_795_000_000_000  # milliseconds
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write lines (JSON, or bytes as they are) to a transcript."""

    def write(*lines: dict[str, Any] | bytes, name: str = f"{SESSION}.jsonl", end: bytes = b"\n") -> Path:
        path = tmp_path / name
        raws = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        path.write_bytes(b"\n".join(raws) + end)
        return path

    return write


def time(after: int) -> str:
    """AT and so many seconds."""
    return f"2026-11-18T11:{6 + (40 + after) // 60:02d}:{(40 + after) % 60:02d}.000Z"


def usage(output: object = 10, **fields: object) -> dict[str, object]:
    return {"input_tokens": 3, "output_tokens": output, **fields}


def assistant(
    message_id: str | None = "msg_1", *blocks: dict[str, Any], after: int = 0, said: object = None, **fields: Any
) -> dict[str, Any]:
    message = {
        "id": message_id, "role": "assistant", "model": fields.pop("model", "claude-sonnet-5"),
        "content": list(blocks) or [{"type": "text", "text": "Hm."}], "usage": usage() if said is None else said,
    }  # fmt: skip
    if message_id is None:
        del message["id"]
    return {"type": "assistant", "uuid": f"u-{message_id}", "timestamp": time(after), "sessionId": SESSION,
            "message": message, **fields}  # fmt: skip


def user(content: object = "Go on.", *, after: int = 0, **fields: Any) -> dict[str, Any]:
    return {"type": "user", "timestamp": time(after), "sessionId": SESSION,
            "message": {"role": "user", "content": content}, **fields}  # fmt: skip


def result(content: object, **fields: object) -> list[dict[str, object]]:
    return [{"type": "tool_result", "tool_use_id": "toolu_1", "content": content, **fields}]


def use(**fields: object) -> dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}, **fields}


def whole(path: Path, **options: Any) -> Chunk:
    return transcripts.read(path, Position(), **options)


def totals(messages: Iterable[Message]) -> list[int]:
    """Input, output, cache write, cache read."""
    found = list(messages)
    return [
        sum(message.input_tokens for message in found),
        sum(message.output_tokens for message in found),
        sum(message.cache_write_5m_tokens + message.cache_write_1h_tokens for message in found),
        sum(message.cache_read_tokens for message in found),
    ]


def summed_by_line(paths: Iterable[Path]) -> list[int]:
    sums = [0, 0, 0, 0]
    for path in paths:
        for raw in path.read_bytes().splitlines():
            told = (json.loads(raw).get("message") or {}).get("usage")
            if told:
                kinds = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
                sums = [known + told[kind] for known, kind in zip(sums, kinds, strict=True)]
    return sums


@pytest.mark.parametrize(
    ("run", "true", "by_line"),
    [
        ("t_simple", [14, 153, 1200, 11000], [34, 355, 3200, 21000]),
        ("t_parallel", [17, 191, 1150, 11200], [50, 581, 3850, 26500]),
        ("t_subagent", [30, 317, 2080, 11700], [47, 498, 3780, 16700]),
        ("t_failed", [11, 44, 900, 5100], [11, 44, 900, 5100]),
        ("t_resume2", [21, 43, 1100, 1000], [21, 43, 1100, 1000]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_recorded_run_has_the_tokens_that_the_api_gave(run: str, true: list[int], by_line: list[int]) -> None:
    files = transcripts.find(DATA / "transcripts" / run / "projects")
    chunks = [whole(file.path) for file in files]
    assert totals(message for chunk in chunks for message in chunk.messages) == true
    assert summed_by_line(file.path for file in files) == by_line
    assert [chunk.bad_lines for chunk in chunks] == [0] * len(files)
    assert all(chunk.done and chunk.size == file.size for chunk, file in zip(chunks, files, strict=True))


def test_a_synthetic_line_is_no_message() -> None:
    [file] = transcripts.find(DATA / "transcripts" / "t_failed" / "projects")
    assert b"<synthetic>" in file.path.read_bytes()
    assert [message.model for message in whole(file.path).messages] == ["claude-sonnet-5"]


def test_recorded_calls_come_with_their_answers() -> None:
    [file] = transcripts.find(DATA / "transcripts" / "t_parallel" / "projects")
    chunk = whole(file.path)
    assert [call.tool_name for call in chunk.calls] == ["Bash", "Bash", "Read"]
    answers = {answer.tool_use_id: answer for answer in chunk.answers}
    assert [answers[call.tool_use_id].success for call in chunk.calls] == [True, True, False]
    assert answers[chunk.calls[2].tool_use_id].text.startswith("File does not exist.")
    assert {call.message_id for call in chunk.calls} <= {message.message_id for message in chunk.messages}
    assert json.loads(chunk.calls[0].parameters)["command"] == "echo 1"


def test_the_line_with_the_most_output_is_kept_whole(write: Write) -> None:
    path = write(
        assistant(said=usage(1, cache_read_input_tokens=900), model="claude-first"),
        assistant(said=usage(80, cache_read_input_tokens=700), model="claude-second", after=1),
        assistant(said=usage(8, cache_read_input_tokens=950), model="claude-third", after=2),
    )
    [message] = whole(path).messages
    assert (message.model, message.output_tokens, message.cache_read_tokens) == ("claude-second", 80, 700)
    assert message.timestamp == AT


def test_the_order_of_lines_does_not_matter(write: Write) -> None:
    lines = [
        assistant(said=usage(80, cache_read_input_tokens=700), after=1),
        assistant(said=usage(80, cache_read_input_tokens=900), after=2),
        assistant(said=usage(80, cache_read_input_tokens=900), model="claude-zero", after=3),
    ]
    found = [whole(write(*order)).messages for order in itertools.permutations(lines)]
    assert found == [found[0]] * 6
    assert (found[0][0].model, found[0][0].cache_read_tokens, found[0][0].timestamp) == ("claude-zero", 900, AT + 1000)


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ({"cache_creation_input_tokens": 100}, (100, 0)),
        ({"cache_creation_input_tokens": 100, "cache_creation": None}, (100, 0)),
        ({"cache_creation": {"ephemeral_5m_input_tokens": 7, "ephemeral_1h_input_tokens": 9}}, (7, 9)),
        ({"cache_creation_input_tokens": 100, "cache_creation": {"ephemeral_1h_input_tokens": 60}}, (40, 60)),
        (
            {
                "cache_creation_input_tokens": 100,
                "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 60},
            },
            (40, 60),
        ),
        (
            {
                "cache_creation_input_tokens": 10,
                "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 60},
            },
            (30, 60),
        ),
    ],
    ids=["sum alone", "null", "no sum", "rest", "rest beside both", "sum too small"],
)
def test_cache_writes_are_told_apart(write: Write, said: dict[str, object], written: tuple[int, int]) -> None:
    [message] = whole(write(assistant(said=usage(**said)))).messages
    assert (message.cache_write_5m_tokens, message.cache_write_1h_tokens) == written


@pytest.mark.parametrize(
    ("said", "modifiers"),
    [
        ({"speed": "fast", "service_tier": "batch", "inference_geo": "US"}, "batch fast geo_us"),
        ({"speed": "standard", "service_tier": "standard", "inference_geo": ""}, ""),
        ({"speed": None, "service_tier": "priority", "inference_geo": "global"}, ""),
        ({"speed": 7, "service_tier": ["batch"], "inference_geo": "eu west/1"}, "geo_eu_west_1"),
    ],
    ids=["all", "standard", "priority", "odd"],
)
def test_what_changes_the_price_is_told(write: Write, said: dict[str, object], modifiers: str) -> None:
    [message] = whole(write(assistant(said=usage(**said)))).messages
    assert message.modifiers == modifiers


def test_web_searches_are_counted(write: Write) -> None:
    path = write(assistant(said=usage(server_tool_use={"web_search_requests": 4, "web_fetch_requests": 9})))
    assert whole(path).messages[0].web_searches == 4


@pytest.mark.parametrize(
    "absurd",
    [-1, 2.5, 2**53, 10**400, TOKEN_LIMIT + 1, "12", True, None, [], {}, 1e300],
    ids=lambda value: str(value)[:9],
)
def test_an_absurd_number_of_tokens_is_none(write: Write, absurd: object) -> None:
    path = write(assistant(said={"input_tokens": absurd, "output_tokens": 5.0, "server_tool_use": absurd}))
    [message] = whole(path).messages
    assert (message.input_tokens, message.output_tokens, message.web_searches) == (0, 5, 0)


def test_a_number_beyond_a_double_is_none(write: Write) -> None:
    line = json.dumps(assistant(said=usage("HUGE", input_tokens=3))).replace('"HUGE"', "1e999").encode()
    assert totals(whole(write(line)).messages) == [3, 0, 0, 0]


def test_a_message_of_an_old_client_goes_by_its_line(write: Write) -> None:
    assert [message.message_id for message in whole(write(assistant(None))).messages] == ["u-None"]


@pytest.mark.parametrize("said", [[], "none", 7], ids=["list", "string", "number"])
def test_without_usage_there_is_neither_message_nor_call(write: Write, said: object) -> None:
    chunk = whole(write(assistant("msg_1", use(), said=said)))
    assert (chunk.messages, chunk.calls, chunk.bad_lines) == ([], [], 0)


def test_a_prompt_holds_until_the_next_one_and_beyond_the_chunk(write: Write) -> None:
    path = write(
        user(promptId="p-1"), assistant("msg_1"), user(result("x")), assistant("msg_2", use()), user(promptId="p-2"),
        assistant("msg_3"),
    )  # fmt: skip
    chunk = whole(path)
    assert [message.prompt_id for message in chunk.messages] == ["p-1", "p-1", "p-2"]
    assert [call.prompt_id for call in chunk.calls] == ["p-1"]
    assert chunk.position.prompt_id == "p-2"
    with path.open("ab") as file:
        file.write(json.dumps(assistant("msg_4")).encode() + b"\n")
    assert transcripts.read(path, chunk.position).messages[0].prompt_id == "p-2"


def test_a_line_without_a_time_has_that_of_the_lines_before_it(write: Write) -> None:
    strange = [None, 7, "yesterday", "", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59+00:00"]
    lines = [assistant(f"msg_{number}") | {"timestamp": value} for number, value in enumerate(strange)]
    path = write(user(after=5), *lines)
    chunk = whole(path)
    assert {message.timestamp for message in chunk.messages} == {AT + 5000}
    assert (chunk.began_at, chunk.last_at, chunk.position.last_at) == (AT + 5000,) * 3


def test_without_any_time_the_file_has_one(write: Write) -> None:
    path = write(assistant() | {"timestamp": None})
    chunk = whole(path)
    assert chunk.messages[0].timestamp == path.stat().st_mtime_ns // 1_000_000
    assert (chunk.began_at, chunk.last_at, transcripts.peek(path)) == (None, None, None)


def test_zones_are_heeded(write: Write) -> None:
    path = write(
        assistant() | {"timestamp": "2026-11-18T13:06:40.000+02:00"},
        assistant("msg_2") | {"timestamp": "2026-11-18T11:06:40"},
    )
    assert [message.timestamp for message in whole(path).messages] == [AT, AT]


@pytest.mark.parametrize(
    ("content", "success", "text"),
    [
        (result("fine"), True, "fine"),
        (result("fine", is_error=False), True, "fine"),
        (result("Exit code 1", is_error=True), False, "Exit code 1"),
        (result("<tool_use_error>no</tool_use_error>"), False, "<tool_use_error>no</tool_use_error>"),
        (result([{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]), True, "a\nb"),
        (
            result([7, {"type": "text", "text": "<tool_use_error>x"}, {"type": "text", "text": 7}]),
            False,
            "<tool_use_error>x",
        ),
        (result([]), True, ""),
        (result(None), True, ""),
        (result("x" * (TEXT_LIMIT + 1)), True, "x" * TEXT_LIMIT),
        ([7, "tool_result", *result("fine")], True, "fine"),
    ],
    ids=["text", "said", "failed", "refused", "blocks", "odd blocks", "empty", "null", "long", "odd neighbours"],
)
def test_an_answer_says_whether_it_went_well(write: Write, content: object, success: bool, text: str) -> None:
    path = write(user(content, after=3))
    [answer] = whole(path).answers
    assert (answer.tool_use_id, answer.timestamp) == ("toolu_1", AT + 3000)
    assert (answer.success, answer.text) == (success, text)
    assert whole(path, only_failures=True).answers == [replace(answer, text="" if success else text)]


@pytest.mark.parametrize("mark", [r"<tool_use_error>", r"\u003ctool_use_error>", r"<tool\u005fuse_error>"])
@pytest.mark.parametrize("form", ['"%s"', '[{"type":"text","text":"%s"}]'], ids=["text", "blocks"])
def test_a_failure_is_one_however_it_is_written(tmp_path: Path, mark: str, form: str) -> None:
    path = tmp_path / "a.jsonl"
    block = '{"type":"tool_result","tool_use_id":"toolu_1","content":%s}' % (form % mark)
    path.write_text(f'{{"type":"user","message":{{"content":[{block}]}}}}\n')
    for chunk in (whole(path), whole(path, only_failures=True)):
        assert [(answer.success, answer.text) for answer in chunk.answers] == [(False, "<tool_use_error>")]


def test_the_first_answer_to_a_call_is_the_one_that_was_told(write: Write) -> None:
    [answer] = whole(write(user(result("first"), after=1), user(result("second", is_error=True), after=2))).answers
    assert (answer.text, answer.success) == ("first", True)


def test_only_calls_that_the_client_runs_are_calls(write: Write) -> None:
    path = write(
        assistant("msg_1", use(), use(type="server_tool_use", id="srv_1"), use(type="mcp_tool_use", id="mcp_1")),
        assistant("msg_2", use(id=""), use(id=None), use(id="toolu_2", name=None), use(id="toolu_3", input=None)),
    )
    calls = whole(path).calls
    assert [(call.tool_use_id, call.tool_name, call.model) for call in calls] == [
        ("toolu_1", "Bash", "claude-sonnet-5"),
        ("toolu_3", "Bash", "claude-sonnet-5"),
    ]
    assert [json.loads(call.parameters) for call in calls] == [{"command": "ls"}, None]


def test_unknown_lines_are_not_bad_ones(write: Write) -> None:
    path = write(
        {"type": "news", "message": [1]}, {"type": ["user"]}, {}, b"  ", b"\r", user([1, None, {"type": 3}]), user(7)
    )
    chunk = whole(path)
    assert (chunk.bad_lines, chunk.messages, chunk.calls, chunk.answers) == (0, [], [], [])


def test_a_lone_surrogate_costs_nothing(write: Write) -> None:
    line = json.dumps(
        assistant("msg_1", use(input={"command": "cut \ud83d, whole 😀, \\ud83d"}), {"type": "text", "text": "\udc00"})
    )
    chunk = whole(write(line.encode(), user(result("\ud800 <"))))
    assert chunk.bad_lines == 0
    assert json.loads(chunk.calls[0].parameters)["command"] == "cut \ufffd, whole 😀, \\ud83d"
    assert chunk.answers[0].text == "\ufffd <"
    chunk.calls[0].parameters.decode()


def test_bytes_that_are_no_text_cost_nothing(write: Write) -> None:
    line = json.dumps(assistant("msg_1", use(input={"command": "X"}))).encode().replace(b"X", b"\xff\xc3")
    chunk = whole(write(line, json.dumps(user(result("X"))).encode().replace(b"X", b"\xe2\x82")))
    assert (len(chunk.messages), chunk.bad_lines) == (1, 0)
    assert "\ufffd" in chunk.calls[0].parameters.decode()
    assert chunk.answers[0].text == "\ufffd"


GOOD = json.dumps({"parentUuid": None, **assistant("msg_1", use())}).encode()
OTHER = json.dumps({"parentUuid": "u", **assistant("msg_2")}).encode()


@pytest.mark.parametrize(
    ("raw", "found", "bad"),
    [
        (b"\xef\xbb\xbf" + GOOD, ["msg_1"], 0),
        (GOOD + b"\r\n" + OTHER + b"\r", ["msg_1", "msg_2"], 0),
        (b"\n\n" + GOOD + b"\n \t\n", ["msg_1"], 0),
        (GOOD[:90] + b"\n" + OTHER, ["msg_2"], 1),
        (GOOD[:90] + OTHER, ["msg_2"], 1),
        (GOOD + OTHER, ["msg_1", "msg_2"], 1),
        (b'{"type":"summary","x":{"a":1}}' + GOOD, ["msg_1"], 1),
        (b"\0" * 4096 + GOOD, ["msg_1"], 1),
        (b"\0" * 4096 + GOOD.replace(b'"parentUuid": null, ', b""), ["msg_1"], 1),
        (b"\0" * 4096 + b"\n" + GOOD, ["msg_1"], 1),
        (GOOD.replace(b"Bash", b"B\0sh") + b"\n" + OTHER, ["msg_2"], 1),
        (b"nonsense\n[1]\n7\nnull\n\xff\xfe{\0\n" + GOOD, ["msg_1"], 5),
        (b"[" * 100_000 + b"\n" + GOOD, ["msg_1"], 1),
        (b'{"message":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n" + GOOD, ["msg_1"], 1),
    ],
    ids=["BOM", "CRLF", "blank", "torn", "glued to half", "glued", "glued to other", "NUL before", "NUL other", "NUL line",
         "NUL inside", "garbage", "deep", "deep object"],
)  # fmt: skip
def test_a_bad_line_costs_only_itself(write: Write, raw: bytes, found: list[str], bad: int) -> None:
    chunk = whole(write(raw))
    assert ([message.message_id for message in chunk.messages], chunk.bad_lines) == (found, bad)
    assert chunk.done


def test_copies_of_a_fork_are_known_as_such() -> None:
    """Of a session that was resumed and forked, and of a fork of that fork; recorded in print mode."""
    found = {
        file.session_uuid[:4]: whole(file.path) for file in transcripts.find(DATA / "forks" / "print" / "projects")
    }
    owners = {
        message.message_id[-1]: session
        for session, chunk in found.items()
        for message in chunk.messages
        if not message.copied
    }
    assert owners == {**dict.fromkeys("123490", "610b"), **dict.fromkeys("56", "9f6e"), **dict.fromkeys("78", "7ff2")}
    assert {session: len(chunk.messages) for session, chunk in found.items()} == {"610b": 6, "9f6e": 6, "7ff2": 8}
    assert {session: len(chunk.calls) for session, chunk in found.items()} == {"610b": 3, "9f6e": 1, "7ff2": 1}
    began = {session: chunk.began_at or 0 for session, chunk in found.items()}
    assert began["610b"] < began["9f6e"] < began["7ff2"]


def test_a_fork_in_the_terminal_began_after_its_original() -> None:
    """Its first lines are copies and have the original's times; `/branch` and `--fork-session` mark them differently."""
    files = {file.session_uuid[:4]: file.path for file in transcripts.find(DATA / "forks" / "terminal" / "projects")}
    began = {session: transcripts.peek(path) or 0 for session, path in files.items()}
    assert began["1111"] < min(began["83b5"], began["ccea"])
    copied = {session: [message.copied for message in whole(path).messages] for session, path in files.items()}
    assert copied == {"1111": [False, False], "83b5": [True, False], "ccea": [True, False]}


def test_a_fork_without_marks_began_when_its_first_line_says() -> None:
    files = transcripts.find(DATA / "transcripts" / "t_compact" / "projects")
    original, fork = sorted(files, key=lambda file: transcripts.peek(file.path) or 0)
    assert original.session_uuid.startswith("2222")
    shared = {message.message_id for message in whole(original.path).messages}
    assert shared < {message.message_id for message in whole(fork.path).messages}


def test_nothing_but_copies_still_is_younger_than_the_original(write: Write) -> None:
    original = write(user(), assistant(after=1), name="a.jsonl")
    copies = [line | {"forkedFrom": {"sessionId": SESSION}} for line in (user(), assistant(after=1))]
    assert (transcripts.peek(original), transcripts.peek(write(*copies, name="b.jsonl"))) == (AT, AT + 1000)


def test_what_comes_after_an_own_answer_says_nothing_of_the_beginning(write: Write) -> None:
    path = write(user(), assistant(after=1), user(after=9, forkedFrom={"sessionId": "other"}), user(after=10))
    assert transcripts.peek(path) == whole(path).began_at == AT


def test_a_message_that_stands_copied_and_original_is_original(write: Write) -> None:
    [message] = whole(
        write(assistant(requestSessionId="other"), assistant(requestSessionId=SESSION, said=usage(3)))
    ).messages
    assert (message.copied, message.output_tokens) == (False, 10)
