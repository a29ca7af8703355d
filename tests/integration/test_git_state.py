"""What GitTracker says of real repositories, compared with what plain `git status` and `git log` say of them."""

import os
import random
import shutil
import subprocess
from pathlib import Path

import pygit2
import pytest
from tasks.errors import ConfigError, GitError, NotARepository
from tasks.git import GitTracker, WorkspaceState
from tasks.git.patterns import matches
from tasks.words import Dirt

from .conftest import MakeRepository, Repository
from .workspaces import (
    NAMES,
    ROWS,
    Row,
    am,
    between_two_picks,
    bisect,
    odd_names,
    partial_clone,
    reftable,
    sha256,
    sparse_index,
    split_index,
    stopped,
)


@pytest.fixture
def tracker(git_home: Path) -> GitTracker:
    return GitTracker()


def plain_status(workspace: Path) -> dict[Dirt, set[str]]:
    """By git-status(1), independently of ours: no options of ours but the format and every untracked file."""
    status = subprocess.run(
        ["git", "status", "--porcelain=v2", "-z", "-uall"], cwd=workspace, capture_output=True, check=True
    ).stdout
    found: dict[Dirt, set[str]] = {kind: set() for kind in Dirt if kind is not Dirt.IN_PROGRESS}
    entries = iter(os.fsdecode(status).split("\0")[:-1])
    for entry in entries:
        kind, rest = entry[0], entry[2:]
        if kind == "#":
            continue
        if kind == "?":
            found[Dirt.UNTRACKED].add(rest)
            continue
        fields = rest.split(" ", {"1": 7, "2": 8, "u": 9}[kind])
        paths = {fields[-1]} | ({next(entries)} if kind == "2" else set())
        if fields[0][0] != ".":
            found[Dirt.STAGED] |= paths
        if fields[0][1] != ".":
            found[Dirt.SUBMODULES if fields[1].startswith("S") else Dirt.UNSTAGED] |= paths
    return found


def as_found(state: WorkspaceState) -> dict[Dirt, set[str]]:
    return {
        Dirt.STAGED: set(state.staged),
        Dirt.UNSTAGED: set(state.unstaged),
        Dirt.UNTRACKED: set(state.untracked),
        Dirt.SUBMODULES: set(state.submodules),
    }


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_state_is_what_git_status_says(row: Row, make_repository: MakeRepository, tracker: GitTracker) -> None:
    workspace = row(make_repository)

    state = tracker.state(workspace)

    plain = plain_status(workspace)
    assert as_found(state) == plain
    assert tracker.is_dirty(workspace) == bool(any(plain.values()) or state.in_progress)
    assert state.root == Path(Repository(workspace).git("rev-parse", "--show-toplevel"))
    assert state.head == (Repository(workspace).git("rev-parse", "-q", "--verify", "HEAD", check=False) or None)
    assert state.branch == (Repository(workspace).git("symbolic-ref", "--short", "HEAD", check=False) or None)
    assert (tracker.head(workspace), tracker.branch(workspace)) == (state.head, state.branch)
    assert tracker.is_repository(workspace)


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_looking_changes_nothing(row: Row, make_repository: MakeRepository, tracker: GitTracker) -> None:
    workspace = row(make_repository)
    repository = Repository(workspace)
    before = repository.snapshot()

    tracker.state(workspace)
    tracker.commits(workspace, "HEAD") if tracker.head(workspace) else None

    assert repository.snapshot() == before


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (stopped("merge"), "merge"),
        (stopped("rebase"), "rebase"),
        (stopped("rebase", "--apply"), "rebase"),
        (stopped("cherry-pick"), "cherry-pick"),
        (stopped("revert", "--no-edit", inside="main~1"), "revert"),
        (between_two_picks, "cherry-pick"),
        (am, "am"),
        (bisect, "bisect"),
    ],
)
def test_what_is_in_progress_is_dirt_of_its_own_kind(
    row: Row, name: str, make_repository: MakeRepository, tracker: GitTracker
) -> None:
    workspace = row(make_repository)
    if name == "revert":
        Repository(workspace).write(a__txt="conflicting with the revert\n")
        Repository(workspace).git("revert", "--quit", check=False)
        Repository(workspace).commit("on top")
        Repository(workspace).git("revert", "--no-edit", "HEAD~1", check=False)

    state = tracker.state(workspace)

    assert state.in_progress == name
    assert state.dirt([Dirt.IN_PROGRESS]) == (f"{name} in progress",)
    assert f"{name} in progress" not in state.dirt(["staged", "unstaged", "untracked", "submodules"])


def test_something_in_progress_in_another_worktree_is_not_ours(
    make_repository: MakeRepository, tracker: GitTracker
) -> None:
    workspace = stopped("merge")(make_repository)
    Repository(workspace).git("worktree", "add", "-q", "../linked", "HEAD~1")

    assert tracker.state(workspace.parent / "linked").in_progress is None
    assert tracker.state(workspace).in_progress == "merge"


def test_bare_repository_has_a_head_and_no_files(repository: Repository, tracker: GitTracker) -> None:
    repository.git("clone", "-q", "--bare", ".", "../bare.git")

    state = tracker.state(repository.root.parent / "bare.git")

    assert (state.bare, state.root, state.branch, state.dirt()) == (True, None, "main", ())
    assert state.head == repository.git("rev-parse", "main")
    assert tracker.is_repository(repository.root.parent / "bare.git")


def test_empty_bare_repository_names_its_branch(make_repository: MakeRepository, tracker: GitTracker) -> None:
    bare = make_repository("empty.git", "--bare").root

    state = tracker.state(bare)

    assert (state.head, state.branch) == (None, "main")


@pytest.mark.parametrize("place", ["folder", "missing", "repository/.git", "repository/.git/refs"])
def test_folder_that_is_no_workspace_is_refused_with_its_name(
    place: str, repository: Repository, tracker: GitTracker
) -> None:
    (repository.root.parent / "folder").mkdir()

    with pytest.raises(NotARepository, match=place):
        tracker.state(repository.root.parent / place)


def test_what_is_no_repository_is_none(repository: Repository, tracker: GitTracker) -> None:
    assert not tracker.is_repository(repository.root.parent)
    assert not tracker.is_repository(repository.root / "missing")
    assert tracker.is_repository(str(repository.root / "src"))


def test_index_lock_of_another_git_does_not_matter_and_stays(repository: Repository, tracker: GitTracker) -> None:
    lock = repository.put(".git/index.lock", "")
    repository.write(a__txt="changed")

    assert tracker.state(repository.root).unstaged == ("a.txt",)
    assert lock.exists()


def test_repository_of_another_user_is_refused_with_the_command_that_trusts_it(
    repository: Repository, tracker: GitTracker
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    for path in (repository.root, repository.root / ".git"):
        os.chown(path, 12345, 12345)
    command = f"git config --global --add safe.directory {repository.root}"

    for ask in (tracker.state, tracker.head, tracker.branch, lambda place: tracker.commits(place, "HEAD")):
        with pytest.raises(GitError, match=command):
            ask(repository.root)

    subprocess.run(command.split(), check=True)
    assert tracker.state(repository.root).dirt() == ()


def test_fsmonitor_and_hooks_of_the_repository_are_not_run(
    repository: Repository, tracker: GitTracker, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    repository.git("config", "core.fsmonitor", str(program))
    repository.git("config", "core.hooksPath", str(tmp_path))
    shutil.copy(program, tmp_path / "post-index-change")

    tracker.state(repository.root)

    assert not (tmp_path / "ran").exists()


def test_environment_that_names_another_repository_is_not_followed(
    make_repository: MakeRepository, tracker: GitTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = make_repository("one"), make_repository("two")
    two.write(a__txt="changed")
    monkeypatch.setenv("GIT_DIR", str(two.root / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(two.root))
    monkeypatch.setenv("GIT_INDEX_FILE", str(two.root / ".git/index"))

    assert tracker.state(one.root).dirt() == ()
    assert tracker.state(one.root).root == one.root


# -- dirt


def test_each_path_is_named_once_and_only_for_the_kinds_that_count(repository: Repository, tracker: GitTracker) -> None:
    repository.write(a__txt="staged", u__txt="u")
    repository.git("add", "a.txt")
    repository.write(a__txt="and changed", b__txt="changed")

    state = tracker.state(repository.root)

    assert state.dirt() == ("a.txt", "b.txt", "u.txt")
    assert state.dirt(["unstaged"]) == ("a.txt", "b.txt")
    assert state.dirt([Dirt.UNTRACKED]) == ("u.txt",)
    assert state.dirt([]) == ()
    assert state.summary() == "1 staged, 2 unstaged, 1 untracked: a.txt, b.txt, u.txt"


def test_exempt_files_do_not_count_even_in_a_folder_that_is_new(repository: Repository, tracker: GitTracker) -> None:
    repository.write(notes_in_one__md="x", notes_in_two__py="x", a__txt="changed")

    state = tracker.state(repository.root)

    assert state.dirt(exempt=["*.md"]) == ("a.txt", "notes/two.py")
    assert state.dirt(exempt=["notes/", "/a.txt"]) == ()
    assert tracker.is_dirty(repository.root, ["untracked"], ["*.md"])
    assert not tracker.is_dirty(repository.root, ["untracked"], ["notes"])


def test_negated_exemption_is_a_mistake_in_the_configuration(repository: Repository, tracker: GitTracker) -> None:
    repository.write(a__txt="changed")

    with pytest.raises(ConfigError, match="negation"):
        tracker.is_dirty(repository.root, exempt=["!a.txt"])


def test_names_of_any_bytes_can_be_printed_stored_and_sent(
    make_repository: MakeRepository, tracker: GitTracker
) -> None:
    state = tracker.state(odd_names(make_repository))

    assert {"with\\nbreak.txt", "\\xff\\xfe.txt", "ü.txt"} <= set(state.dirt(["untracked"]))
    assert "".join(state.dirt()).encode().decode().isprintable()


def test_more_files_than_can_be_listed_are_still_dirty(
    repository: Repository, tracker: GitTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.git.command.OUTPUT_BYTES", 20_000)
    for number in range(1000):
        repository.put(f"many/{number:050}", "")

    assert tracker.state(repository.root).untracked == ("many/",)


def test_patterns_mean_what_they_mean_in_gitignore(repository: Repository) -> None:
    draw = random.Random(3)
    pieces = [
        "a",
        "b",
        "*",
        "?",
        "**",
        "/",
        "/",
        "[ab]",
        "[!a]",
        "[^b-]",
        "[a-c]",
        "[]a]",
        "[[:digit:]a]",
        "\\*",
        " ",
        ".",
    ]
    pieces += ["[", "\\", "[b-a]", "-", "#", "a"]
    paths = {
        "/".join(draw.choices(["a", "b", "ab", "a b", "*", "1", "-", "]", "a.b"], k=draw.randint(1, 4)))
        for _ in range(150)
    }
    wrong = []
    for _ in range(100):
        pattern = "".join(draw.choices(pieces, k=draw.randint(1, 5)))
        (repository.root.parent / "patterns").write_text(pattern + "\n")
        answer = subprocess.run(
            ["git", "-c", "core.excludesFile=../patterns", "check-ignore", "--no-index", "-z", "--stdin"],
            input="\0".join(sorted(paths)).encode(),
            cwd=repository.root,
            capture_output=True,
            check=False,
        ).stdout
        gits = {os.fsdecode(path) for path in answer.split(b"\0") if path}
        wrong += [(pattern, path) for path in sorted(paths) if matches(path, [pattern]) != (path in gits)]
    assert wrong == []


# -- commits


def test_commits_are_those_that_the_base_has_not_parents_first(repository: Repository, tracker: GitTracker) -> None:
    base = repository.git("rev-parse", "HEAD")
    one = repository.commit("one\nof two lines\n\nand a body")
    two = repository.commit("two")

    found = tracker.commits(repository.root, base)

    assert [(commit.oid, commit.summary) for commit in found] == [(one, "one of two lines"), (two, "two")]
    assert [commit.authored for commit in found] == [
        int(repository.git("show", "-s", "--format=%at", commit.oid)) * 1000 for commit in found
    ]
    assert tracker.commits(repository.root / "src", base, "HEAD~1") == found[:1]
    assert tracker.commits(repository.root, "HEAD") == []


@pytest.mark.parametrize("row", [sha256, reftable, partial_clone, sparse_index, split_index, odd_names])
def test_commits_of_formats_that_only_git_reads(row: Row, make_repository: MakeRepository, tracker: GitTracker) -> None:
    repository = Repository(row(make_repository))
    base = repository.git("rev-parse", "HEAD")
    one, two = repository.commit("öne\nand"), repository.commit("two")

    found = tracker.commits(repository.root, base)

    assert [(commit.oid, commit.summary) for commit in found] == [(one, "öne and"), (two, "two")]


def test_libgit2_and_git_agree_on_summaries_of_any_message(
    repository: Repository, tracker: GitTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = repository.git("rev-parse", "HEAD")
    for message in ("plain", "\n\nlate", "two\nlines  \n\nbody", "  led", "tab\tbed", "ü", "cr\r\nlf\r\n\r\nbody", ""):
        repository.git("commit", "-q", "--allow-empty", "--allow-empty-message", "--cleanup=verbatim", "-m", message)
    repository.git("-c", "i18n.commitEncoding=latin1", "commit", "-q", "--allow-empty", "-m", b"gr\xfc\xdfe")

    by_libgit2 = tracker.commits(repository.root, base)
    monkeypatch.setattr(pygit2, "discover_repository", lambda path: None)
    by_git = tracker.commits(repository.root, base)

    assert by_libgit2 == by_git
    assert len(by_git) == 9


@pytest.mark.parametrize(("base", "tip"), [("nowhere", "HEAD"), ("HEAD", "nowhere"), ("--all", "HEAD")])
def test_commits_of_what_is_no_commit_are_an_error(
    base: str, tip: str, repository: Repository, tracker: GitTracker
) -> None:
    with pytest.raises(GitError):
        tracker.commits(repository.root, base, tip)


def test_changed_files_are_those_of_the_commits(repository: Repository, tracker: GitTracker) -> None:
    base = repository.git("rev-parse", "HEAD")
    repository.git("mv", "a.txt", "z.txt")
    repository.put(os.fsdecode(b"n\xff\n"), "x")
    repository.commit()
    repository.write(b__txt="not committed")

    assert set(tracker.changed_files(repository.root / "src", base)) == {"a.txt", "z.txt", os.fsdecode(b"n\xff\n")}
    assert tracker.changed_files(repository.root, "HEAD") == ()
