"""Worktrees of tasks in real repositories: made, taken up again after crashes, removed with proof and not without."""

import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tasks.config.sections import GitSettings
from tasks.errors import GitError, NoCommits, NotARepository, RepositoryBusy
from tasks.git import Worktree, Worktrees

from .conftest import MakeRepository, Programs, Repository
from .workspaces import NAMES, ROWS, Row, encoded, filtered, sparse, unborn, with_submodule

TASK = "3fa9c1"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def worktrees(data: Path, git_home: Path) -> Worktrees:
    return Worktrees(data / "worktrees", data / "locks", GitSettings())


def refs(repository: Repository) -> dict[str, str]:
    """All of them, with the commits that they lead to."""
    listing = repository.git("for-each-ref", "--format=%(refname) %(objectname) %(*objectname)").splitlines()
    return {line.split(" ")[0]: line.split()[-1] for line in listing}


def entries(repository: Repository) -> list[str]:
    """Git's entries of linked worktrees."""
    common = Path(repository.git("rev-parse", "--path-format=absolute", "--git-common-dir")) / "worktrees"
    return sorted(entry.name for entry in common.iterdir()) if common.exists() else []


def assert_nothing_left(repository: Repository, data: Path, before: dict[str, str]) -> None:
    assert refs(repository) == before
    assert entries(repository) == []
    assert [path.name for path in (data / "worktrees").glob("*")] in ([], [".discarded"])
    assert list((data / "worktrees/.discarded").glob("*")) == []


# -- made


def test_task_gets_a_branch_and_a_locked_worktree_from_head(
    repository: Repository, worktrees: Worktrees, data: Path
) -> None:
    made = worktrees.create(TASK, str(repository.root))

    assert made == Worktree(
        task_id=TASK,
        path=data / "worktrees" / TASK,
        workdir=data / "worktrees" / TASK,
        branch=f"task/{TASK}",
        base_branch="main",
        base_commit=repository.git("rev-parse", "HEAD"),
        repository=repository.root / ".git",
    )
    listing = repository.git("worktree", "list", "--porcelain")
    assert f"worktree {made.path}\nHEAD {made.base_commit}\nbranch refs/heads/task/{TASK}" in listing
    assert f"locked tasksd task {TASK}" in listing
    assert repository.git("status", "--porcelain", "--ignored", cwd=made.path) == ""
    assert (made.path / "src/app/main.py").read_text() == "print()\n"
    assert worktrees.find(TASK, made.repository) == made


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_workspace_of_any_kind_is_the_same_before_and_after(
    row: Row, make_repository: MakeRepository, worktrees: Worktrees, data: Path
) -> None:
    workspace = row(make_repository)
    repository = Repository(workspace)
    top = Repository(Path(repository.git("rev-parse", "--show-toplevel")))
    before, refs_before, entries_before = top.snapshot(), refs(repository), entries(repository)
    if row is unborn:
        with pytest.raises(NoCommits, match="commit something first, or submit with --no-isolation"):
            worktrees.create(TASK, workspace)
        assert_nothing_left(repository, data, refs_before)
        assert top.snapshot() == before
        return

    made = worktrees.create(TASK, workspace)

    prefix = repository.git("rev-parse", "--show-prefix").rstrip("/")
    assert (made.path, made.workdir) == (data / "worktrees" / TASK, data / "worktrees" / TASK / prefix)
    assert made.workdir.is_dir()
    assert made.base_commit == repository.git("rev-parse", "HEAD") == repository.git("rev-parse", "HEAD", cwd=made.path)
    assert made.base_branch == (repository.git("symbolic-ref", "--short", "-q", "HEAD", check=False) or None)
    assert repository.git("status", "--porcelain", cwd=made.path) == ""
    assert (made.path / ".git").is_file()
    assert top.snapshot() == before

    repository.put("work.txt", "work", at=made.path)
    repository.commit("work", at=made.path)
    assert not worktrees.remove(made, target=made.base_branch).removed
    repository.git("reset", "-q", "--hard", "HEAD~1", cwd=made.path)
    removal = worktrees.remove(made, target=made.base_branch)

    assert removal.removed, removal.reason
    assert not made.path.exists()
    assert refs(repository) == refs_before | {f"refs/tasksd/backup/{TASK}": made.base_commit}
    assert entries(repository) == entries_before
    assert top.snapshot() == before
    if "partial" not in row.__name__:
        repository.git("fsck", "--strict")


def test_stash_index_and_dirt_of_the_user_stay_as_they_are(repository: Repository, worktrees: Worktrees) -> None:
    repository.write(a__txt="stashed", s__txt="stashed too")
    repository.git("stash", "-q", "--include-untracked")
    repository.write(a__txt="staged", u__txt="u", i__log="ignored", build_in_x="ignored")
    repository.git("add", "a.txt")
    repository.write(a__txt="changed")
    (repository.root / "link").symlink_to("nowhere")
    before = repository.snapshot()

    made = worktrees.create(TASK, repository.root)
    assert repository.snapshot() == before
    assert (made.path / "a.txt").read_text() == "one\n"
    assert not (made.path / "u.txt").exists()

    assert worktrees.remove(made, target="main").removed
    assert repository.snapshot() == before
    assert repository.git("stash", "list").count("\n") == 0


def test_bare_repository_is_worked_in_too(repository: Repository, worktrees: Worktrees) -> None:
    repository.git("clone", "-q", "--bare", ".", "../bare.git")
    bare = Repository(repository.root.parent / "bare.git")

    made = worktrees.create(TASK, bare.root)

    assert (made.base_branch, made.repository, made.workdir) == ("main", bare.root, made.path)
    assert (made.path / "a.txt").read_text() == "one\n"
    assert worktrees.remove(made, target="main").removed
    assert entries(bare) == []


def test_workspace_with_filters_and_encodings_is_checked_out_as_the_user_has_it(
    make_repository: MakeRepository, worktrees: Worktrees
) -> None:
    made = worktrees.create(TASK, filtered(make_repository))
    assert (made.path / "x.bin").read_text() == "abc\n"
    Repository(made.repository.parent).root.rename(made.repository.parent.with_name("first"))

    made = worktrees.create("other", encoded(make_repository))
    assert (made.path / "x.txt16").read_bytes() == "täxt\n".encode("utf-16-le")


def test_sparse_workspace_gets_a_sparse_worktree(make_repository: MakeRepository, worktrees: Worktrees) -> None:
    made = worktrees.create(TASK, sparse(make_repository))

    assert (made.path / "a.txt").exists()
    assert not (made.path / "src").exists()


def test_submodules_are_not_there_and_the_notes_say_so(make_repository: MakeRepository, worktrees: Worktrees) -> None:
    made = worktrees.create(TASK, with_submodule(make_repository).root)

    assert list((made.path / "lib").iterdir()) == []
    assert any("submodules are not checked out" in note for note in made.notes)
    assert worktrees.find(TASK, made.repository) == made


def test_folder_without_anything_committed_is_refused(repository: Repository, worktrees: Worktrees, data: Path) -> None:
    repository.write(new_in_a__txt="x", build_in_a__txt="ignored")
    before = refs(repository)

    for name in ("new", "build"):
        with pytest.raises(GitError, match="nothing in it is committed"):
            worktrees.create(TASK, repository.root / name)
    assert_nothing_left(repository, data, before)


def test_folder_that_is_a_link_leads_to_where_it_points(repository: Repository, worktrees: Worktrees) -> None:
    link = repository.root.parent / "link"
    link.symlink_to(repository.root / "src")

    assert worktrees.create(TASK, link).workdir.name == "src"


@pytest.mark.parametrize("place", ["missing", "folder", "repository/.git"])
def test_what_is_no_workspace_is_refused(place: str, repository: Repository, worktrees: Worktrees) -> None:
    (repository.root.parent / "folder").mkdir()

    with pytest.raises(NotARepository):
        worktrees.create(TASK, repository.root.parent / place)


@pytest.mark.parametrize("task_id", ["", "../x", "a/b", "-a", "A", "a" * 41, ".discarded", "a\n"])
def test_id_that_could_lead_elsewhere_is_refused(task_id: str, repository: Repository, worktrees: Worktrees) -> None:
    with pytest.raises(GitError, match="cannot name a worktree"):
        worktrees.create(task_id, repository.root)


def test_hooks_of_the_repository_are_not_run(repository: Repository, worktrees: Worktrees, tmp_path: Path) -> None:
    hook = repository.put(".git/hooks/post-checkout", f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    repository.git("checkout", "-q", "-b", "x")
    assert (tmp_path / "ran").exists()
    (tmp_path / "ran").unlink()

    worktrees.create(TASK, repository.root)

    assert not (tmp_path / "ran").exists()


# -- where worktrees may be


def test_worktrees_inside_the_repository_are_refused_where_git_would_see_them(
    repository: Repository, git_home: Path
) -> None:
    before = refs(repository)
    repository.git("worktree", "add", "-q", "../linked")
    linked = repository.root.parent / "linked"
    for inside in (repository.root / "data", repository.root / ".git/data"):
        made = Worktrees(inside, repository.root.parent / "locks", GitSettings())
        for workspace in (repository.root, linked):
            with pytest.raises(GitError, match="set TASKSD_DATA_DIR to a folder outside"):
                made.create(TASK, workspace)
    assert not (repository.root / "data").exists()
    assert set(refs(repository)) == {*before, "refs/heads/linked"}


def test_worktrees_inside_the_repository_are_fine_where_git_ignores_them(
    repository: Repository, git_home: Path
) -> None:
    worktrees = Worktrees(repository.root / "build/data", repository.root.parent / "locks", GitSettings())

    made = worktrees.create(TASK, repository.root)

    assert repository.git("status", "--porcelain") == ""
    assert repository.git("rev-parse", "--show-toplevel", cwd=made.workdir) == str(made.path)
    assert worktrees.remove(made, target="main").removed


def test_worktree_that_lost_its_git_file_never_falls_through_to_the_repository_around(
    repository: Repository, git_home: Path
) -> None:
    worktrees = Worktrees(repository.root / "build/data", repository.root.parent / "locks", GitSettings())
    made = worktrees.create(TASK, repository.root)
    (made.path / ".git").unlink()
    repository.put("work.txt", "x", at=made.path)

    with pytest.raises(GitError, match=f"git sees {repository.root}"):
        worktrees.create(TASK, repository.root)
    assert not worktrees.remove(made, target="main").removed
    assert (made.path / "work.txt").exists()


# -- what cannot be made


def test_branch_named_task_is_in_the_way_and_nothing_is_left(
    repository: Repository, worktrees: Worktrees, data: Path
) -> None:
    repository.git("branch", "task")
    before = refs(repository)

    with pytest.raises(GitError, match="'refs/heads/task' exists"):
        worktrees.create(TASK, repository.root)
    assert_nothing_left(repository, data, before)


def test_filter_that_fails_leaves_nothing(make_repository: MakeRepository, worktrees: Worktrees, data: Path) -> None:
    repository = Repository(filtered(make_repository))
    repository.git("config", "filter.turned.smudge", "false")
    before = refs(repository)

    with pytest.raises(GitError, match="smudge filter turned failed"):
        worktrees.create(TASK, repository.root)
    assert_nothing_left(repository, data, before)


def test_full_disk_leaves_nothing(
    repository: Repository, worktrees: Worktrees, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    repository.write(__worktreeinclude="*.log\n", x__log="x")
    monkeypatch.setattr(os, "copy_file_range", full, raising=False)
    before = refs(repository)

    with pytest.raises(GitError, match=r"cannot copy x.log .* No space left on device"):
        worktrees.create(TASK, repository.root)
    assert_nothing_left(repository, data, before)


def test_folder_that_cannot_be_written_is_named(repository: Repository, data: Path, git_home: Path) -> None:
    data.write_text("a file")

    with pytest.raises(GitError, match=f"cannot make the worktree {data}/worktrees/{TASK}: Not a directory"):
        Worktrees(data / "worktrees", data.parent / "locks", GitSettings()).create(TASK, repository.root)
    assert set(refs(repository)) == {"refs/heads/main"}


def test_branch_checked_out_by_the_user_is_not_taken_from_him(
    repository: Repository, worktrees: Worktrees, data: Path
) -> None:
    repository.git("checkout", "-q", "-b", f"task/{TASK}")
    before, refs_before = repository.snapshot(), refs(repository)

    with pytest.raises(GitError, match="already checked out"):
        worktrees.create(TASK, repository.root)
    assert_nothing_left(repository, data, refs_before)
    assert repository.snapshot() == before


def test_lock_of_another_git_is_waited_for_and_never_deleted(
    repository: Repository, worktrees: Worktrees, data: Path
) -> None:
    index = repository.put(".git/index.lock", "")
    lock = repository.put(f".git/refs/heads/task/{TASK}.lock", "")
    before = refs(repository)

    with pytest.raises(RepositoryBusy, match=f"{TASK}.lock"):
        worktrees.create(TASK, repository.root)
    assert lock.exists()
    assert_nothing_left(repository, data, before)

    timer = threading.Timer(0.5, lock.unlink)
    timer.start()
    assert worktrees.create(TASK, repository.root).path.is_dir()
    timer.join()
    assert index.exists()


def test_repository_of_another_user_is_refused_with_the_command_that_trusts_it(
    repository: Repository, worktrees: Worktrees
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    for path in (repository.root, repository.root / ".git"):
        os.chown(path, 12345, 12345)

    with pytest.raises(GitError, match=f"git config --global --add safe.directory {repository.root}"):
        worktrees.create(TASK, repository.root)


# -- taken up again


def test_second_call_takes_up_the_worktree_as_it_is(repository: Repository, worktrees: Worktrees) -> None:
    made = worktrees.create(TASK, repository.root / "src")
    repository.put("work.txt", "x", at=made.path)
    repository.commit("work", at=made.path)
    repository.put("more.txt", "not committed", at=made.path)
    repository.commit("main goes on")

    assert worktrees.create(TASK, repository.root / "src") == made
    assert repository.git("status", "--porcelain", cwd=made.path) == "?? more.txt"


def test_worktree_on_another_branch_is_not_taken_up_and_not_lost(repository: Repository, worktrees: Worktrees) -> None:
    made = worktrees.create(TASK, repository.root)
    repository.git("checkout", "-q", "-b", "elsewhere", cwd=made.path)
    with pytest.raises(GitError, match=f"is on elsewhere instead of on task/{TASK}; run `git switch"):
        worktrees.create(TASK, repository.root)

    repository.git("checkout", "-q", "--detach", cwd=made.path)
    with pytest.raises(GitError, match="is detached"):
        worktrees.create(TASK, repository.root)
    assert made.path.is_dir()


def test_branch_without_commits_starts_again_from_where_the_workspace_is(
    repository: Repository, worktrees: Worktrees
) -> None:
    repository.git("branch", f"task/{TASK}")
    new = repository.commit("main goes on")

    made = worktrees.create(TASK, repository.root)

    assert (made.base_commit, repository.git("rev-parse", "HEAD", cwd=made.path)) == (new, new)


def test_branch_with_commits_is_gone_on_with(repository: Repository, worktrees: Worktrees) -> None:
    fork = repository.git("rev-parse", "HEAD")
    repository.git("checkout", "-q", "-b", f"task/{TASK}")
    work = repository.commit("work")
    repository.git("checkout", "-q", "main")
    repository.commit("main goes on")

    made = worktrees.create(TASK, repository.root)

    assert (made.base_commit, repository.git("rev-parse", "HEAD", cwd=made.path)) == (fork, work)


def test_branch_with_commits_survives_a_failure(
    make_repository: MakeRepository, worktrees: Worktrees, data: Path
) -> None:
    repository = Repository(filtered(make_repository))
    repository.git("checkout", "-q", "-b", f"task/{TASK}")
    repository.commit("work")
    repository.git("checkout", "-q", "main")
    repository.git("config", "filter.turned.smudge", "false")
    before = refs(repository)

    with pytest.raises(GitError):
        worktrees.create(TASK, repository.root)
    assert_nothing_left(repository, data, before)


def test_worktree_deleted_by_hand_is_made_again_with_its_commits(repository: Repository, worktrees: Worktrees) -> None:
    made = worktrees.create(TASK, repository.root)
    work = repository.commit("work", at=made.path)
    subprocess.run(["rm", "-rf", str(made.path)], check=True)

    again = worktrees.create(TASK, repository.root)

    assert again.base_commit == made.base_commit
    assert repository.git("rev-parse", "HEAD", cwd=again.path) == work
    assert entries(repository) == [TASK]


def test_empty_folder_is_used(repository: Repository, worktrees: Worktrees, data: Path) -> None:
    (data / "worktrees" / TASK).mkdir(parents=True)

    assert (worktrees.create(TASK, repository.root).path / "a.txt").exists()


def test_folder_with_files_of_no_repository_is_put_aside(
    repository: Repository, worktrees: Worktrees, data: Path
) -> None:
    repository.put("precious.txt", "x", at=data / "worktrees" / TASK)

    made = worktrees.create(TASK, repository.root)

    aside = data / "worktrees" / f"{TASK}.aside-1"
    assert (aside / "precious.txt").read_text() == "x"
    assert any(str(aside) in note for note in made.notes)


def test_worktree_of_another_repository_is_left_alone(
    make_repository: MakeRepository, repository: Repository, worktrees: Worktrees
) -> None:
    made = worktrees.create(TASK, make_repository("other").root)

    with pytest.raises(GitError, match="worktree of another repository"):
        worktrees.create(TASK, repository.root)
    assert repository.git("status", "--porcelain", cwd=made.path) == ""


@pytest.mark.parametrize("locked", [f"tasksd task {TASK}\n", None])
def test_entry_that_git_had_only_begun_is_cleared(
    locked: str | None, repository: Repository, worktrees: Worktrees
) -> None:
    entry = repository.root / ".git/worktrees" / TASK
    entry.mkdir(parents=True)
    if locked is not None:
        (entry / "locked").write_text(locked)
    other = repository.put(".git/worktrees/3fa9c/locked", "somebody else")

    worktrees.create(TASK, repository.root)

    assert entries(repository) == ["3fa9c", TASK]
    assert other.exists()


def test_worktree_that_was_never_complete_is_made_from_the_start(
    repository: Repository, worktrees: Worktrees, data: Path
) -> None:
    path = data / "worktrees" / TASK
    reason = ("--lock", "--reason", f"tasksd task {TASK}")
    repository.git("worktree", "add", "-q", "--no-checkout", *reason, "-b", f"task/{TASK}", str(path))
    repository.put(f".git/worktrees/{TASK}/index.lock", "")
    repository.put("half.txt", "x", at=path)

    made = worktrees.create(TASK, repository.root)

    assert repository.git("status", "--porcelain", cwd=made.path) == ""
    assert entries(repository) == [TASK]


def test_entry_locked_by_somebody_else_is_left_alone(repository: Repository, worktrees: Worktrees, data: Path) -> None:
    path = data / "worktrees" / TASK
    repository.git("worktree", "add", "-q", "--lock", "--reason", "mine, on a stick", "-b", "x", str(path))

    with pytest.raises(GitError, match="mine, on a stick"):
        worktrees.create(TASK, repository.root)
    assert (path / "a.txt").exists()


#: Forks a child for every line of tasks.git that `action` executes and kills it there; then does the action again.
KILLED_AT_EVERY_LINE = """
import os, signal, sys
from pathlib import Path
from tasks.config.sections import GitSettings
from tasks.git import Worktrees
from tasks.git import worktrees as anchor
FOLDER = os.path.dirname(anchor.__file__)
MINE = {"worktrees.py", "removal.py", "registry.py", "discard.py", "bootstrap.py", "backups.py", "proof.py", "lock.py"}
data, workspace, stride = Path(args[0]), Path(args[1]), int(args[2])
worktrees = Worktrees(data / "worktrees", data / "locks", GitSettings())

def killed_at(number, action):
    pid = os.fork()
    if pid == 0:
        seen = 0
        def local(frame, event, _):
            nonlocal seen
            if event == "line":
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)
            return local
        def calls(frame, event, _):
            name = frame.f_code.co_filename
            return local if os.path.dirname(name) == FOLDER and os.path.basename(name) in MINE else None
        sys.settrace(calls)
        try:
            action()
        finally:
            sys.settrace(None)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    return os.WIFSIGNALED(status)
"""

CREATE_KILLED = (
    KILLED_AT_EVERY_LINE
    + """
number = 1
while killed_at(number, lambda: worktrees.create(f"task{number}", workspace)):
    made = worktrees.create(f"task{number}", workspace)
    found = (made.path / "secret.log").read_text(), (made.path / "a.txt").read_text().strip()
    say(made.task_id, *found, worktrees.remove(made, target="main").removed)
    number += stride
worktrees.remove(worktrees.create(f"task{number}", workspace), target="main")
say("killed", number // stride)
"""
)

REMOVE_KILLED = (
    KILLED_AT_EVERY_LINE
    + """
number = 1
while True:
    made = worktrees.create(f"task{number}", workspace)
    git = worktrees._git
    git.run("-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "--allow-empty", "-m", "w", cwd=made.path)
    git.run("update-ref", f"refs/heads/merged{number}", "HEAD", cwd=made.path)
    killed = killed_at(number, lambda: worktrees.remove(made, target=f"merged{number}"))
    found = worktrees.remove(made, target=f"merged{number}")
    say(made.task_id, found.removed, found.reason)
    if not killed:
        break
    number += stride
say("killed", number // stride)
"""
)


def test_killed_at_any_line_it_is_made_whole_by_the_next_call(
    repository: Repository, data: Path, programs: Programs
) -> None:
    repository.write(__worktreeinclude="secret.log\n", secret__log="secret")
    before = repository.snapshot()

    ended = programs.run(CREATE_KILLED, data, repository.root, 5, seconds=110)

    assert ended.returncode == 0, ended.stderr
    *lines, last = ended.stdout.splitlines()
    assert int(last.removeprefix("killed ")) > 20
    assert {line.split(" ", 1)[1] for line in lines} == {"secret one True"}
    assert entries(repository) == []
    assert [name for name in refs(repository) if name.startswith("refs/heads/")] == ["refs/heads/main"]
    assert list((data / "worktrees").iterdir()) == [data / "worktrees/.discarded"]
    assert repository.snapshot() == before
    repository.git("fsck", "--strict")


def test_killed_at_any_line_it_is_removed_by_the_next_call(
    repository: Repository, data: Path, programs: Programs, worktrees: Worktrees
) -> None:
    before = repository.snapshot()

    ended = programs.run(REMOVE_KILLED, data, repository.root, 9, seconds=110)

    assert ended.returncode == 0, ended.stderr
    *lines, last = ended.stdout.splitlines()
    assert int(last.removeprefix("killed ")) > 20
    assert {line.split(" ", 1)[1].strip() for line in lines} == {"True"}
    assert entries(repository) == []
    found = refs(repository)
    assert [name for name in found if name.startswith("refs/heads/task/")] == []
    for name, commit in found.items():
        if name.startswith("refs/heads/merged"):
            assert found[f"refs/tasksd/backup/task{name.removeprefix('refs/heads/merged')}"] == commit
    assert repository.snapshot() == before
    worktrees.sweep()
    assert {path.name for path in (data / "worktrees").rglob("*") if path.is_dir()} == {".discarded"}


def test_killed_with_its_git_at_any_moment_it_is_made_whole_by_the_next_call(
    repository: Repository, data: Path, programs: Programs, worktrees: Worktrees
) -> None:
    for number in range(300):
        repository.put(f"many/{number}", f"{number}\n")
    repository.commit("many")
    source = (
        "import os\nfrom pathlib import Path\nfrom tasks.config.sections import GitSettings\nfrom tasks.git import Worktrees\n"
        "made = Worktrees(Path(args[0]) / 'worktrees', Path(args[0]) / 'locks', GitSettings())\n"
        "say('ready'); hear(); made.create(args[2], args[1])"
    )
    for number in range(10):
        program = programs.start(source, data, repository.root, f"task{number}")
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        program.stdin.write("go\n")
        program.stdin.flush()
        # Its git runs in a group of its own, goes on for a moment, and keeps the lock until it ends.
        with suppress(subprocess.TimeoutExpired):
            program.wait(0.005 + number * 0.006)
        program.kill()
        program.wait()

        made = worktrees.create(f"task{number}", repository.root)

        assert repository.git("status", "--porcelain", cwd=made.path) == ""
        assert len(list((made.path / "many").iterdir())) == 300
    assert len(entries(repository)) == 10


# -- at once


def test_eight_threads_make_worktrees_in_one_repository(repository: Repository, worktrees: Worktrees) -> None:
    before = repository.snapshot()
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: worktrees.create(f"task{number}", repository.root), range(24)))

    assert len({worktree.path for worktree in made}) == len(entries(repository)) == 24
    with ThreadPoolExecutor(8) as pool:
        removed = list(pool.map(lambda worktree: worktrees.remove(worktree, target="main"), made))
    assert [removal.reason for removal in removed if not removal.removed] == []
    assert entries(repository) == []
    assert repository.snapshot() == before
    repository.git("fsck", "--strict")


def test_four_processes_make_worktrees_in_one_repository_and_the_same_one(
    repository: Repository, data: Path, programs: Programs
) -> None:
    source = (
        "from pathlib import Path\nfrom tasks.config.sections import GitSettings\nfrom tasks.git import Worktrees\n"
        "made = Worktrees(Path(args[0]) / 'worktrees', Path(args[0]) / 'locks', GitSettings())\n"
        "hear()\nfor number in range(6): made.create(f'task{args[2]}-{number}', args[1]); made.create('same', args[1])\n"
    )
    running = [programs.start(source, data, repository.root, number) for number in range(4)]

    for program in running:
        _, err = program.communicate("go\n", timeout=60) if program is running[-1] else (None, "")
        assert err == ""
    for program in running[:-1]:
        program.communicate("go\n", timeout=60)

    assert [program.returncode for program in running] == [0, 0, 0, 0]
    assert len(entries(repository)) == 25
    assert repository.git("worktree", "list", "--porcelain").count("branch refs/heads/task/") == 25


# -- what a new worktree gets


def bootstrapped(repository: Repository, worktrees: Worktrees, include: str) -> Worktree:
    repository.put(".worktreeinclude", include)
    repository.git("add", ".worktreeinclude")
    repository.git("commit", "-q", "-m", "include")
    return worktrees.create(TASK, repository.root)


def test_ignored_files_that_are_selected_are_copied_and_no_others(repository: Repository, worktrees: Worktrees) -> None:
    repository.write(x__log="x", y__log="y", untracked__txt="u", build_in_deep_in_a__o="a", build_in_b__tmp="b")
    secret = repository.put(os.fsdecode(b"build/n\xff\n.o"), "odd")
    secret.chmod(0o640)
    os.utime(secret, ns=(1_000_000_001, 2_000_000_002))

    made = bootstrapped(repository, worktrees, "# a comment\n*.log\n!y.log\nbuild/**/*.o\n*.txt\n")

    assert (made.path / "x.log").read_text() == "x"
    assert not (made.path / "y.log").exists()
    assert (made.path / "build/deep/a.o").read_text() == "a"
    assert not (made.path / "build/b.tmp").exists()
    assert not (made.path / "untracked.txt").exists()
    copy = (made.path / "build" / os.fsdecode(b"n\xff\n.o")).stat()
    assert (copy.st_mode & 0o777, copy.st_mtime_ns) == (0o640, 2_000_000_002)
    assert (made.path / "a.txt").read_text() == "one\n"
    assert made.notes == ("3 ignored files were copied, as .worktreeinclude says",)
    assert repository.git("status", "--porcelain", cwd=made.path) == ""


def test_links_stay_links_and_lead_to_where_they_led(repository: Repository, worktrees: Worktrees) -> None:
    outside = repository.put("../outside/secret.txt", "secret")
    (repository.root / "build").mkdir()
    (repository.root / "build/file").symlink_to(outside)
    (repository.root / "build/folder").symlink_to(outside.parent)
    (repository.root / "build/nowhere").symlink_to("nowhere")

    made = bootstrapped(repository, worktrees, "build/\n")

    found = {path.name: os.readlink(path) for path in (made.path / "build").iterdir()}
    assert found == {"file": str(outside), "folder": str(outside.parent), "nowhere": "nowhere"}


def test_nothing_is_written_through_a_link_of_the_worktree(repository: Repository, worktrees: Worktrees) -> None:
    outside = repository.root.parent / "outside"
    outside.mkdir()
    (repository.root / "kept").symlink_to(outside)
    repository.put(".gitignore", "*.log\n")
    repository.commit("a link to a folder elsewhere")
    (repository.root / "kept").unlink()
    repository.write(kept_in_x__log="x")

    made = bootstrapped(repository, worktrees, "*.log\n")

    assert list(outside.iterdir()) == []
    assert made.notes == ("kept/x.log was not copied: a folder of its path is a link or a file",)


def test_pipes_sockets_and_repositories_are_left_out(
    make_repository: MakeRepository, repository: Repository, worktrees: Worktrees
) -> None:
    (repository.root / "build").mkdir()
    os.mkfifo(repository.root / "build/pipe")
    repository.put("build/x", "x")
    make_repository("repository/build/inner")

    made = bootstrapped(repository, worktrees, "build/\n")

    assert [path.name for path in (made.path / "build").iterdir()] == ["x"]
    assert not any("inner" in note for note in made.notes)


def test_include_file_that_is_a_link_is_not_used(repository: Repository, worktrees: Worktrees) -> None:
    repository.write(x__log="x")
    outside = repository.put("../patterns", "*.log\n")
    (repository.root / ".worktreeinclude").symlink_to(outside)

    made = worktrees.create(TASK, repository.root)

    assert not (made.path / "x.log").exists()
    assert "is not a regular file and was not used" in made.notes[0]


def test_large_file_is_copied_whole_where_the_kernel_cannot_share_it(
    repository: Repository, worktrees: Worktrees, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    content = os.urandom(3 << 20)
    repository.put("x.log", content)
    monkeypatch.setattr(os, "copy_file_range", refused, raising=False)

    made = bootstrapped(repository, worktrees, "*.log\n")

    assert (made.path / "x.log").read_bytes() == content


# -- kept


@pytest.fixture
def made(repository: Repository, worktrees: Worktrees) -> Worktree:
    """A worktree with one commit, which main has too."""
    worktree = worktrees.create(TASK, repository.root)
    repository.put("work.txt", "work\n", at=worktree.path)
    repository.commit("work", at=worktree.path)
    repository.git("merge", "-q", "--ff-only", worktree.branch)
    return worktree


def assert_kept(worktrees: Worktrees, worktree: Worktree, reason: str, target: str | None = "main") -> None:
    removal = worktrees.remove(worktree, target=target)
    assert (removal.removed, removal.backups) == (False, ())
    assert reason in removal.reason
    assert worktree.path.is_dir()
    branch = subprocess.run(
        ["git", "rev-parse", "-q", "--verify", worktree.branch],
        cwd=worktree.repository,
        capture_output=True,
        check=False,
    )
    assert branch.returncode == 0


def test_changes_in_the_worktree_keep_it(repository: Repository, worktrees: Worktrees, made: Worktree) -> None:
    repository.put("staged.txt", "x", at=made.path)
    repository.git("add", "staged.txt", cwd=made.path)
    assert_kept(worktrees, made, "is not clean: 1 staged: staged.txt")
    repository.git("reset", "-q", cwd=made.path)
    assert_kept(worktrees, made, "is not clean: 1 untracked: staged.txt")
    (made.path / "staged.txt").unlink()
    repository.put("a.txt", "changed", at=made.path)
    assert_kept(worktrees, made, "is not clean: 1 unstaged: a.txt")
    repository.put("a.txt", "one\n", at=made.path)
    repository.put("x.log", "ignored", at=made.path)

    assert worktrees.remove(made, target="main").removed


def test_something_in_progress_keeps_it(repository: Repository, worktrees: Worktrees, made: Worktree) -> None:
    repository.git("bisect", "start", cwd=made.path)

    assert_kept(worktrees, made, "bisect in progress")


def test_commits_that_the_target_has_not_keep_it(repository: Repository, worktrees: Worktrees, made: Worktree) -> None:
    repository.put("work.txt", "more", at=made.path)
    repository.commit("more", at=made.path)

    assert_kept(worktrees, made, f"task/{TASK}: 1 commit that main has not")
    assert_kept(worktrees, made, "the branch nowhere does not exist", "nowhere")
    assert_kept(worktrees, made, "2 commits and there is no branch to merge them into", None)


def test_detached_commits_keep_it(repository: Repository, worktrees: Worktrees, made: Worktree) -> None:
    repository.git("checkout", "-q", "--detach", cwd=made.path)
    repository.put("work.txt", "on no branch", at=made.path)
    lost = repository.commit("on no branch", at=made.path)

    assert_kept(worktrees, made, "the detached HEAD of")
    assert worktrees.remove(made, target="main", force=True).backups[1] == f"refs/tasksd/backup/{TASK}.2"
    assert refs(repository)[f"refs/tasksd/backup/{TASK}.2"] == lost


@contextmanager
def process_in(folder: Path) -> Iterator[int]:
    process = subprocess.Popen(["sleep", "60"], cwd=folder)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("force", [False, True])
def test_process_at_work_in_it_keeps_it(force: bool, worktrees: Worktrees, made: Worktree) -> None:
    with process_in(made.path / "src") as pid:
        removal = worktrees.remove(made, target="main", force=force)
        assert not removal.removed
        assert f"sleep ({pid})" in removal.reason
        assert made.path.is_dir()

    assert worktrees.remove(made, target="main", force=force).removed


def test_branch_that_another_worktree_uses_keeps_both(
    repository: Repository, worktrees: Worktrees, made: Worktree
) -> None:
    repository.git("checkout", "-q", "--ignore-other-worktrees", made.branch)
    assert_kept(worktrees, made, f"{made.branch} is checked out in {repository.root}")
    repository.git("checkout", "-q", "main")
    repository.commit("main goes on")
    repository.git("checkout", "-q", "--detach")
    repository.git("commit", "-q", "--allow-empty", "-m", "x")
    (repository.root / ".git/rebase-merge").mkdir()
    (repository.root / ".git/rebase-merge/head-name").write_text(f"refs/heads/{made.branch}\n")

    assert_kept(worktrees, made, "rebase")


def test_lock_of_somebody_else_keeps_it(repository: Repository, worktrees: Worktrees, made: Worktree) -> None:
    repository.git("worktree", "unlock", str(made.path))
    repository.git("worktree", "lock", "--reason", "I am looking at it", str(made.path))

    assert_kept(worktrees, made, "is locked (I am looking at it)")


def test_folder_that_git_does_not_know_is_kept(repository: Repository, worktrees: Worktrees, made: Worktree) -> None:
    (made.path / ".git").unlink()

    assert_kept(worktrees, made, "so nothing can be proven")


def test_worktree_of_a_repository_that_is_gone_is_kept_unless_forced(
    repository: Repository, worktrees: Worktrees, made: Worktree
) -> None:
    repository.root.rename(repository.root.with_name("moved"))
    removal = worktrees.remove(made, target="main")
    assert (removal.removed, made.path.exists()) == (False, True)
    assert "is gone, so nothing can be proven" in removal.reason

    assert worktrees.remove(made, target="main", force=True).removed
    assert not made.path.exists()


def test_reference_lock_of_another_git_keeps_the_branch_and_stays(
    repository: Repository, worktrees: Worktrees, made: Worktree
) -> None:
    lock = repository.put(f".git/refs/heads/{made.branch}.lock", "")

    removal = worktrees.remove(made, target="main")

    assert not removal.removed
    assert f"{TASK}.lock for 5 s: another git works there" in removal.reason
    lock.unlink()
    assert worktrees.remove(made, target="main").removed
    assert f"refs/heads/{made.branch}" not in refs(repository)


@pytest.mark.parametrize("changes", [{"branch": "main"}, {"path": Path("/")}, {"task_id": "other"}])
def test_what_was_not_made_here_is_never_removed(
    changes: dict[str, object], repository: Repository, worktrees: Worktrees, made: Worktree
) -> None:
    facts = {name: getattr(made, name) for name in made.__slots__} | changes

    with pytest.raises(GitError, match="was not made by tasksd"):
        worktrees.remove(Worktree(**facts), target="main", force=True)
    assert "refs/heads/main" in refs(repository)


def test_unpushed_commits_of_a_submodule_keep_it(make_repository: MakeRepository, worktrees: Worktrees) -> None:
    repository = with_submodule(make_repository)
    made = worktrees.create(TASK, repository.root)
    repository.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init", cwd=made.path)
    repository.git("checkout", "-q", "-b", "mine", cwd=made.path / "lib")
    repository.git("commit", "-q", "--allow-empty", "-m", "x", cwd=made.path / "lib")
    repository.commit("with the submodule's commit", at=made.path)
    repository.git("merge", "-q", made.branch)

    assert_kept(worktrees, made, "the submodule lib in")
    repository.git("push", "-q", "origin", "mine", cwd=made.path / "lib")
    assert worktrees.remove(made, target="main").removed


# -- removed


def test_submodules_do_not_make_it_undeletable(make_repository: MakeRepository, worktrees: Worktrees) -> None:
    repository = with_submodule(make_repository)
    made = worktrees.create(TASK, repository.root)
    repository.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init", cwd=made.path)
    assert (made.path / "lib/a.txt").exists()

    assert worktrees.remove(made, target="main").removed
    assert entries(repository) == []
    assert repository.git("status", "--porcelain") == ""


def work(repository: Repository, worktrees: Worktrees) -> Worktree:
    """A worktree with two commits of its own."""
    made = worktrees.create(TASK, repository.root)
    for name in ("one", "two"):
        repository.put(f"{name}.txt", f"{name}\n", at=made.path)
        repository.commit(name, at=made.path)
    return made


def merged(repository: Repository, branch: str) -> None:
    repository.commit("main goes on")
    repository.git("merge", "-q", "--no-edit", branch)


def picked(repository: Repository, branch: str) -> None:
    repository.write(c__txt="main goes on")
    repository.commit()
    repository.git("cherry-pick", f"main..{branch}")


def picked_and_changed_since(repository: Repository, branch: str) -> None:
    picked(repository, branch)
    repository.write(one__txt="changed")
    repository.commit()


def squashed(repository: Repository, branch: str) -> None:
    repository.git("merge", "-q", "--squash", branch)
    repository.commit("squashed")


def squashed_with_more(repository: Repository, branch: str) -> None:
    repository.git("merge", "-q", "--squash", branch)
    repository.write(c__txt="by the person who merged")
    repository.commit("squashed")


def squashed_and_changed_since(repository: Repository, branch: str) -> None:
    squashed(repository, branch)
    repository.write(one__txt="changed")
    repository.commit()


@pytest.mark.parametrize(
    "arrive",
    [merged, picked, picked_and_changed_since, squashed, squashed_with_more, squashed_and_changed_since],
)
def test_work_that_arrived_in_the_target_lets_it_go(
    arrive: object, repository: Repository, worktrees: Worktrees
) -> None:
    made = work(repository, worktrees)
    tip = repository.git("rev-parse", made.branch)
    assert not worktrees.remove(made, target="main").removed
    assert callable(arrive)
    arrive(repository, made.branch)
    before = repository.snapshot()

    removal = worktrees.remove(made, target="main")

    assert removal.removed, removal.reason
    assert removal.backups == (f"refs/tasksd/backup/{TASK}",)
    assert not made.path.exists()
    assert set(refs(repository)) == {"refs/heads/main", f"refs/tasksd/backup/{TASK}"}
    assert refs(repository)[f"refs/tasksd/backup/{TASK}"] == tip
    assert repository.snapshot() == before
    repository.git("fsck", "--strict")


def only_one_picked(repository: Repository, branch: str) -> None:
    repository.git("cherry-pick", f"{branch}~1")


def merged_and_thrown_away(repository: Repository, branch: str) -> None:
    repository.git("merge", "-q", "--no-ff", "--no-edit", branch)
    repository.git("reset", "-q", "--hard", "HEAD~1")


def picked_but_for_a_merge(repository: Repository, branch: str) -> None:
    """The branch merged main and changed something in that merge, which no patch shows."""
    repository.write(c__txt="main goes on")
    repository.commit()
    place = next(
        line.removeprefix("worktree ")
        for line in repository.git("worktree", "list", "--porcelain").splitlines()
        if line.endswith(TASK) and line.startswith("worktree ")
    )
    repository.git("merge", "-q", "--no-commit", "--no-ff", "main", cwd=Path(place))
    repository.put("only-in-the-merge.txt", "x", at=Path(place))
    repository.commit("merge", at=Path(place))
    repository.git("cherry-pick", f"{branch}~2", f"{branch}~1")


@pytest.mark.parametrize("arrive", [only_one_picked, merged_and_thrown_away, picked_but_for_a_merge])
def test_work_that_did_not_arrive_keeps_it(arrive: object, repository: Repository, worktrees: Worktrees) -> None:
    made = work(repository, worktrees)
    assert callable(arrive)
    arrive(repository, made.branch)

    assert_kept(worktrees, made, "that main has not")


def test_worktree_without_commits_needs_no_target(repository: Repository, worktrees: Worktrees) -> None:
    repository.git("checkout", "-q", "--detach")
    made = worktrees.create(TASK, repository.root)
    assert made.base_branch is None

    assert worktrees.remove(made, target=None).removed


def test_removed_twice_is_removed(repository: Repository, worktrees: Worktrees, made: Worktree) -> None:
    assert worktrees.remove(made, target="main").removed
    before = refs(repository)

    assert worktrees.remove(made, target="main").removed
    assert refs(repository) == before


def test_force_deletes_everything_and_keeps_the_commits(repository: Repository, worktrees: Worktrees) -> None:
    made = work(repository, worktrees)
    tip = repository.git("rev-parse", made.branch)
    repository.put("untracked.txt", "x", at=made.path)
    repository.git("bisect", "start", cwd=made.path)

    removal = worktrees.remove(made, target="main", force=True)

    assert (removal.removed, made.path.exists()) == (True, False)
    assert refs(repository) == {"refs/heads/main": made.base_commit, f"refs/tasksd/backup/{TASK}": tip}
    repository.git("branch", "again", removal.backups[0])
    assert repository.git("rev-parse", "again") == tip


def test_force_keeps_a_branch_that_another_worktree_uses(
    repository: Repository, worktrees: Worktrees, made: Worktree
) -> None:
    repository.git("checkout", "-q", "--ignore-other-worktrees", made.branch)
    before = repository.snapshot()

    removal = worktrees.remove(made, target="main", force=True)

    assert (removal.removed, made.path.exists()) == (False, False)
    assert f"the branch is kept: {made.branch} is checked out in {repository.root}" in removal.reason
    assert f"refs/heads/{made.branch}" in refs(repository)
    assert repository.snapshot() == before


def test_worktrees_of_others_stay_even_when_their_folder_is_gone(
    repository: Repository, worktrees: Worktrees, made: Worktree
) -> None:
    repository.git("worktree", "add", "-q", "../theirs")
    repository.git("worktree", "add", "-q", "../away")
    subprocess.run(["rm", "-rf", str(repository.root.parent / "away")], check=True)

    assert worktrees.remove(made, target="main").removed

    assert entries(repository) == ["away", "theirs"]
    assert {"refs/heads/away", "refs/heads/theirs"} <= set(refs(repository))


def test_folders_that_nobody_may_write_are_deleted_too(worktrees: Worktrees, made: Worktree, data: Path) -> None:
    cache = made.path / "build/cache"
    cache.mkdir(parents=True)
    (cache / "file").write_text("x")
    cache.chmod(0o500)

    removal = worktrees.remove(made, target="main")

    assert (removal.removed, removal.reason) == (True, "")
    assert list((data / "worktrees").glob("*/*")) == []


# -- backups


def test_second_backup_of_a_task_does_not_replace_the_first(repository: Repository, worktrees: Worktrees) -> None:
    tips = []
    for number in range(3):
        made = worktrees.create(TASK, repository.root)
        repository.put("work.txt", str(number), at=made.path)
        tips.append(repository.commit("work", at=made.path))
        assert worktrees.remove(made, target="main", force=True).removed

    found = worktrees.backups(repository.root / ".git")

    assert [(backup.task_id, backup.commit) for backup in found] == [(TASK, tip) for tip in tips]
    assert [backup.ref for backup in found] == [f"refs/tasksd/backup/{TASK}{end}" for end in ("", ".2", ".3")]


def test_only_backups_that_are_old_expire_and_no_other_reference(
    repository: Repository, worktrees: Worktrees, made: Worktree
) -> None:
    assert worktrees.remove(made, target="main").removed
    repository.git("update-ref", "refs/tasksd/backup/by-hand", "HEAD")
    repository.git("tag", "-a", "-m", "x", "v1")
    before = refs(repository)

    assert worktrees.expire(made.repository, older_than=3600) == []
    assert refs(repository) == before

    [gone] = worktrees.expire(made.repository, older_than=-60)
    assert gone.ref == f"refs/tasksd/backup/{TASK}"
    assert refs(repository) == {name: commit for name, commit in before.items() if name != gone.ref}
