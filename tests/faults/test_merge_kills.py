"""kill -9 in the middle of a merge: of tasksd, of git, of both. The next call brings it to an end, nobody's work is lost."""

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tasks.config.sections import GitSettings
from tasks.errors import RepositoryBusy
from tasks.git.lock import repository_lock
from tasks.git.merge import Merge, Merger
from tasks.words import MergeState

#: A merge in a process of its own, which may end itself right after a step.
PROGRAM = """
import os, signal, sys
path, locks, common, branch, fatal = sys.argv[1:6]
sys.path[:] = path.split(os.pathsep)
from pathlib import Path
from tasks.config.sections import GitSettings
from tasks.errors import RepositoryBusy
from tasks.git.lock import repository_lock
from tasks.git.merge import Merger
def step(name):
    print(name, flush=True)
    if name == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
merger = Merger(Path(locks), GitSettings(), step=step)
print(merger.merge(Path(common), branch, "main", message="Merge", task_id="1").state, flush=True)
"""

#: A smudge filter. At the file whose content names a deed it does that: to git and itself (one process group), or to tasksd.
FILTER = """
content=$(cat)
case $content in
*term-all*) [ -e {armed} ] && {{ rm {armed}; kill -KILL "$(cat {parent})"; kill -TERM 0; sleep 60; }} ;;
*kill-all*) [ -e {armed} ] && {{ rm {armed}; kill -KILL "$(cat {parent})"; kill -KILL 0; }} ;;
*kill-git*) [ -e {armed} ] && {{ rm {armed}; kill -KILL 0; }} ;;
*kill-us*) [ -e {armed} ] && {{ rm {armed}; kill -KILL "$(cat {parent})"; until [ -e {go} ]; do sleep 0.02; done; }} ;;
esac
printf '%s\\n' "$content"
"""

SWAP_STEPS = ("locked", "read", "fitted", "looked", "committed", "moved")
FOLLOW_STEPS = ("locked", "read", "fitted", "looked", "committed", "intended", "followed", "cleared")
CHECKOUT_DEEDS = (
    "kill-all first",
    "kill-all middle",
    "kill-all last",
    "kill-all torn",
    "term-all middle",
    "kill-git middle",
)
ROUNDS = [
    *(("elsewhere", step) for step in SWAP_STEPS),
    *(("clean", step) for step in FOLLOW_STEPS),
    *(("clean", deed) for deed in CHECKOUT_DEEDS),
]


class Scene:
    """A user's repository, in which branches are merged into main by processes that do not live long."""

    def __init__(self, folder: Path, checkout: str) -> None:
        self.folder = folder
        self.root, self.common, self.locks = folder / "r", folder / "r/.git", folder / "locks"
        self.armed, self.parent, self.go = folder / "armed", folder / "parent", folder / "go"
        script = folder / "filter"
        script.write_text(FILTER.format(armed=self.armed, parent=self.parent, go=self.go))
        self.git("init", "-q", "-b", "main", str(self.root), cwd=folder)
        self.git("config", "filter.deed.smudge", f"sh {script}")
        self.git("config", "filter.deed.clean", "cat")
        self.write(
            "there-and-gone.txt",
            "t\n",
            ".gitattributes",
            "*.deed filter=deed\n",
            ".gitignore",
            "*.log\n",
            "a.txt",
            "1\n",
        )
        self.write(*(word for number in range(5) for word in (f"m{number}.txt", "old\n")))
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "first")
        self.write("a.txt", "stashed\n")
        self.git("stash", "push", "-q")
        if checkout == "elsewhere":
            self.git("checkout", "-q", "-b", "mine")
            self.write("staged.txt", "s\n", "a.txt", "staged\n")
            self.git("add", "staged.txt", "a.txt")
            self.write("m0.txt", "unstaged\n")
        self.write("untracked.txt", "u\n", "secret.log", "ignored\n", "data/deep.log", "ignored\n")

    def git(self, *arguments: str, cwd: Path | None = None, check: bool = True) -> str:
        command = subprocess.run(["git", *arguments], cwd=cwd or self.root, capture_output=True, text=True, check=False)
        assert not check or command.returncode == 0, (arguments, command.stderr)
        return command.stdout.strip()

    def write(self, *pairs: str, at: Path | None = None) -> None:
        for name, content in zip(pairs[::2], pairs[1::2], strict=True):
            path = (at or self.root) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def branch(self, number: int, deed: str = "") -> str:
        """task/<number>: adds, changes and removes files; one of them does the deed when it is checked out."""
        place = self.folder / f"w{number}"
        name, _, when = deed.partition(" ")
        self.git("worktree", "add", "-q", "-b", f"task/{number}", str(place), "main")
        which = {"first": "000.deed", "last": "zzz.deed"}.get(when, "m22.deed")
        words = f"new of {number}, long enough to be torn\n"
        self.write(which, f"{name} {number}\n", f"new{number}/x.txt", words, f"z{number}.txt", words, at=place)
        self.write(*(word for number_ in range(5) for word in (f"m{number_}.txt", f"{words}{number_}\n")), at=place)
        turn = place / "there-and-gone.txt"
        turn.unlink() if turn.exists() else turn.write_text("t\n")
        self.git("add", "-A", cwd=place)
        self.git("commit", "-q", "-m", f"work {number}", cwd=place)
        self.git("worktree", "remove", "--force", str(place))
        return f"task/{number}"

    def start(self, branch: str, fatal: str = "-") -> subprocess.Popen[str]:
        words = (os.pathsep.join(sys.path), str(self.locks), str(self.common), branch, fatal)
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROGRAM, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.parent.write_text(str(process.pid))
        return process

    def merge(self, branch: str) -> Merge:
        merger = Merger(self.locks, GitSettings())
        return merger.merge(self.common, branch, "main", message="Merge", task_id="1")

    def tip(self) -> str:
        return self.git("rev-parse", "refs/heads/main")

    def theirs(self) -> dict[str, str]:
        """What is the user's own: the stash, and files that no commit of main has; all of it when elsewhere."""
        ours = set() if self.is_elsewhere() else set(self.git("ls-tree", "-r", "--name-only", "main").split())
        found = {}
        for folder, folders, files in os.walk(self.root):
            if Path(folder) == self.root:
                folders.remove(".git")
            for file in files:
                path = Path(folder) / file
                if str(path.relative_to(self.root)) not in ours:
                    found[str(path)] = f"{_hash(path)} {path.stat().st_mode:o} {path.stat().st_mtime_ns}"
        names = ("refs/stash", "logs/refs/stash", "HEAD", *(("index", "ORIG_HEAD") if self.is_elsewhere() else ()))
        return found | {name: _hash(self.common / name) for name in names}

    def is_elsewhere(self) -> bool:
        return self.git("symbolic-ref", "HEAD") != "refs/heads/main"

    def is_clean(self) -> bool:
        return self.git("status", "--porcelain", "--untracked-files=no") == ""

    def assert_sound(self, branch: str, before: str) -> None:
        """main is where it was, or at a merge of just this branch; the store is whole."""
        self.git("fsck", "--full", "--strict")
        if self.tip() != before:
            assert self.git("rev-list", "--parents", "-1", "main").split()[1:] == [
                before,
                self.git("rev-parse", branch),
            ]
            assert self.git("rev-parse", "main^{tree}") == self.git("merge-tree", "--write-tree", before, branch)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "none"


@pytest.fixture(autouse=True)
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "home").mkdir()
    (folder / "home/.gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder / "home"))


def kill_once(scene: Scene, number: int, moment: str) -> None:
    """One merge that is killed at `moment`, and the calls after it until it is done."""
    branch = scene.branch(number, moment if " " in moment else "")
    tip, theirs = scene.tip(), scene.theirs()
    if " " in moment:
        scene.armed.touch()
    process = scene.start(branch, moment)
    out, errors = process.communicate(timeout=60)
    survives = moment.startswith("kill-git")
    assert process.returncode == (0 if survives else -signal.SIGKILL), (moment, out, errors)
    assert not scene.armed.exists(), "the deed was done"
    with repository_lock(scene.locks, scene.common):  # git ends a moment later than we do, and has the lock until then
        pass

    scene.assert_sound(branch, tip)
    assert scene.theirs() == theirs or not scene.is_elsewhere()
    lock = scene.common / "index.lock"
    if moment.startswith("kill-"):
        assert lock.exists()
        assert scene.tip() == tip
        if moment.endswith("torn"):
            written = [path for path in sorted(scene.root.glob("m*.txt")) if f"new of {number}," in path.read_text()]
            assert written, "git was killed before it wrote anything"
            with written[-1].open("r+") as file:
                file.truncate(9)
        assert not scene.is_clean() or moment.endswith("first")  # then nothing may be written yet
        result = scene.merge(branch)
        assert result.state is MergeState.WAITING
        assert str(lock) in result.reason
        lock.unlink()  # what the reason tells a person to do
    assert not lock.exists()

    result = scene.merge(branch)

    assert result.state is MergeState.MERGED, (moment, result)
    assert result.commit == scene.tip() != tip
    scene.assert_sound(branch, tip)
    assert scene.theirs() == theirs
    assert scene.is_elsewhere() or scene.is_clean()
    assert not list(scene.locks.glob("*.move"))


@pytest.mark.parametrize("checkout", ["elsewhere", "clean"])
def test_merge_killed_at_every_step_is_completed_by_the_next_call(folder: Path, checkout: str) -> None:
    scene = Scene(folder, checkout)
    moments = [moment for where, moment in ROUNDS if where == checkout]
    for number, moment in enumerate(moments):
        kill_once(scene, number, moment)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("checkout", ["elsewhere", "clean"])
def test_hundred_killed_merges_of_each_kind_are_completed(folder: Path, checkout: str) -> None:
    moments = [moment for where, moment in ROUNDS if where == checkout]
    for number in range(100):
        if number % 25 == 0:  # a fresh scene: histories of hundreds of merges only make the checks slow
            place = folder / f"s{number}"
            place.mkdir()
            scene = Scene(place, checkout)
        kill_once(scene, number, moments[number % len(moments)])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("checkout", ["elsewhere", "clean"])
def test_merge_killed_at_any_moment_is_completed(folder: Path, checkout: str) -> None:
    """Both processes at once, at random times: whatever state that leaves, the next call ends in a merge."""
    scene = Scene(folder, checkout)
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    for number in range(60):
        branch = scene.branch(number)
        tip, theirs = scene.tip(), scene.theirs()
        process = scene.start(branch)
        assert process.stdout is not None
        process.stdout.readline()  # it has the lock
        time.sleep(chance.uniform(0, 0.08))
        for pid in [*_children(process.pid), process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=60)
        scene.assert_sound(branch, tip)
        for lock in (scene.common / "index.lock", scene.common / "HEAD.lock", scene.common / "refs/heads/main.lock"):
            lock.unlink(missing_ok=True)
        result = scene.merge(branch)
        assert result.state is MergeState.MERGED, (seed, number, result)
        scene.assert_sound(branch, tip)
        assert scene.theirs() == theirs
        assert scene.is_elsewhere() or scene.is_clean()


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def cut_off(scene: Scene) -> tuple[str, str]:
    """A merge that was killed while git wrote a clean checkout, without its index.lock; the branch, and the old tip."""
    branch, tip = scene.branch(1, "kill-all middle"), scene.tip()
    scene.armed.touch()
    scene.start(branch).communicate(timeout=60)
    (scene.common / "index.lock").unlink()
    assert not scene.is_clean()
    return branch, tip


def edit_written(scene: Scene) -> str:
    scene.write("m0.txt", "my own work\n")
    return "m0.txt"


def edit_unwritten(scene: Scene) -> str:
    scene.write("a.txt", "my own work\n")
    return "a.txt"


def create_where_it_adds(scene: Scene) -> str:
    scene.write("z1.txt", "my own work\n")
    return "z1.txt"


def stage(scene: Scene) -> str:
    scene.write("m0.txt", "my own work\n")
    scene.git("add", "m0.txt")
    return "m0.txt"


def put_folder(scene: Scene) -> str:
    (scene.root / "m4.txt").unlink(missing_ok=True)
    scene.write("m4.txt/mine", "my own work\n")
    return "m4.txt"


@pytest.mark.parametrize(
    "work", [edit_written, edit_unwritten, create_where_it_adds, stage, put_folder], ids=lambda work: work.__name__
)
def test_work_of_the_user_after_the_kill_is_never_overwritten(folder: Path, work: Callable[[Scene], str]) -> None:
    scene = Scene(folder, "clean")
    branch, tip = cut_off(scene)
    name = work(scene)
    files = {path: _hash(path) for path in scene.root.iterdir() if path.is_file()}

    result = scene.merge(branch)

    assert result.state is MergeState.WAITING
    assert name in result.paths and name in result.reason
    assert scene.tip() == tip
    assert {path: _hash(path) for path in scene.root.iterdir() if path.is_file()} == files
    assert "reset --hard" in result.reason

    # A person keeps the file elsewhere and runs what the reason says; files that git only began to add are untracked.
    mine = scene.root / name
    shutil.move(mine, folder / "kept")
    scene.git("reset", "-q", "--hard", tip[:12])
    result = scene.merge(branch)
    assert result.state is MergeState.MERGED, result
    assert scene.is_clean()


def test_user_who_commits_the_half_written_tree_is_left_in_peace(folder: Path) -> None:
    scene = Scene(folder, "clean")
    branch, _ = cut_off(scene)
    scene.git("commit", "-q", "-a", "-m", "mine")
    mine = scene.tip()
    result = scene.merge(branch)
    assert result.state in (MergeState.WAITING, MergeState.MERGED, MergeState.CONFLICT)
    assert scene.git("merge-base", mine, "main") == mine
    assert not list(scene.locks.glob("*.move"))


def test_kill_between_index_and_branch_is_completed_with_the_same_commit(folder: Path) -> None:
    """git writes the index before it moves the branch; a lock on the branch keeps it from the second."""
    scene = Scene(folder, "clean")
    branch, tip = scene.branch(1), scene.tip()
    process = scene.start(branch, "intended")
    process.communicate(timeout=60)
    note = next(scene.locks.glob("*.move"))
    commit = str(json.loads(note.read_text())["commit"])
    scene.git("read-tree", "-m", "-u", tip, commit)
    scene.write("a.txt", "edited since\n")

    result = scene.merge(branch)

    assert (result.state, result.commit) == (MergeState.MERGED, commit)
    assert scene.tip() == commit
    assert (scene.root / "a.txt").read_text() == "edited since\n"
    assert scene.git("status", "--porcelain", "--untracked-files=no") == "M a.txt"


def test_git_that_outlives_us_keeps_the_repository_locked_until_it_is_done(folder: Path) -> None:
    scene = Scene(folder, "clean")
    branch = scene.branch(1, "kill-us middle")
    scene.armed.touch()
    first = scene.start(branch)
    first.communicate(timeout=60)
    assert first.returncode == -signal.SIGKILL
    assert (scene.common / "index.lock").exists(), "git is at work"

    with pytest.raises(RepositoryBusy), repository_lock(scene.locks, scene.common, timeout=0.3):
        pass
    scene.go.touch()
    out, errors = scene.start(branch).communicate(timeout=60)

    assert out.split()[-1] == "merged", (out, errors)
    assert "intended" not in out, "nothing was left to do"
    assert scene.is_clean()
