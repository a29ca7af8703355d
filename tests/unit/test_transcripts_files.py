"""Files that grow, shrink, are replaced, and are anything but transcripts; and where transcripts are."""

import importlib.util
import json
import os
import sys
import tempfile
import threading
import tracemalloc
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks import transcripts
from tasks.config import Settings
from tasks.config.sections import TranscriptSettings
from tasks.transcripts import Answer, Call, Chunk, Message, Position
from tasks.transcripts.lines import joined
from tasks.transcripts.reader import LINE_LIMIT

DATA = Path(__file__).parents[1] / "data"
SESSION = "0b1c2d3e-0000-4000-8000-000000000001"


def line(number: int, output: int = 5, padding: int = 0) -> bytes:
    """One answer with one call."""
    use = {"type": "tool_use", "id": f"toolu_{number}", "name": "Bash", "input": {"command": "x" * padding}}
    message = {"id": f"msg_{number}", "model": "claude-sonnet-5", "content": [use], "usage": {"output_tokens": output}}
    time = f"2026-11-18T11:{number // 60 % 60:02d}:{number % 60:02d}.000Z"
    told = {"parentUuid": None, "type": "assistant", "timestamp": time, "sessionId": SESSION, "message": message}
    return json.dumps(told).encode() + b"\n"


def ids(chunk: Chunk) -> list[str]:
    return [message.message_id for message in chunk.messages]


def chunks(path: Path, limit: int, position: Position | None = None, *, final: bool = False) -> Iterator[Chunk]:
    position = position or Position()
    done = False
    while not done:
        chunk = transcripts.read(path, position, limit=limit, final=final)
        assert chunk.size or chunk.done
        yield chunk
        position, done = chunk.position, chunk.done


class Sum:
    """What several chunks of one file say together."""

    def __init__(self) -> None:
        self.messages: dict[str, Message] = {}
        self.calls: dict[str, Call] = {}
        self.answers: dict[str, Answer] = {}
        self.bad_lines = 0
        self.offset = 0
        self.last_at: int | None = None
        self.prompt_id: str | None = None

    def add(self, chunk: Chunk) -> None:
        assert chunk.position.offset - chunk.size == self.offset
        for message in chunk.messages:
            known = self.messages.get(message.message_id)
            self.messages[message.message_id] = joined(known, message) if known else message
        for call in chunk.calls:
            self.calls.setdefault(call.tool_use_id, call)
        for answer in chunk.answers:
            self.answers.setdefault(answer.tool_use_id, answer)
        self.bad_lines += chunk.bad_lines
        self.offset = chunk.position.offset
        self.last_at = chunk.position.last_at
        self.prompt_id = chunk.position.prompt_id


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / f"{SESSION}.jsonl"


def test_reading_goes_on_where_it_ended(path: Path) -> None:
    path.write_bytes(line(1) + line(2))
    first = transcripts.read(path, Position())
    with path.open("ab") as file:
        file.write(line(3))
    second = transcripts.read(path, first.position)
    third = transcripts.read(path, second.position)
    assert (ids(first), ids(second), ids(third)) == (["msg_1", "msg_2"], ["msg_3"], [])
    assert (second.size, second.restarted, third.size, third.done) == (len(line(3)), False, 0, True)
    assert third.position == second.position


def test_a_line_is_not_read_before_its_newline_is_there(path: Path) -> None:
    path.write_bytes(line(1) + line(2)[:-1])
    first = transcripts.read(path, Position())
    assert (ids(first), first.done, first.bad_lines, first.size) == (["msg_1"], True, 0, len(line(1)))
    with path.open("ab") as file:
        file.write(b"\n")
    assert ids(transcripts.read(path, first.position)) == ["msg_2"]


def test_a_dead_client_s_last_line_is_taken_when_it_is_whole(path: Path) -> None:
    path.write_bytes(line(1) + line(2)[:-1])
    first = transcripts.read(path, Position(), final=True)
    assert (ids(first), first.size) == (["msg_1", "msg_2"], path.stat().st_size)
    with path.open("ab") as file:
        file.write(b"\n" + line(3))
    after = transcripts.read(path, first.position, final=True)
    assert (ids(after), after.bad_lines, after.restarted) == (["msg_3"], 0, False)


def test_half_a_last_line_is_never_taken(path: Path) -> None:
    path.write_bytes(line(1) + line(2)[:-9])
    first = transcripts.read(path, Position(), final=True)
    assert (ids(first), first.bad_lines, first.done) == (["msg_1"], 0, True)
    with path.open("ab") as file:
        file.write(line(3))
    after = transcripts.read(path, first.position)
    assert (ids(after), after.bad_lines) == (["msg_3"], 1)


def test_a_shorter_file_is_read_from_its_beginning(path: Path) -> None:
    path.write_bytes(line(1) + line(2))
    position = transcripts.read(path, Position()).position
    path.write_bytes(line(7))
    chunk = transcripts.read(path, position)
    assert (ids(chunk), chunk.restarted, chunk.position.offset) == (["msg_7"], True, len(line(7)))


def test_a_file_written_anew_in_place_is_read_from_its_beginning(path: Path) -> None:
    path.write_bytes(line(1) + line(2))
    before = transcripts.read(path, Position()).position
    path.write_bytes(line(3) + line(4) + line(5))
    chunk = transcripts.read(path, before)
    assert chunk.position.inode == before.inode
    assert (ids(chunk), chunk.restarted) == (["msg_3", "msg_4", "msg_5"], True)


def test_a_file_put_in_the_place_of_another_is_read_from_its_beginning(path: Path) -> None:
    path.write_bytes(line(1) + line(2))
    position = transcripts.read(path, Position()).position
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes() + line(3))
    other.replace(path)
    chunk = transcripts.read(path, position)
    assert (ids(chunk), chunk.restarted) == (["msg_1", "msg_2", "msg_3"], True)


def test_an_emptied_file_begins_again(path: Path) -> None:
    path.write_bytes(line(1))
    position = replace(transcripts.read(path, Position()).position, prompt_id="p")
    path.write_bytes(b"")
    chunk = transcripts.read(path, position)
    assert (chunk.restarted, chunk.done, chunk.position.offset, chunk.position.prompt_id) == (True, True, 0, None)


def test_devices_numbered_anew_are_no_new_file(path: Path) -> None:
    path.write_bytes(line(1))
    position = transcripts.read(path, Position()).position
    chunk = transcripts.read(path, replace(position, device=position.device + 1))
    assert (chunk.restarted, chunk.size, chunk.position) == (False, 0, position)


def test_a_file_that_is_not_there_is_said_so(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        transcripts.read(path, Position())
    with pytest.raises(FileNotFoundError):
        transcripts.peek(path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_not_waited_for(path: Path, make: Any) -> None:
    make(path)
    with pytest.raises(OSError, match=path.name):
        transcripts.read(path, Position())


def test_a_line_longer_than_a_chunk_is_read_whole(path: Path) -> None:
    path.write_bytes(line(1, padding=3 << 20) + line(2))
    found = list(chunks(path, 1 << 10))
    assert [name for chunk in found for name in ids(chunk)] == ["msg_1", "msg_2"]
    assert len(found[0].calls[0].parameters) > 3 << 20


def test_a_line_beyond_all_measure_is_skipped_in_little_memory(path: Path) -> None:
    size = 4 * LINE_LIMIT
    with path.open("wb") as file:
        file.write(line(1))
        file.truncate(size)  # zeros that take no room
        file.seek(size)
        file.write(b"\n" + line(2))
    tracemalloc.start()
    try:
        found = list(chunks(path, 1 << 20))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [name for chunk in found for name in ids(chunk)] == ["msg_1", "msg_2"]
    assert sum(chunk.bad_lines for chunk in found) == 1
    assert peak < 1.5 * LINE_LIMIT


def test_an_endless_line_is_passed_while_it_grows(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(LINE_LIMIT + (2 << 20))
    first = transcripts.read(path, Position())
    assert (first.done, first.size, first.bad_lines) == (True, LINE_LIMIT + (2 << 20), 1)
    with path.open("ab") as file:
        file.write(b'still "it"}\n' + line(1))
    assert ids(transcripts.read(path, first.position)) == ["msg_1"]


def test_memory_does_not_grow_with_the_file(path: Path) -> None:
    with path.open("wb") as file:
        for number in range(600):
            file.write(line(number, padding=50_000))
    tracemalloc.start()
    try:
        for chunk in chunks(path, 1 << 20):
            del chunk
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 30e6
    assert peak < 12e6


def test_a_file_that_grows_while_it_is_read_loses_nothing(path: Path) -> None:
    path.touch()

    def grow() -> None:
        with path.open("ab", buffering=0) as file:
            for number in range(3000):
                whole = line(number, padding=number % 300)
                file.write(whole[:50])
                file.write(whole[50:])

    writer = threading.Thread(target=grow)
    writer.start()
    total = Sum()
    position = Position()
    while writer.is_alive() or total.offset < path.stat().st_size:
        chunk = transcripts.read(path, position, limit=10_000)
        assert not chunk.restarted
        total.add(chunk)
        position = chunk.position
    writer.join()
    assert (len(total.messages), len(total.calls), total.bad_lines) == (3000, 3000, 0)


# Lines that mean something, in any order: the same few ids, so that most lines repeat another one.
_NUMBERS = st.one_of(st.integers(0, 300), st.none(), st.floats(), st.text(max_size=2), st.booleans(), st.integers())
_TIMES = st.one_of(
    st.integers(0, 59).map(lambda second: f"2026-11-18T11:00:{second:02d}.5Z"), st.none(), st.text(max_size=5)
)
_TEXTS = st.text(max_size=40)
_WRITTEN = st.sampled_from(["ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"])
_USAGE = st.fixed_dictionaries(
    {"input_tokens": _NUMBERS, "output_tokens": _NUMBERS},
    optional={
        "cache_creation_input_tokens": _NUMBERS,
        "cache_creation": st.one_of(st.none(), _TEXTS, st.dictionaries(_WRITTEN, _NUMBERS)),
        "server_tool_use": st.one_of(st.none(), st.dictionaries(st.just("web_search_requests"), _NUMBERS)),
        "speed": st.sampled_from(["fast", "standard", None, 3]),
    },
)
_USES = st.fixed_dictionaries(
    {
        "type": st.just("tool_use"),
        "id": st.sampled_from("abc"),
        "name": st.just("Bash"),
        "input": st.dictionaries(_TEXTS, _TEXTS, max_size=2),
    }
)
_RESULTS = st.fixed_dictionaries(
    {
        "type": st.just("tool_result"),
        "tool_use_id": st.sampled_from("abc"),
        "content": st.one_of(_TEXTS, st.none(), st.lists(_TEXTS, max_size=2)),
    },
    optional={"is_error": st.sampled_from([True, False, None, 1])},
)
_BLOCKS = st.one_of(_USES, _RESULTS, _TEXTS, st.fixed_dictionaries({"type": st.just("text"), "text": _TEXTS}))
_MESSAGES = st.fixed_dictionaries(
    {"content": st.one_of(st.lists(_BLOCKS, max_size=3), _TEXTS)},
    optional={
        "id": st.sampled_from(["m1", "m2", None]),
        "model": st.sampled_from(["claude-a", "<synthetic>", None]),
        "usage": st.one_of(_USAGE, _TEXTS),
    },
)
_OBJECTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["assistant", "user", "system"])},
    optional={
        "timestamp": _TIMES,
        "message": st.one_of(_MESSAGES, st.none(), _TEXTS),
        "uuid": st.sampled_from("uv"),
        "promptId": st.sampled_from(["p", "q", None]),
        "sessionId": st.just(SESSION),
        "requestSessionId": st.sampled_from([SESSION, "else"]),
    },
)
_RAWS = _OBJECTS.map(lambda value: json.dumps(value).encode())
_LINES = st.one_of(
    _RAWS,
    _RAWS,
    st.binary(max_size=30),
    st.tuples(_RAWS, st.integers(0, 200)).map(lambda cut: cut[0][: cut[1]]),
    st.tuples(_RAWS, _RAWS).map(b"".join),
    st.sampled_from([b"", b"\0\0", b"\xef\xbb\xbf{}", b"[[", b"NaN", rb'{"type":"user","x":"\ud800"}']),
)


def summed(found: Iterator[Chunk]) -> dict[str, Any]:
    total = Sum()
    for chunk in found:
        total.add(chunk)
    return vars(total)


@given(st.lists(_LINES, max_size=12), st.integers(1, 400), st.booleans(), st.binary(max_size=3))
def test_any_division_into_chunks_says_the_same(lines: list[bytes], limit: int, final: bool, end: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.jsonl")
        path.write_bytes(b"\n".join(lines) + end)
        os.utime(path, (1.8e9, 1.8e9))
        assert summed(chunks(path, limit, final=final)) == summed(chunks(path, 1 << 20, final=final))
        transcripts.peek(path)


@given(st.lists(_LINES, min_size=1, max_size=8), st.lists(st.integers(0, 3000), max_size=6))
def test_a_growing_file_says_the_same_as_the_whole_one(lines: list[bytes], cuts: list[int]) -> None:
    data = b"\n".join(lines) + b"\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.jsonl")
        path.touch()
        total = Sum()
        position = Position()
        written = 0
        for end in [*sorted(cuts), len(data)]:
            with path.open("ab") as file:
                file.write(data[written:end])
            written = max(written, min(end, len(data)))
            os.utime(path, (1.8e9, 1.8e9))
            for chunk in chunks(path, 300, position):
                assert not chunk.restarted
                total.add(chunk)
                position = chunk.position
        assert vars(total) == summed(chunks(path, 1 << 20))


@given(st.binary(max_size=300))
def test_garbage_never_raises(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "agent-x.jsonl")
        path.write_bytes(data)
        for final in (False, True):
            chunk = transcripts.read(path, Position(), final=final)
            assert chunk.done
            assert chunk.messages == []
        transcripts.peek(path)
        transcripts.of_session(path)


def test_transcripts_are_found_with_whose_they_are(tmp_path: Path) -> None:
    for name in ("b/s2.jsonl", "b/s1/subagents/agent-a1.jsonl", "b/s1/subagents/workflows/w/agent-a2.jsonl", "b/s1.jsonl",
                 "a/s0.jsonl", "a/agent-old.jsonl", "b/s1/subagents/journal.jsonl", "b/s1/tool-results/x.jsonl", "b/x.txt",
                 "stray.jsonl"):  # fmt: skip
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(line(1))
    (tmp_path / "b/s1/subagents/agent-a1.meta.json").write_text('{"agentType":"Explore","new":[1]}')
    (tmp_path / "b/s1/subagents/workflows/w/agent-a2.meta.json").write_text('{"agentType":')
    os.mkfifo(tmp_path / "a/pipe.jsonl")
    found = transcripts.find(tmp_path)
    assert [
        (str(file.path.relative_to(tmp_path)), file.session_uuid, file.agent_id, file.agent_type) for file in found
    ] == [
        ("a/agent-old.jsonl", SESSION, "old", None),
        ("a/s0.jsonl", "s0", None, None),
        ("b/s1.jsonl", "s1", None, None),
        ("b/s1/subagents/agent-a1.jsonl", "s1", "a1", "Explore"),
        ("b/s1/subagents/workflows/w/agent-a2.jsonl", "s1", "a2", None),
        ("b/s2.jsonl", "s2", None, None),
    ]
    status = found[0].path.stat()
    assert (found[0].size, found[0].mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert transcripts.of_session(tmp_path / "b/s1.jsonl") == found[2:5]
    assert transcripts.read(found[3].path, Position()).agent_id == "a1"


def test_where_nothing_is_nothing_is_found(tmp_path: Path) -> None:
    assert transcripts.find(tmp_path / "none") == []
    assert transcripts.of_session(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    ("configured", "environ", "folder"),
    [
        ("/srv/p", {"HOME": "/home/x", "CLAUDE_CONFIG_DIR": "/c"}, "/srv/p"),
        ("~/p", {"HOME": "/home/x"}, "/home/x/p"),
        ("", {"HOME": "/home/x", "CLAUDE_CONFIG_DIR": "/c"}, "/c/projects"),
        ("", {"HOME": "/home/x", "CLAUDE_CONFIG_DIR": ""}, "/home/x/.claude/projects"),
    ],
    ids=["configured", "home", "environment", "default"],
)
def test_the_folder_of_projects_is_where_the_client_keeps_it(
    tmp_path: Path, configured: str, environ: dict[str, str], folder: str
) -> None:
    settings = Settings(tmp_path, tmp_path / "config.toml", transcripts=TranscriptSettings(projects=configured))
    assert transcripts.projects_dir(settings, environ) == Path(folder)


@pytest.fixture
def corpus() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("corpus", Path(__file__).parents[1] / "benchmarks" / "corpus.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["corpus"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["corpus"]


@pytest.mark.parametrize("limit", [20_000, 4 << 20])
def test_each_answer_of_a_corpus_is_found_where_it_was_made(corpus: ModuleType, tmp_path: Path, limit: int) -> None:
    truth = corpus.write(tmp_path, 3, seed=11)
    best: dict[str, Message] = {}
    owners: dict[str, tuple[bool, int, str, str]] = {}
    calls, failures = set(), set()
    for file in transcripts.find(tmp_path):
        began = transcripts.peek(file.path) or 0
        for chunk in chunks(file.path, limit):
            assert chunk.bad_lines == 0
            for message in chunk.messages:
                known = best.get(message.message_id)
                best[message.message_id] = joined(known, message) if known else message
                claim = (message.copied, began, str(file.path), file.session_uuid)
                owners[message.message_id] = min(claim, owners.get(message.message_id, claim))
            calls |= {call.tool_use_id for call in chunk.calls}
            failures |= {answer.tool_use_id for answer in chunk.answers if not answer.success}
    sessions, models = defaultdict(list), defaultdict(list)
    for message in best.values():
        sessions[owners[message.message_id][3]].append(message)
        models[message.model].append(message)
    assert {session: tokens(corpus, found) for session, found in sessions.items()} == truth.by_session
    assert {model: tokens(corpus, found) for model, found in models.items()} == truth.by_model
    assert (len(calls), len(failures)) == (truth.calls, truth.failures)
    assert truth.naive.output_tokens > 1.3 * truth.total.output_tokens


def tokens(corpus: ModuleType, found: list[Message]) -> Any:
    names = list(corpus.Tokens.__dataclass_fields__)[1:]
    return corpus.Tokens(len(found), *(sum(getattr(message, name) for message in found) for name in names))


def test_a_corpus_is_the_same_for_the_same_seed(corpus: ModuleType, tmp_path: Path) -> None:
    assert corpus.write(tmp_path / "a", 1, seed=5) == corpus.write(tmp_path / "b", 1, seed=5)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)
