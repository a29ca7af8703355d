"""What pages of tasks and sessions are made of: timelines, patches, conflicts, strips, trees, steps."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams
from tasks.api.calls import Call
from tasks.api.diff import ChangedFile
from tasks.api.sessions import StatusChange
from tasks.api.tasks import TaskDetails
from tasks.api.turns import TreeAgent
from tasks.web.links import linker
from tasks.web.pages.session import LEVELS, branches
from tasks.web.pages.task import steps
from tasks.web.patches import AROUND, by_file, conflict_blocks
from tasks.web.shown import ending
from tasks.web.strips import WIDTH, strip
from tasks.web.timeline import MOST, Timeline, timeline

LIMIT = 20
SPENT = dict.fromkeys(
    ("messages", "unpriced", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens",
     "cache_write_1h_tokens"), 0,
) | {"cost": 0.0}  # fmt: skip


def task(activity: list[tuple[int, str]], **fields: Any) -> TaskDetails:
    entries = [{"id": f"{at}.{number}", "at": at, "message": message} for number, (at, message) in enumerate(activity)]
    nothing: dict[str, Any] = dict.fromkeys(TaskDetails.model_fields)
    made = {
        "task_id": "abc123", "user_id": 0, "description": "x", "status": "running", "priority": "normal", "isolate": True,
        "attempt": 1, "commits": 0, "merge_state": "none", "created_at": 0, "merge_paths": [], "activity": entries,
        "runs": [], "verdicts": [], "calls": {}, "denied": 0, "running": [], "spent": SPENT, "files": {},
    }  # fmt: skip
    return TaskDetails(**nothing | made | fields)


def call(id_: int, at: int, **fields: Any) -> Call:
    known = {"id": id_, "timestamp": at, "tool_name": "Bash", "cut": False, "success": True, "source": "hook"}
    nothing: dict[str, Any] = dict.fromkeys(Call.model_fields)
    return Call(**nothing | known | fields)


def pages(one: TaskDetails, calls: list[Call]) -> list[Timeline]:
    """All of them, the next one always as the link of the last one asks for it."""
    found: list[Timeline] = []
    newest = sorted(calls, key=lambda call: (-call.timestamp, -call.id))
    before, left = None, None
    while True:
        places = [call.id for call in newest]
        rest = newest if before is None else newest[places.index(before) + 1 :]
        page = timeline(one, rest[:LIMIT], before=before, left=left, limit=LIMIT)
        found.append(page)
        if not page.more:
            return found
        assert (page.before, page.left) != (before, left), "no page leads to itself"
        before, left = page.before, page.left


@given(
    st.lists(st.integers(0, 300), max_size=200),
    st.lists(st.integers(0, 300), max_size=100),
    st.lists(st.integers(0, 300), max_size=3),
)
def test_every_entry_of_a_timeline_is_on_one_page(notes: list[int], calls: list[int], runs: list[int]) -> None:
    begun = [
        dict.fromkeys(("session_uuid", "exit_status", "outcome", "turns", "input_tokens", "output_tokens",
                       "cache_read_tokens", "cache_write_tokens", "cost_usd"))
        | {"attempt": number, "resumed": False, "started_at": at, "finished_at": at + 5}
        for number, at in enumerate(runs)
    ]  # fmt: skip
    one = task([(at, "said") for at in sorted(notes)], runs=begun)
    found = pages(one, [call(number, at) for number, at in enumerate(calls)])
    entries = [entry for page in found for entry in page.entries]
    assert len({entry.key for entry in entries}) == len(entries) == len(notes) + len(calls) + 2 * len(runs)
    assert all(len(page.entries) <= MOST for page in found)
    for page in found:
        times = [entry.at for entry in page.entries]
        assert times == sorted(times, reverse=True)


def test_what_the_output_says_of_a_call_gives_way_to_the_call() -> None:
    activity = [(1, "Bash: make"), (2, "[Explore] Read: a.py"), (3, "Note: Bash is a shell"), (4, "Glob: *.py")]
    one = task(activity, calls={"Bash": (1, 0), "Read": (1, 0)})
    said = [entry.what for entry in timeline(one, [], before=None, left=None, limit=LIMIT).entries]
    assert said == ["Glob: *.py", "Note: Bash is a shell"]


PATCH = """\
diff --git a/one b/one
index 1..2 100644
--- a/one
+++ b/one
@@ -1,2 +1,2 @@ diff --git a/x b/x
-diff --git a/y b/y
+two\x0cparts
 same
diff --git a/old name b/new name
similarity index 90%
rename from old name
rename to new name
@@ -1 +1 @@
-a
\\ No newline at end of file
+b
diff --git a/image b/image
new file mode 100644
Binary files /dev/null and b/image differ
"""


def changed(path: str, **fields: Any) -> ChangedFile:
    return ChangedFile(
        **{"old_path": None, "status": "M", "added": 1, "deleted": 1, "binary": False} | fields, path=path
    )


def test_a_patch_is_divided_by_file() -> None:
    files = [
        changed("one"), changed("new name", old_path="old name", status="R"), changed("image", binary=True),
        changed("beyond"),
    ]  # fmt: skip
    one, renamed, image, beyond = by_file(files, PATCH, most_open=5)
    assert one.blocks == [
        ("place", "@@ -1,2 +1,2 @@ diff --git a/x b/x\n"), ("deleted", "-diff --git a/y b/y\n"),
        ("added", "+two\x0cparts\n"), ("same", " same\n"),
    ]  # fmt: skip
    assert [text for kind, text in renamed.blocks if kind in ("added", "deleted")] == ["-a\n", "+b\n"]
    assert image.blocks == beyond.blocks == []
    assert [part.is_open for part in (one, renamed, image, beyond)] == [True, False, False, False]


def test_a_patch_that_is_empty_or_cut_short_does_no_harm() -> None:
    for patch in ("", "diff --git a/one b/one", "diff --git a/one b/one\nindex 1..2", "no patch"):
        assert by_file([changed("one")], patch, most_open=5)[0].blocks == []
    assert by_file([], PATCH, most_open=5) == []


def test_a_conflict_is_shown_with_some_lines_around_it() -> None:
    lines = [f"line {number}" for number in range(50)]
    lines[20:20] = ["<<<<<<< a", "ours", "||||||| base", "it was", "=======", "theirs", ">>>>>>> b"]
    blocks = conflict_blocks("\n".join([*lines, ""]), most=100)
    kinds = [kind for kind, _ in blocks]
    assert kinds == [
        "gap", "same", "mark", "ours", "mark", "origin", "mark", "theirs", "mark", "same", "gap",
    ]  # fmt: skip
    assert [text for kind, text in blocks if kind in ("ours", "theirs", "origin")] == ["ours\n", "it was\n", "theirs\n"]
    assert [text.count("\n") for kind, text in blocks if kind == "same"] == [AROUND, AROUND]


def test_what_looks_like_a_mark_outside_a_conflict_is_text() -> None:
    assert [kind for kind, _ in conflict_blocks("=======\n<<<<<<< a\nx\n=======\n=======\n>>>>>>> b\n", most=100)] == [
        "same", "mark", "ours", "mark", "theirs", "mark",
    ]  # fmt: skip


@given(st.text(alphabet=st.sampled_from("<>=|ab \n"), max_size=300), st.integers(1, 30))
def test_any_text_of_a_conflict_is_cut_to_its_lines(text: str, most: int) -> None:
    shown = "".join(part for _, part in conflict_blocks(text, most=most))
    assert shown.count("\n") <= most + 1


def change(at: int, status: str, previous: str | None = None, agent: str | None = None) -> StatusChange:
    return StatusChange(timestamp=at, agent_id=agent, status=status, previous=previous, cause="x", detail=None)


def test_a_strip_shares_out_all_of_the_time() -> None:
    changes = [
        change(10, "working", "starting"), change(40, "failed", agent="a"), change(60, "waiting_permission"),
        change(60, "working"), change(90, "idle"),
    ]  # fmt: skip
    found = strip(changes, since=0, until=100)
    assert found is not None
    assert found.shares == [("working", 80, 0.8), ("starting", 10, 0.1), ("idle", 10, 0.1)]
    assert [(part.status, part.x, part.width) for part in found.parts] == [
        ("starting", 0, 100), ("working", 100, 800), ("idle", 900, 100),
    ]  # fmt: skip


def test_a_session_without_changes_has_no_strip() -> None:
    assert strip([], since=0, until=10) is None
    assert strip([change(0, "working")], since=0, until=0) is None


@given(st.lists(st.tuples(st.integers(0, 10**9), st.sampled_from(["idle", "working", "failed"])), min_size=1))
def test_a_strip_of_any_changes_stays_small_and_within_its_line(steps: list[tuple[int, str]]) -> None:
    found = strip([change(at, status) for at, status in sorted(steps)], since=0, until=10**9)
    if found is not None:
        assert len(found.parts) <= WIDTH
        assert sum(part.width for part in found.parts) == pytest.approx(WIDTH, abs=len(found.parts) * 0.1)
        assert sum(ms for _, ms, _ in found.shares) == 10**9


def agents(depths: list[int]) -> list[TreeAgent]:
    nothing: dict[str, Any] = dict.fromkeys(TreeAgent.model_fields)
    known = {"children": 0, "running": 0, "calls": 0, "failed": 0, "duration_ms": 0, "spent": SPENT}
    return [TreeAgent(**nothing | known | {"depth": depth}) for depth in depths]


@given(st.lists(st.integers(0, 3), max_size=60))
def test_lists_of_a_tree_end_as_often_as_they_begin(ups: list[int]) -> None:
    depths = [0]
    for up in ups:  # one deeper, or some levels back
        depths.append(max(1, depths[-1] + 1 - up))
    tree, last = branches(agents(depths))
    opened = sum(one.opens for one in tree)
    assert opened == sum(one.closes for one in tree) + last + 1
    assert last <= LEVELS


def test_advice_is_divided_into_words_and_commands() -> None:
    found = steps(["bring them together:", "  cd /a", "  git merge main", "it is `tasksd merge x` that tries"])
    assert found == [
        (False, [[(False, "bring them together:")]]),
        (True, "cd /a\ngit merge main"),
        (False, [[(False, "it is "), (True, "tasksd merge x"), (False, " that tries")]]),
    ]


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("prompt_input_exit", "left by the person"), ("other", ""), (None, ""), ("a new word", "a new word"),
        ("0a1b2c3d-1111-4222-8333-444455556666", "went on as 0a1b2c3d"),
    ],
)  # fmt: skip
def test_the_end_of_a_session_is_told_in_words(word: str | None, shown: str) -> None:
    assert ending(word) == shown


def test_links_change_one_part_and_keep_the_others() -> None:
    to = linker(QueryParams("view=calls&agent=&x=%26"))
    assert to(before=5) == "?view=calls&agent=&x=%26&before=5"
    assert to(view=None, agent="a b") == "?agent=a+b&x=%26"
