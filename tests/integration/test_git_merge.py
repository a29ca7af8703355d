"""Merges of task branches in real repositories: what arrives, what stands against it, and what is never touched."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tasks.config.sections import GitSettings
from tasks.errors import GitError
from tasks.git.command import Git
from tasks.git.merge import Merge, Merger
from tasks.words import MergeState


class Repository:
    """A repository with one commit on main, as a user has it; tasks work in worktrees beside it."""

    def __init__(self, root: Path, *init: str) -> None:
        self.root = root
        self.beside = root.parent
        self.git("init", "-q", "-b", "main", *init, str(root), cwd=self.beside)
        self.common = root / ".git"
        self.save("a.txt", "one\ntwo\nthree\n", "folder/b.txt", "b\n", ".gitignore", "*.log\nbuild\n", message="first")
        self.locks = self.beside / "locks"

    def git(self, *arguments: str, cwd: Path | None = None, check: bool = True) -> str:
        command = subprocess.run(
            ["git", *arguments], cwd=cwd or self.root, capture_output=True, check=False, stdin=subprocess.DEVNULL
        )
        assert not check or command.returncode == 0, (arguments, command.stderr)
        return command.stdout.decode("utf-8", "surrogateescape").strip()

    def write(self, *pairs: str, at: Path | None = None) -> None:
        for name, content in zip(pairs[::2], pairs[1::2], strict=True):
            path = (at or self.root) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def save(self, *pairs: str, message: str = "more", at: Path | None = None) -> str:
        self.write(*pairs, at=at)
        self.git("add", "-A", "-f", "--", *pairs[::2], cwd=at)
        self.git("commit", "-q", "-m", message, cwd=at)
        return self.git("rev-parse", "HEAD", cwd=at)

    def task(self, name: str, *pairs: str, start: str = "main") -> str:
        """A branch task/<name> with one commit that writes these files; its name."""
        place = self.beside / f"worktree-{name}"
        self.git("worktree", "add", "-q", "-b", f"task/{name}", str(place), start)
        self.save(*pairs, message=f"work of {name}", at=place)
        return f"task/{name}"

    def merge(
        self, branch: str, target: str | None = "main", *, base: str | None = None, git: Git | None = None
    ) -> Merge:
        merger = Merger(self.locks, GitSettings(), git=git)
        return merger.merge(
            self.common, branch, target, message=f"Merge {branch}\n\nBody.", task_id="abc123", base=base
        )

    def tip(self, ref: str = "main") -> str:
        return self.git("rev-parse", ref)

    def fsck(self) -> None:
        self.git("fsck", "--full", "--strict")

    def snapshot(self) -> dict[str, str]:
        """Every file of the working tree by content, mode and time, and what git knows of tree, index and stash."""
        found = {}
        for folder, folders, files in os.walk(self.root):
            if Path(folder) == self.root and ".git" in folders:
                folders.remove(".git")
            for name in (*folders, *files):
                path = Path(folder) / name
                status = path.lstat()
                content = os.readlink(path).encode() if path.is_symlink() else b""
                content = path.read_bytes() if path.is_file() and not path.is_symlink() else content
                stamp = status.st_mtime_ns if not path.is_dir() else 0
                found[str(path)] = f"{hashlib.sha256(content).hexdigest()} {status.st_mode:o} {stamp}"
        for name in (
            "index",
            "HEAD",
            "refs/stash",
            "logs/refs/stash",
            "logs/HEAD",
            "config",
            "ORIG_HEAD",
            "MERGE_HEAD",
        ):
            path = self.common / name
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "none"
        return found


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with an identity and nothing else."""
    place = tmp_path / "home"
    place.mkdir()
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("EMAIL", raising=False)
    monkeypatch.setenv("HOME", str(place))
    (place / ".gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
    return place


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def make_messy(repository: Repository) -> None:
    """Staged, unstaged, untracked and ignored files, an empty folder, a link, and a stash with an untracked file."""
    repository.write("a.txt", "stashed\n", "stashed.txt", "s\n")
    repository.git("stash", "push", "-q", "--include-untracked")
    repository.write("staged.txt", "staged\n", "folder/b.txt", "staged\n")
    repository.git("add", "staged.txt", "folder/b.txt")
    repository.write("a.txt", "unstaged\n", "untracked.txt", "u\n", "secret.log", "ignored\n", "build/x", "ignored\n")
    os.utime(repository.root / ".gitignore", (1_000_000_000, 1_000_000_000))  # tempts git to refresh the index
    (repository.root / "empty").mkdir()
    (repository.root / "link").symlink_to("nowhere")


# -- what arrives


def test_branch_that_nobody_has_checked_out_gets_a_merge_commit(repository: Repository) -> None:
    repository.git("checkout", "-q", "-b", "mine")
    branch = repository.task("1", "new.txt", "new\n")
    before = repository.tip()
    repository.save("mine.txt", "m\n")

    result = repository.merge(branch)

    assert (result.state, result.commit, result.reason) == (MergeState.MERGED, repository.tip(), "")
    assert repository.git("rev-list", "--parents", "-1", "main").split()[1:] == [before, repository.tip(branch)]
    assert repository.git("show", "main:new.txt") == "new"
    assert repository.git("log", "-1", "--format=%B|%an|%ce", "main") == "Merge task/1\n\nBody.\n|Ada|ada@example.org"
    assert repository.git("reflog", "-1", "--format=%gs", "main") == "tasksd: merge task abc123"
    repository.fsck()


def test_clean_checkout_follows_and_keeps_untracked_and_ignored_files(repository: Repository) -> None:
    branch = repository.task("1", "new.txt", "new\n", "a.txt", "zero\none\ntwo\nthree\n")
    repository.save("folder/b.txt", "b2\n")
    repository.write("untracked.txt", "u\n", "secret.log", "ignored\n", "build/x", "y\n")

    result = repository.merge(branch)

    assert (result.state, result.commit) == (MergeState.MERGED, repository.tip("HEAD"))
    assert repository.git("symbolic-ref", "HEAD") == "refs/heads/main"
    assert repository.git("status", "--porcelain") == "?? untracked.txt"
    assert (repository.root / "a.txt").read_text() == "zero\none\ntwo\nthree\n"
    assert (repository.root / "secret.log").read_text() == "ignored\n"
    assert len(repository.git("rev-list", "--parents", "-1", "main").split()) == 3
    assert repository.git("reflog", "-1", "--format=%gs").startswith("tasksd: merge task abc123")
    assert [path.name for path in repository.locks.glob("*.move")] == []


@pytest.mark.parametrize("ahead", [True, False], ids=["target moved on", "target stayed"])
def test_worktree_of_the_target_follows_while_the_users_checkout_is_left_alone(
    repository: Repository, ahead: bool
) -> None:
    repository.git("branch", "release")
    place = repository.beside / "release"
    repository.git("worktree", "add", "-q", str(place), "release")
    branch = repository.task("1", "new.txt", "new\n", start="release")
    if ahead:
        repository.save("r.txt", "r\n", at=place)
    make_messy(repository)
    before = repository.snapshot()

    assert repository.merge(branch, "release").state is MergeState.MERGED

    assert (place / "new.txt").read_text() == "new\n"
    assert repository.git("status", "--porcelain", cwd=place) == ""
    assert repository.snapshot() == before


def test_second_merge_of_the_same_branch_names_the_same_commit(repository: Repository) -> None:
    branch = repository.task("1", "new.txt", "new\n")
    first = repository.merge(branch)
    repository.save("later.txt", "l\n")
    tip = repository.tip()

    assert repository.merge(branch) == first
    assert repository.tip() == tip


def test_branch_that_a_person_fast_forwarded_counts_as_merged(repository: Repository) -> None:
    base = repository.tip()
    branch = repository.task("1", "new.txt", "new\n")
    repository.git("merge", "-q", "--ff-only", branch)
    result = repository.merge(branch, base=base)
    assert (result.state, result.commit) == (MergeState.MERGED, repository.tip(branch))


def test_branch_without_commits_is_nothing_to_merge(repository: Repository) -> None:
    base = repository.tip()
    repository.git("branch", "task/empty")
    repository.save("later.txt", "l\n")
    assert repository.merge("task/empty", base=base).state is MergeState.NONE


def test_identity_falls_back_to_our_own_name(repository: Repository, home: Path) -> None:
    branch = repository.task("1", "new.txt", "new\n")
    (home / ".gitconfig").write_text("")
    assert repository.merge(branch).state is MergeState.MERGED
    assert repository.git("log", "-1", "--format=%an %ae", "main") == "tasksd tasksd@localhost"
    assert repository.git("log", "-1", "--format=%cn %ce", "main") == "tasksd tasksd@localhost"


def test_target_behind_a_symbolic_ref_moves_with_its_checkout(repository: Repository) -> None:
    branch = repository.task("1", "new.txt", "new\n")
    repository.git("symbolic-ref", "refs/heads/trunk", "refs/heads/main")
    assert repository.merge(branch, "trunk").state is MergeState.MERGED
    assert repository.git("status", "--porcelain") == ""
    assert (repository.root / "new.txt").exists()


def test_bare_repository_is_merged_into(repository: Repository) -> None:
    bare = repository.beside / "bare.git"
    branch = repository.task("1", "new.txt", "new\n")
    repository.git("clone", "-q", "--bare", str(repository.root), str(bare))
    result = Merger(repository.locks, GitSettings()).merge(bare, branch, "main", message="m", task_id="1")
    assert result.state is MergeState.MERGED
    assert repository.git("rev-parse", "main", cwd=bare) == result.commit


def test_names_of_any_bytes_arrive_and_are_named(repository: Repository) -> None:
    odd = ["-dash", 'quo"te', "new\nline", "tab\there", "ünï", b"latin-\xe9".decode("utf-8", "surrogateescape")]
    branch = repository.task("1", *(word for name in odd for word in (name, "theirs\n")))
    again = repository.task("2", *(word for name in odd for word in (name, "other\n")))
    assert repository.merge(branch).state is MergeState.MERGED
    assert sorted(path.name for path in repository.root.iterdir() if path.name in odd) == sorted(odd)
    result = repository.merge(again)
    assert result.state is MergeState.CONFLICT
    assert set(result.paths) == {*odd[:-1], "latin-\\xe9"}
    assert result.reason.encode()  # can be stored and sent


@pytest.mark.parametrize(
    "setting",
    [
        ("commit.gpgsign", "true", "gpg.program", "false"),
        ("branch.main.mergeOptions", "--squash --no-commit"),
        ("merge.ff", "false"),
        ("merge.autoStash", "true", "merge.verifySignatures", "true"),
        ("rerere.enabled", "true", "rerere.autoUpdate", "true"),
        ("submodule.recurse", "true", "status.submoduleSummary", "true"),
        ("color.ui", "always", "status.branch", "true"),
        ("core.untrackedCache", "true", "core.splitIndex", "true"),
        ("core.fsmonitor", "false-and-not-there", "index.version", "4"),
        ("safe.bareRepository", "explicit"),
        ("status.showUntrackedFiles", "all", "diff.ignoreSubmodules", "all"),
        ("i18n.commitEncoding", "latin1", "core.quotePath", "false"),
    ],
    ids=lambda setting: setting[0],
)
def test_settings_of_the_user_do_not_change_what_a_merge_is(repository: Repository, setting: tuple[str, ...]) -> None:
    branch = repository.task("1", "new.txt", "new\n")
    repository.save("later.txt", "l\n")
    for name, value in zip(setting[::2], setting[1::2], strict=True):
        repository.git("config", "--global", name, value)
    assert repository.merge(branch).state is MergeState.MERGED
    assert len(repository.git("rev-list", "--parents", "-1", "main").split()) == 3
    assert (repository.root / "new.txt").read_text() == "new\n"
    assert repository.git("-c", "core.fsmonitor=false", "status", "--porcelain", "--no-branch") == ""


def test_hooks_are_not_run(repository: Repository) -> None:
    branch = repository.task("1", "new.txt", "new\n")
    repository.save("later.txt", "l\n")
    trace = repository.beside / "trace"
    names = (
        "pre-merge-commit",
        "post-merge",
        "post-checkout",
        "commit-msg",
        "reference-transaction",
        "post-index-change",
    )
    for name in names:
        hook = repository.common / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\necho {name} >>'{trace}'\n")
        hook.chmod(0o755)
    repository.git("update-ref", "refs/heads/try", "main")
    assert trace.exists(), "hooks would run"
    trace.unlink()
    assert repository.merge(branch).state is MergeState.MERGED
    assert not trace.exists()


@pytest.mark.parametrize("checked_out", [True, False])
def test_merge_drivers_of_the_target_are_used(repository: Repository, checked_out: bool) -> None:
    repository.git("config", "merge.both.driver", "cat %B >>%A")
    repository.save("log.txt", "0\n", "own.txt", "0\n", ".gitattributes", "log.txt merge=union\nown.txt merge=both\n")
    branch = repository.task("1", "log.txt", "0\ntheirs\n", "own.txt", "theirs\n")
    repository.save("log.txt", "0\nours\n", "own.txt", "ours\n")
    if not checked_out:
        repository.git("checkout", "-q", "-b", "mine")
    assert repository.merge(branch).state is MergeState.MERGED
    assert repository.git("show", "main:log.txt").split() == ["0", "ours", "theirs"]
    assert repository.git("show", "main:own.txt").split() == ["ours", "theirs"]
    assert repository.git("status", "--porcelain") == ""


def test_filters_of_the_repository_are_applied_to_the_checkout(repository: Repository) -> None:
    repository.git("config", "filter.case.smudge", "tr a-z A-Z")
    repository.git("config", "filter.case.clean", "tr A-Z a-z")
    repository.save(".gitattributes", "*.case filter=case\n*.crlf text eol=crlf\n", "x.case", "old\n")
    branch = repository.task("1", "x.case", "new\n", "y.crlf", "line\n")
    repository.save("later.txt", "l\n")
    assert repository.merge(branch).state is MergeState.MERGED
    assert (repository.root / "x.case").read_bytes() == b"NEW\n"
    assert (repository.root / "y.crlf").read_bytes() == b"line\r\n"
    assert repository.git("show", "main:x.case") == "new"
    assert repository.git("status", "--porcelain") == ""


@pytest.mark.parametrize("kind", ["sha256", "sparse", "split index", "worktree config"])
def test_repositories_of_newer_formats_are_merged(tmp_path: Path, kind: str) -> None:
    repository = Repository(tmp_path / "repository", *(["--object-format=sha256"] if kind == "sha256" else []))
    branch = repository.task("1", "new.txt", "new\n", "folder/b.txt", "b2\n")
    repository.save("later.txt", "l\n")
    if kind == "sparse":
        repository.git("sparse-checkout", "set", "--cone", "elsewhere")
    elif kind == "split index":
        repository.git("update-index", "--split-index")
    elif kind == "worktree config":
        repository.git("config", "extensions.worktreeConfig", "true")
    assert repository.merge(branch).state is MergeState.MERGED
    assert (repository.root / "new.txt").exists()
    assert (repository.root / "folder").exists() is (kind != "sparse")
    assert repository.git("status", "--porcelain") == ""


# -- what does not fit


def conflicting(repository: Repository) -> str:
    branch = repository.task("1", "a.txt", "theirs\n", "folder/b.txt", "theirs\n", "fine.txt", "f\n")
    repository.save("a.txt", "ours\n")
    repository.git("rm", "-q", "folder/b.txt")
    repository.git("commit", "-q", "-m", "without b")
    return branch


def test_conflict_names_the_files_and_touches_nothing(repository: Repository) -> None:
    branch = conflicting(repository)
    tip = repository.tip()
    repository.write("untracked.txt", "u\n")
    before = repository.snapshot()

    result = repository.merge(branch)

    assert (result.state, set(result.paths)) == (MergeState.CONFLICT, {"a.txt", "folder/b.txt"})
    assert "a.txt" in result.reason and branch in result.reason
    assert any("Merge conflict in a.txt" in message for message in result.messages)
    assert any("folder/b.txt deleted in" in message for message in result.messages)
    assert len(result.messages) == 2
    assert repository.tip() == tip
    assert repository.snapshot() == before


def test_conflicts_can_be_asked_for_beforehand(repository: Repository) -> None:
    branch = conflicting(repository)
    fits = repository.task("2", "else.txt", "e\n")
    before = (repository.tip(), repository.snapshot())
    merger = Merger(repository.locks, GitSettings())
    found = merger.conflicts(repository.common, branch, "main")
    assert set(found.paths) == {"a.txt", "folder/b.txt"} and len(found.messages) == 2
    assert merger.conflicts(repository.common, fits, "main").paths == ()
    assert "no branch gone" in merger.conflicts(repository.common, fits, "gone").refusal
    assert (repository.tip(), repository.snapshot()) == before


def test_conflict_of_renames_names_all_files(repository: Repository) -> None:
    place = repository.beside / "renames"
    repository.git("worktree", "add", "-q", "-b", "task/r", str(place))
    repository.git("mv", "a.txt", "theirs.txt", cwd=place)
    repository.git("commit", "-q", "-m", "theirs", cwd=place)
    repository.git("mv", "a.txt", "ours.txt")
    repository.git("commit", "-q", "-m", "ours")
    result = repository.merge("task/r")
    assert (result.state, set(result.paths)) == (MergeState.CONFLICT, {"a.txt", "ours.txt", "theirs.txt"})


@pytest.mark.parametrize(
    "spoil",
    [
        ("branch", "-m", "main", "trunk"),
        ("branch", "-D", "task/1"),
    ],
    ids=["target renamed", "branch deleted"],
)
def test_branch_without_counterpart_is_kept(repository: Repository, spoil: tuple[str, ...]) -> None:
    branch = repository.task("1", "new.txt", "new\n")
    repository.git("worktree", "remove", "--force", str(repository.beside / "worktree-1"))
    repository.git(*spoil)
    before = repository.git("for-each-ref")
    result = repository.merge(branch)
    assert result.state is MergeState.KEPT
    assert "there is no branch" in result.reason
    assert repository.git("for-each-ref") == before


def test_branch_of_a_detached_head_is_kept(repository: Repository) -> None:
    result = repository.merge(repository.task("1", "new.txt", "new\n"), None)
    assert result.state is MergeState.KEPT and "detached" in result.reason


def test_branch_without_common_history_is_kept(repository: Repository) -> None:
    repository.git("checkout", "-q", "--orphan", "task/alone")
    repository.git("commit", "-q", "-m", "alone")
    repository.git("checkout", "-q", "main")
    result = repository.merge("task/alone")
    assert result.state is MergeState.KEPT and "no commit in common" in result.reason


# -- what stands against it


def commit_elsewhere(repository: Repository) -> None:
    repository.git("checkout", "-q", "-b", "side", "main~1")
    repository.save("later.txt", "side\n")
    repository.git("checkout", "-q", "main")


def staged(repository: Repository) -> str:
    repository.write("staged.txt", "s\n")
    repository.git("add", "staged.txt")
    return "staged.txt"


def unstaged(repository: Repository) -> str:
    repository.write("a.txt", "changed\n")
    return "a.txt"


def staged_and_taken_back(repository: Repository) -> str:
    content = (repository.root / "a.txt").read_text()
    repository.write("a.txt", "changed\n")
    repository.git("add", "a.txt")
    repository.write("a.txt", content)
    return "a.txt"


def deleted(repository: Repository) -> str:
    (repository.root / "a.txt").unlink()
    return "a.txt"


def made_executable(repository: Repository) -> str:
    (repository.root / "a.txt").chmod(0o755)
    return "a.txt"


def meant_to_be_added(repository: Repository) -> str:
    repository.write("meant.txt", "m\n")
    repository.git("add", "-N", "meant.txt")
    return "meant.txt"


def hidden_by_assume_unchanged(repository: Repository) -> str:
    repository.git("update-index", "--assume-unchanged", "folder/b.txt")
    repository.write("folder/b.txt", "my own\n")
    return "folder/b.txt"


def hidden_by_skip_worktree(repository: Repository) -> str:
    repository.git("update-index", "--skip-worktree", "folder/b.txt")
    repository.write("folder/b.txt", "my own\n")
    return "folder/b.txt"


def merging(repository: Repository) -> str:
    commit_elsewhere(repository)
    repository.git("merge", "side", check=False)
    return "a merge is in progress"


def merging_without_difference(repository: Repository) -> str:
    repository.git("checkout", "-q", "-b", "side", "main~1")
    repository.git("commit", "-q", "--allow-empty", "-m", "nothing")
    repository.git("checkout", "-q", "main")
    repository.git("merge", "-q", "--no-commit", "--no-ff", "side")
    return "a merge is in progress"


def picking(repository: Repository) -> str:
    commit_elsewhere(repository)
    repository.git("cherry-pick", "side", check=False)
    return "a cherry-pick is in progress"


def rebasing(repository: Repository) -> str:
    commit_elsewhere(repository)
    repository.git("rebase", "side", check=False)
    return "a rebase of main is in progress"


def bisecting(repository: Repository) -> str:
    repository.git("bisect", "start", "main", "main~1")
    repository.git("checkout", "-q", "main~1")
    return "a bisect of main is in progress"


def locked(repository: Repository) -> str:
    (repository.common / "index.lock").touch()
    return "index.lock"


def untracked_in_the_way(repository: Repository) -> str:
    repository.write("new.txt", "mine\n")
    return "new.txt"


def ignored_in_the_way(repository: Repository) -> str:
    repository.write("important.log", "mine\n")
    return "important.log"


def same_content_in_the_way(repository: Repository) -> str:
    repository.write("new.txt", "new\n")
    return "new.txt"


def ignored_folder_in_the_way(repository: Repository) -> str:
    repository.write("build/deep/x", "mine\n")
    return "build/deep/x"


def file_instead_of_folder(repository: Repository) -> str:
    repository.write("deep.log", "mine\n")
    (repository.common / "info").mkdir(exist_ok=True)
    (repository.common / "info/exclude").write_text("tree\n")
    repository.write("tree", "mine\n")
    return "tree"


def link_instead_of_folder(repository: Repository) -> str:
    (repository.beside / "elsewhere").mkdir()
    (repository.root / "tree").symlink_to(repository.beside / "elsewhere")
    return "tree"


def dangling_link_in_the_way(repository: Repository) -> str:
    (repository.root / "new.txt").symlink_to("nowhere")
    return "new.txt"


def second_checkout(repository: Repository) -> str:
    repository.git("worktree", "add", "-q", "--force", str(repository.beside / "second"), "main")
    return "in one of them only"


def lost_checkout(repository: Repository) -> str:
    place = repository.beside / "lost"
    repository.git("checkout", "-q", "--detach")
    repository.git("worktree", "add", "-q", str(place), "main")
    place.rename(repository.beside / "moved")
    return "worktree prune"


def lost_and_locked_checkout(repository: Repository) -> str:
    place = repository.beside / "lost"
    repository.git("checkout", "-q", "--detach")
    repository.git("worktree", "add", "-q", "--lock", str(place), "main")
    place.rename(repository.beside / "moved")
    return "worktree unlock"


def stale_lock_of_the_ref(repository: Repository) -> str:
    (repository.common / "refs/heads/main.lock").touch()
    return "main.lock"


OBSTACLES: list[Callable[[Repository], str]] = [
    *(staged, unstaged, staged_and_taken_back, deleted, made_executable, meant_to_be_added),
    *(hidden_by_assume_unchanged, hidden_by_skip_worktree),
    *(merging, merging_without_difference, picking, rebasing, bisecting, locked),
    *(untracked_in_the_way, ignored_in_the_way, same_content_in_the_way, ignored_folder_in_the_way),
    *(file_instead_of_folder, link_instead_of_folder, dangling_link_in_the_way),
    *(second_checkout, lost_checkout, lost_and_locked_checkout, stale_lock_of_the_ref),
]


@pytest.mark.parametrize("arrange", OBSTACLES, ids=lambda arrange: arrange.__name__)
def test_merge_waits_and_touches_nothing(repository: Repository, arrange: Callable[[Repository], str]) -> None:
    branch = repository.task(
        *("1", "new.txt", "new\n", "folder/b.txt", "b2\n", "important.log", "theirs\n"),
        *("build", "a file\n", "tree/x.txt", "x\n"),
    )
    repository.save("later.txt", "l\n")
    word = arrange(repository)
    tip, before = repository.tip("refs/heads/main"), repository.snapshot()

    result = repository.merge(branch)

    assert result.state is MergeState.WAITING
    assert word in result.reason
    assert not word.endswith(".txt") or result.paths == (word,)
    assert repository.tip("refs/heads/main") == tip
    # A refusal by git itself comes after it refreshed the index and noted ORIG_HEAD, as any `git merge` does.
    noted = ("ORIG_HEAD", "index") if arrange in (hidden_by_assume_unchanged, hidden_by_skip_worktree) else ()
    after = repository.snapshot()
    assert {k: v for k, v in after.items() if k not in noted} == {k: v for k, v in before.items() if k not in noted}


def test_waiting_merge_goes_through_once_the_work_is_committed(repository: Repository) -> None:
    branch = repository.task("1", "new.txt", "new\n")
    repository.write("a.txt", "changed\n")
    assert repository.merge(branch).state is MergeState.WAITING
    repository.git("commit", "-q", "-a", "-m", "mine")
    assert repository.merge(branch).state is MergeState.MERGED
    assert (repository.root / "a.txt").read_text() == "changed\n"
    assert (repository.root / "new.txt").exists()


def test_folder_becomes_a_file_only_when_nothing_else_is_in_it(repository: Repository) -> None:
    place = repository.beside / "folders"
    repository.git("worktree", "add", "-q", "-b", "task/f", str(place))
    repository.git("rm", "-q", "-r", "folder", cwd=place)
    repository.save("folder", "now a file\n", at=place)
    repository.save("later.txt", "l\n")
    repository.write("folder/mine.log", "ignored\n")
    result = repository.merge("task/f")
    assert (result.state, result.paths) == (MergeState.WAITING, ("folder/mine.log",))
    (repository.root / "folder/mine.log").unlink()
    assert repository.merge("task/f").state is MergeState.MERGED
    assert (repository.root / "folder").read_text() == "now a file\n"


def test_changed_submodule_stands_against_it_and_untracked_files_in_it_do_not(repository: Repository) -> None:
    inner = Repository(repository.beside / "inner")
    repository.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner.root), "sub")
    repository.git("commit", "-q", "-m", "sub")
    branch, second = repository.task("1", "new.txt", "new\n"), repository.task("2", "second.txt", "2\n")
    (repository.root / "sub/untracked.txt").write_text("u\n")
    assert repository.merge(branch).state is MergeState.MERGED
    (repository.root / "sub/a.txt").write_text("changed\n")
    result = repository.merge(second)
    assert (result.state, result.paths) == (MergeState.WAITING, ("sub",))


def test_branch_of_a_submodule_is_merged_in_its_own_tree(repository: Repository) -> None:
    inner = Repository(repository.beside / "inner")
    repository.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner.root), "sub")
    sub = repository.root / "sub"
    repository.git("worktree", "add", "-q", "-b", "task/s", str(repository.beside / "s"), cwd=sub)
    repository.save("new.txt", "new\n", at=repository.beside / "s")
    merger = Merger(repository.locks, GitSettings())
    result = merger.merge(repository.common / "modules/sub", "task/s", "main", message="m", task_id="1")
    assert result.state is MergeState.MERGED
    assert (sub / "new.txt").exists()
    assert repository.git("status", "--porcelain", cwd=sub) == ""


def test_tree_apart_from_its_git_directory_is_not_left_behind(repository: Repository) -> None:
    apart = repository.beside / "apart.git"
    branch = repository.task("1", "new.txt", "new\n")
    repository.git("init", "-q", "--separate-git-dir", str(apart))
    repository.common = apart
    tip = repository.tip()
    result = repository.merge(branch)
    assert result.state is MergeState.WAITING
    assert repository.tip() == tip
    repository.git("checkout", "-q", "-b", "mine")
    assert repository.merge(branch).state is MergeState.MERGED


@pytest.mark.parametrize("kind", ["conflict", "waiting", "merged elsewhere"])
def test_messy_checkout_stays_the_same_byte_for_byte(repository: Repository, kind: str) -> None:
    branch = repository.task("1", "new.txt", "new\n", "a.txt", "theirs\n")
    if kind == "conflict":
        repository.save("a.txt", "ours\n")
    if kind == "merged elsewhere":
        repository.git("checkout", "-q", "-b", "mine")
    make_messy(repository)
    before = repository.snapshot()
    assert before["refs/stash"] != "none"
    expected = {"conflict": MergeState.CONFLICT, "waiting": MergeState.WAITING, "merged elsewhere": MergeState.MERGED}
    for _ in range(3):
        assert repository.merge(branch).state is expected[kind]
    assert repository.snapshot() == before


def test_failure_of_git_keeps_everything_and_is_an_error(repository: Repository) -> None:
    branch = repository.task("1", "new.txt", "new\n")
    oid = repository.git("rev-parse", f"{branch}:new.txt")
    repository.save("a.txt", "zero\none\ntwo\nthree\n")
    (repository.common / "objects" / oid[:2] / oid[2:]).unlink()
    before = repository.snapshot()
    tip = repository.tip()
    try:
        result = repository.merge(branch)
    except GitError as error:
        assert "git" in str(error)
    else:
        assert result.state is MergeState.WAITING
    assert repository.tip() == tip
    assert {k: v for k, v in repository.snapshot().items() if k not in ("ORIG_HEAD", "index")} == {
        k: v for k, v in before.items() if k not in ("ORIG_HEAD", "index")
    }


def test_checkout_that_fails_halfway_is_put_back(repository: Repository) -> None:
    """A required filter that fails on one file: git leaves the others written, index and branch old."""
    repository.git("config", "filter.picky.smudge", "grep -v bad")
    repository.git("config", "filter.picky.clean", "cat")
    repository.git("config", "filter.picky.required", "true")
    repository.save(".gitattributes", "*.p filter=picky\n", "m1.p", "good\n")
    branch = repository.task("1", *("a1.p", "good\n", "m1.p", "better\n", "y.p", "bad\n", "z.p", "good\n"))
    repository.save("later.txt", "l\n")
    tip = repository.tip()

    result = repository.merge(branch)

    assert result.state is MergeState.WAITING, result
    assert repository.tip() == tip
    assert repository.git("status", "--porcelain") == ""
    assert (repository.root / "m1.p").read_text() == "good\n"
    repository.git("config", "filter.picky.smudge", "cat")
    assert repository.merge(branch).state is MergeState.MERGED
    assert repository.git("status", "--porcelain") == ""


# -- older git


@pytest.fixture
def old_git() -> Iterator[Git]:
    git = Git()
    git.version = (2, 30, 0)
    yield git


def test_older_git_merges_through_libgit2(repository: Repository, old_git: Git) -> None:
    branch = repository.task("1", "new.txt", "new\n", "a.txt", "zero\none\ntwo\nthree\n")
    repository.save("a.txt", "one\ntwo\nthree\nfour\n")
    expected = repository.git("merge-tree", "--write-tree", "main", branch)
    assert repository.merge(branch, git=old_git).state is MergeState.MERGED
    assert repository.git("rev-parse", "main^{tree}") == expected
    assert (repository.root / "a.txt").read_text() == "zero\none\ntwo\nthree\nfour\n"
    repository.fsck()


def test_older_git_names_conflicts_through_libgit2(repository: Repository, old_git: Git) -> None:
    branch = conflicting(repository)
    before = repository.snapshot()
    result = repository.merge(branch, git=old_git)
    assert (result.state, set(result.paths)) == (MergeState.CONFLICT, {"a.txt", "folder/b.txt"})
    assert len(result.messages) == 2
    assert repository.snapshot() == before


def test_older_git_refuses_unrelated_histories_through_libgit2(repository: Repository, old_git: Git) -> None:
    repository.git("checkout", "-q", "--orphan", "task/alone")
    repository.git("commit", "-q", "-m", "alone")
    repository.git("checkout", "-q", "main")
    assert repository.merge("task/alone", git=old_git).state is MergeState.KEPT


# -- many at once

PROGRAM = """
import sys
sys.path[:] = {path!r}
from pathlib import Path
from tasks.config.sections import GitSettings
from tasks.git.merge import Merger
merger = Merger(Path({locks!r}), GitSettings())
for number in range({first}, {first} + 10):
    result = merger.merge(Path({common!r}), f"task/{{number}}", "main", message=f"Merge {{number}}", task_id=str(number))
    assert result.state == "merged", result
"""

#: Reads the tip, merges, and sets the branch without looking whether it is still there.
NAIVE = """
import subprocess
def git(*words):
    return subprocess.run(["git", *words], cwd={common!r}, check=True, capture_output=True, text=True).stdout.strip()
for number in range({first}, {first} + 10):
    tip = git("rev-parse", "refs/heads/main")
    tree = git("merge-tree", "--write-tree", tip, f"task/{{number}}")
    commit = git("commit-tree", "-p", tip, "-p", f"task/{{number}}", "-m", "m", tree)
    try:
        git("update-ref", "refs/heads/main", commit)
    except subprocess.CalledProcessError:
        pass
"""


def merge_at_once(repository: Repository, program: str) -> set[str]:
    """The files of 40 tasks that are in main after 4 processes merged 10 each."""
    blob = repository.git("rev-parse", "main:a.txt")
    for number in range(40):
        entry = f"100644 blob {blob}\tfile-{number}\n"
        listing = repository.git("ls-tree", "main") + "\n" + entry
        tree = subprocess.run(
            ["git", "mktree"], cwd=repository.root, input=listing, capture_output=True, text=True, check=True
        ).stdout.strip()
        commit = repository.git("commit-tree", "-p", "main", "-m", f"task {number}", tree)
        repository.git("update-ref", f"refs/heads/task/{number}", commit)
    running = []
    for first in range(0, 40, 10):
        places = {"path": sys.path, "locks": str(repository.locks), "common": str(repository.common), "first": first}
        source = program.format(**places)
        running.append(
            subprocess.Popen([sys.executable, "-W", "error", "-c", source], stderr=subprocess.PIPE, text=True)
        )
    for process in running:
        _, errors = process.communicate(timeout=110)
        assert process.returncode == 0, errors
    return {name for name in repository.git("ls-tree", "--name-only", "main").split() if name.startswith("file-")}


@pytest.mark.parametrize("checked_out", [False, True], ids=["not checked out", "checked out and clean"])
def test_forty_merges_by_four_processes_all_arrive(repository: Repository, checked_out: bool) -> None:
    if not checked_out:
        repository.git("checkout", "-q", "--detach")
        make_messy(repository)
    before = repository.snapshot()
    assert len(merge_at_once(repository, PROGRAM)) == 40
    assert int(repository.git("rev-list", "--count", "--merges", "--first-parent", "main")) == 40
    repository.fsck()
    if checked_out:
        assert repository.git("status", "--porcelain") == ""
        assert len(list(repository.root.glob("file-*"))) == 40
    else:
        assert repository.snapshot() == before


def test_setting_the_branch_without_comparing_would_lose_merges(repository: Repository) -> None:
    """Shows that the test above can fail."""
    repository.git("checkout", "-q", "--detach")
    assert len(merge_at_once(repository, NAIVE)) < 40


def test_branch_that_others_move_all_the_time_still_gets_the_merge(repository: Repository) -> None:
    """A committer that does not know our lock: compare-and-swap fails, and the merge is made anew."""
    repository.git("checkout", "-q", "--detach")
    branch = repository.task("1", "new.txt", "new\n")
    moves = iter(range(7))

    def step(name: str) -> None:
        if name == "committed" and (number := next(moves, None)) is not None:
            commit = repository.git("commit-tree", "-p", "main", "-m", f"other {number}", "main^{tree}")
            repository.git("update-ref", "refs/heads/main", commit)

    merger = Merger(repository.locks, GitSettings(), step=step)
    result = merger.merge(repository.common, branch, "main", message="m", task_id="1")
    assert result.state is MergeState.MERGED
    log = repository.git("log", "--format=%s", "--first-parent", "main").splitlines()
    assert log == ["m", *(f"other {number}" for number in reversed(range(7))), "first"]


@pytest.mark.parametrize("action", ["commit", "switch", "switch and commit", "check out", "edit", "edit ignored"])
def test_user_who_works_between_two_steps_loses_nothing(repository: Repository, action: str) -> None:
    branch = repository.task("1", "new.txt", "new\n", "folder/b.txt", "b2\n", "x.log", "theirs\n")
    if action == "check out":
        repository.git("checkout", "-q", "--detach")
    start, done = repository.tip(), list[str]()

    def step(name: str) -> None:
        if (name != "intended" and not (action == "check out" and name == "committed")) or done:
            return
        done.append(name)
        if action == "commit":
            repository.save("mine.txt", "mine\n")
        elif action.startswith("switch"):
            repository.git("checkout", "-q", "-b", "other")
            if action.endswith("commit"):
                repository.save("mine.txt", "mine\n")
        elif action == "check out":
            repository.git("checkout", "-q", "main")
        elif action == "edit":
            repository.write("folder/b.txt", "mine\n")
        else:
            repository.write("x.log", "mine\n")

    merger = Merger(repository.locks, GitSettings(), step=step)
    result = merger.merge(repository.common, branch, "main", message="m", task_id="1")

    assert done
    if action in ("edit", "edit ignored"):
        assert result.state is MergeState.WAITING
        assert result.paths == (("folder/b.txt",) if action == "edit" else ("x.log",))
        assert (repository.root / result.paths[0]).read_text() == "mine\n"
        assert not (repository.root / "new.txt").exists()
    else:
        assert result.state is MergeState.MERGED
        assert repository.git("show", "main:new.txt") == "new"
        assert repository.git("status", "--porcelain") == ""
        assert action != "commit" or repository.git("show", "main:mine.txt") == "mine"
        assert action != "switch" or repository.tip("other") == start
        assert action != "switch and commit" or repository.git("rev-parse", "other~1") == start
