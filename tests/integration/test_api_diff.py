"""/v1/tasks/{id}/diff and /conflict on a real socket, about real repositories, some of them strange."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tasks.database import Write
from tasks.git import Git, Work, conflicted, difference
from tasks.git.difference import MOST_FILES

from .conftest import MakeRepository, Programs, Repository
from .service import Service

#: As an agent could commit it; made up.
TOKEN = "ghp_" + "a1B2" * 9
KEY = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEowIBAAKCAQEAx7zk\n" * 30 + "-----END RSA PRIVATE KEY-----\n"
BRANCH = "task/abc123"
COLUMNS = ("workspace", "worktree", "branch", "base_branch", "base_commit", "merge_commit", "merge_state")


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    made = Service(tmp_path / "data")
    (tmp_path / "data").mkdir()
    await made.start()
    yield made
    await made.stop()


class Job:
    """A task's work in a repository: a worktree on a branch of its own, as the daemon makes it."""

    def __init__(self, repository: Repository, folder: Path) -> None:
        self.repository = repository
        self.base = repository.git("rev-parse", "HEAD")
        self.tree = Repository(folder / "worktree")
        repository.git("worktree", "add", "-q", "-b", BRANCH, str(self.tree.root))
        self.merge: str | None = None
        self.state = "none"

    def commit(self, message: str = "work") -> str:
        self.tree.git("add", "-A")
        self.tree.git("commit", "-qm", message)
        return self.tree.git("rev-parse", "HEAD")

    def remove(self, *, branch: bool = True) -> None:
        self.repository.git("worktree", "remove", "--force", str(self.tree.root))
        if branch:
            self.repository.git("branch", "-D", BRANCH)

    def merged(self) -> None:
        self.repository.git("merge", "-q", "--no-ff", "-m", "merged", BRANCH)
        self.merge, self.state = self.repository.git("rev-parse", "HEAD"), "merged"
        self.remove()

    def row(self) -> tuple[Any, ...]:
        tree = str(self.tree.root) if self.tree.root.exists() else None
        return (str(self.repository.root), tree, BRANCH, "main", self.base, self.merge, self.state)

    @property
    def work(self) -> Work:
        return Work(*self.row()[:-1])


@pytest.fixture
def job(repository: Repository, tmp_path: Path) -> Job:
    return Job(repository, tmp_path)


async def store(service: Service, *values: Any) -> None:
    names, marks = ", ".join(COLUMNS), ", ".join("?" * len(COLUMNS))
    task = (
        f"INSERT INTO tasks (task_id, user_id, description, created_at, {names}) VALUES ('abc123', 1, 'x', 0, {marks})"
    )
    await service.context.database.apply([Write.one(task, values)])


async def ask(service: Service, what: str = "diff") -> Any:
    answer = await service.ask(f"/v1/tasks/abc/{what}")
    assert answer.status == 200, answer.body
    return answer.json()


def files(answer: Any) -> dict[str, tuple[Any, ...]]:
    return {one["path"]: tuple(one[name] for name in ("status", "added", "deleted")) for one in answer["files"]}


# What a branch changed


async def test_the_changes_of_a_branch_are_told_by_file_and_as_a_patch(service: Service, job: Job) -> None:
    job.tree.write(a__txt="one\nmore\n", new__py="<script>\n")
    job.tree.git("mv", "b.txt", "c.txt")
    job.tree.git("rm", "-q", "src/app/main.py")
    job.tree.put("image", b"\0\1\2")
    head = job.commit()
    job.repository.write(a__txt="of somebody else\n")
    job.repository.commit("meanwhile")  # not the task's, so not in its difference
    await store(service, *job.row())
    found = await ask(service)
    assert (found["source"], found["base"], found["head"], found["reason"]) == ("branch", job.base, head, None)
    assert files(found) == {
        "a.txt": ("M", 1, 0), "new.py": ("A", 1, 0), "c.txt": ("R", 0, 0), "src/app/main.py": ("D", 0, 1),
        "image": ("A", None, None),
    }  # fmt: skip
    by_path = {one["path"]: one for one in found["files"]}
    assert (by_path["c.txt"]["old_path"], by_path["image"]["binary"], by_path["a.txt"]["binary"]) == (
        "b.txt",
        True,
        False,
    )
    assert "\n+more\n" in found["patch"]
    assert "\n+<script>\n" in found["patch"]
    assert "somebody else" not in found["patch"]
    assert (found["cut"], found["more_files"], found["uncommitted"]) == (False, 0, [])


async def test_what_is_not_committed_yet_is_named(service: Service, job: Job) -> None:
    job.tree.write(a__txt="other\n", dir_in_new__txt="x\n")
    job.tree.git("rm", "-q", "--cached", "b.txt")
    await store(service, *job.row())
    found = await ask(service)
    assert (found["source"], found["files"], found["patch"]) == ("branch", [], "")
    assert {(one["path"], one["status"]) for one in found["uncommitted"]} == {
        ("a.txt", " M"), ("dir/new.txt", "??"), ("b.txt", "D "), ("b.txt", "??"),
    }  # fmt: skip


async def test_a_merged_branch_that_is_gone_is_shown_by_its_merge(service: Service, job: Job) -> None:
    job.tree.write(new__txt="x\n")
    job.commit()
    job.repository.write(other__txt="y\n")
    job.repository.commit("meanwhile")
    job.merged()
    await store(service, *job.row())
    found = await ask(service)
    assert (found["source"], found["head"]) == ("merge", job.merge)
    assert files(found) == {"new.txt": ("A", 1, 0)}


def test_a_branch_that_came_in_without_a_merge_commit_is_shown_whole(job: Job) -> None:
    for number in range(3):
        job.tree.write(**{f"new{number}": "x\n"})
        job.commit()
    job.repository.git("merge", "-q", "--ff-only", BRANCH)
    job.merge = job.repository.git("rev-parse", "HEAD")
    job.remove()
    found = difference(Git(), job.work, limit=1 << 16)
    assert (found.source, found.base, len(found.files)) == ("merge", job.base, 3)


def test_a_worktree_whose_branch_is_gone_is_shown_by_its_head(job: Job) -> None:
    job.tree.write(new__txt="x\n")
    job.commit()
    job.tree.git("checkout", "-q", "--detach")
    job.repository.git("branch", "-D", BRANCH)
    found = difference(Git(), job.work, limit=1 << 16)
    assert (found.source, [one.path for one in found.files]) == ("worktree", ["new.txt"])


def test_settings_of_the_repository_do_not_change_the_answer_nor_run_programs(job: Job, tmp_path: Path) -> None:
    job.tree.write(a__txt="two\n", __gitattributes="* diff=odd\n")
    job.commit()
    ran = tmp_path / "ran"
    for name, value in {
        "diff.external": f"touch {ran}", "diff.odd.command": f"touch {ran}", "diff.odd.textconv": f"touch {ran}; cat",
        "core.pager": f"touch {ran}", "core.fsmonitor": f"touch {ran}", "color.ui": "always", "diff.noprefix": "true",
        "diff.mnemonicPrefix": "true", "diff.renames": "false", "diff.orderFile": "/nowhere", "core.quotePath": "true",
    }.items():  # fmt: skip
        job.repository.git("config", name, value)
    found = difference(Git(), job.work, limit=1 << 16)
    assert not ran.exists()
    assert "--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-one\n+two\n" in found.patch
    assert "\x1b" not in found.patch


# Hostile contents


async def test_names_and_texts_of_any_bytes_can_be_sent(service: Service, job: Job) -> None:
    names = [
        b'quote"',
        b"new\nline",
        b"tab\t",
        b"bad\xff\xfe",
        "ü".encode(),
        b"-dash",
        b"<b>",
        b" space ",
        b"\x1b[31m",
        b"a:b",
    ]
    for name in names:
        (Path(os.fsdecode(os.fsencode(job.tree.root) + b"/" + name))).write_bytes(b"bad \xff bytes \x1b[0m\r\n")
    job.commit()
    for name in names:
        Path(os.fsdecode(os.fsencode(job.tree.root) + b"/more" + name)).write_bytes(b"")
    await store(service, *job.row())
    found = await ask(service)
    paths = [name.decode("utf-8", "backslashreplace") for name in names]
    assert {one["path"] for one in found["files"]} == set(paths)
    assert all((one["status"], one["added"]) == ("A", 1) for one in found["files"])
    assert {one["path"] for one in found["uncommitted"]} == {f"more{path}" for path in paths}
    assert found["patch"].count("+bad \ufffd bytes \x1b[0m\r\n") == len(names)


async def test_secrets_are_taken_out_of_the_patch_and_the_names(service: Service, job: Job) -> None:
    job.tree.write(env=f"TOKEN={TOKEN}\n", key=KEY, padding="x\n" * 60_000)
    job.tree.put(TOKEN, "x\n")
    job.tree.put("zz", f"PASSWORD=hunter2hunter2\n{KEY}")
    job.commit()
    await store(service, *job.row())
    answer = await service.ask("/v1/tasks/abc/diff")
    for secret in (TOKEN, "hunter2", "MIIEowIBAAKCAQEAx7zk"):
        assert secret.encode() not in answer.body
    assert "[REDACTED" in answer.json()["patch"]
    assert answer.json()["patch"].count("\n+x") >= 60_000


async def test_a_long_patch_is_cut_at_a_line(service: Service, job: Job) -> None:
    job.tree.write(long="0123456789\n" * 200_000)
    job.commit()
    await store(service, *job.row())
    for query, most in (
        ("", 256 << 10),
        ("?limit_bytes=1000", 1000),
        ("?limit_bytes=0", 0),
        ("?limit_bytes=1048576", 1 << 20),
    ):
        found = await ask(service, f"diff{query}")
        assert found["cut"] is True
        assert len(found["patch"]) <= most
        assert len(found["patch"]) > most - 100
        assert most == 0 or found["patch"].endswith("\n")
        assert files(found) == {"long": ("A", 200_000, 0)}
    for limit in ("-1", "1048577", "x"):
        assert (await service.ask(f"/v1/tasks/abc/diff?limit_bytes={limit}")).status == 422


def test_a_huge_file_is_not_compared(job: Job) -> None:
    with (job.tree.root / "huge").open("wb") as file:
        for _ in range(40):
            file.write(b"some text\n" * 100_000)  # 40 MB, far more than one command may print
    job.commit()
    found = difference(Git(), job.work, limit=1 << 16)
    assert (found.files[0].path, found.files[0].binary) == ("huge", True)
    assert len(found.patch) < 1000


def test_of_very_many_files_the_first_are_named_and_the_others_counted(job: Job) -> None:
    for number in range(MOST_FILES + 50):
        job.tree.put(f"many/{number:05}", f"{number}\n")
    job.commit()
    for number in range(MOST_FILES + 7):
        job.tree.put(f"more/{number:05}", "")
    found = difference(Git(), job.work, limit=1000)
    assert (len(found.files), found.more_files, found.cut) == (MOST_FILES, 50, True)
    assert (len(found.uncommitted), found.more_uncommitted) == (MOST_FILES, 7)
    assert {one.added for one in found.files} == {1}


# Strange places


async def test_a_task_that_worked_in_the_workspace_itself_has_no_difference_of_its_own(
    service: Service, repository: Repository
) -> None:
    await store(service, str(repository.root), None, None, None, None, None, "none")
    found = await ask(service)
    assert (found["source"], found["files"], found["patch"], found["cut"]) == ("none", [], "", False)
    assert "workspace itself" in found["reason"]


async def test_a_repository_that_is_gone_is_told_in_words(service: Service, job: Job) -> None:
    await store(service, *job.row())
    shutil.rmtree(job.repository.root)
    shutil.rmtree(job.tree.root)
    found = await ask(service)
    assert found["source"] == "none"
    assert str(job.repository.root) in found["reason"]
    assert "no such folder" in found["reason"]


async def test_a_branch_that_was_removed_without_a_merge_is_told_in_words(service: Service, job: Job) -> None:
    job.tree.write(new="x")
    job.commit()
    job.remove()
    await store(service, *job.row())
    assert f"there is no branch {BRANCH}" in (await ask(service))["reason"]


def test_a_beginning_that_is_gone_is_told_in_words(job: Job) -> None:
    gone = Work(str(job.repository.root), None, BRANCH, None, "0" * 40)
    found = difference(Git(), gone, limit=1000)
    assert (found.source, "began at" in found.reason) == ("none", True)
    never = Work(str(job.repository.root), None, "task/ffffff", None, "0" * 40, "1" * 40)
    assert "is not in" in difference(Git(), never, limit=1000).reason


def test_names_that_could_be_options_are_none(job: Job) -> None:
    for name in ("--output=/tmp/x", "-x", "", "a\0b", "a b", "a..b", "@{-1}", "x^{/work}"):
        found = difference(Git(), Work(str(job.repository.root), None, name, name, name, name), limit=1000)
        assert (found.source, bool(found.reason)) == ("none", True)


@pytest.mark.parametrize("place", ["nothing", "file", "plain", ".git", "a\0b", "", "x" * 5000])
def test_a_workspace_that_is_no_repository_is_told_in_words(job: Job, place: str) -> None:
    job.repository.write(file="x")
    (job.repository.root.parent / "plain").mkdir()
    folder = job.repository.root.parent / "plain" if place == "plain" else job.repository.root / place
    workspace = str(folder) if place else ""
    found = difference(Git(), Work(workspace, workspace, BRANCH, "main", job.base), limit=1000)
    assert (found.source, bool(found.reason)) == ("none", True)
    assert conflicted(Git(), Work(workspace, None, BRANCH, "main"), limit=1000).reason


def test_a_worktree_that_lost_its_link_is_not_taken_for_the_repository_around_it(job: Job, tmp_path: Path) -> None:
    job.tree.write(new__txt="x\n")
    job.commit()
    (job.tree.root / ".git").unlink()
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    found = difference(Git(), job.work, limit=1000)
    assert (found.source, [one.path for one in found.files], found.uncommitted) == ("branch", ["new.txt"], ())


def test_a_bare_repository_is_compared_too(make_repository: MakeRepository, tmp_path: Path) -> None:
    bare = make_repository("bare.git", "--bare")
    seed = make_repository("seed")
    seed.git("push", "-q", str(bare.root), "main")
    job = Job(bare, tmp_path)
    job.tree.write(new__txt="x\n")
    job.commit()
    job.remove(branch=False)
    found = difference(Git(), job.work, limit=1000)
    assert (found.source, [one.path for one in found.files]) == ("branch", ["new.txt"])


def test_a_first_commit_that_was_merged_is_compared_with_nothing(job: Job) -> None:
    root = job.repository.git("rev-list", "--max-parents=0", "HEAD")
    found = difference(Git(), Work(str(job.repository.root), None, "gone", None, None, root), limit=1 << 16)
    assert (found.source, {one.status for one in found.files}) == ("merge", {"A"})


def test_a_damaged_repository_is_told_in_words(job: Job) -> None:
    job.tree.write(new__txt="x\n")
    head = job.commit()
    tree = job.repository.git("rev-parse", f"{head}^{{tree}}")
    (job.repository.root / ".git/objects" / tree[:2] / tree[2:]).unlink()
    found = difference(Git(), job.work, limit=1000)
    assert (found.source, found.cut, bool(found.reason)) == ("branch", True, True)


def test_a_repository_of_somebody_else_is_told_with_what_to_do(programs: Programs, job: Job) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    for folder in (job.repository.root, job.repository.root / ".git"):
        os.chown(folder, 12345, 12345)
    found = difference(Git(), Work(str(job.repository.root), None, BRANCH, "main", job.base), limit=1000)
    assert found.source == "none"
    assert "safe.directory" in found.reason


def test_objects_that_a_partial_clone_lacks_are_not_fetched(job: Job, tmp_path: Path) -> None:
    job.tree.write(new__txt="x\n" * 10)
    job.commit()
    job.repository.git("config", "uploadpack.allowFilter", "true")
    clone = Repository(tmp_path / "clone")
    source = f"file://{job.repository.root}"
    job.repository.git("clone", "-q", "--no-checkout", "--filter=blob:none", "--no-local", source, str(clone.root))
    clone.git("branch", BRANCH, f"origin/{BRANCH}")
    found = difference(Git(), Work(str(clone.root), None, BRANCH, "main", job.base), limit=1000)
    assert [one.path for one in found.files] == ["new.txt"]
    assert (found.patch, found.cut, bool(found.reason)) == ("", True, True)
    assert len(clone.git("rev-list", "--objects", "--all", "--missing=print").split("?")) > 1


# Conflicts


def quarrel(job: Job) -> None:
    """A branch that does not fit: one file changed on both sides, one changed here and gone there."""
    job.tree.write(a__txt=f"theirs {TOKEN}\n", b__txt="theirs\n")
    job.tree.put("image", b"\0theirs")
    job.commit()
    job.repository.write(a__txt="ours\n")
    job.repository.git("rm", "-q", "b.txt")
    job.repository.put("image", b"\0ours")
    job.repository.git("add", "-A")
    job.repository.commit("ours")
    job.state = "conflict"


async def test_a_conflict_is_shown_with_the_marks_of_git(service: Service, job: Job) -> None:
    if Git().version < (2, 38):
        pytest.skip("git is older than 2.38")
    quarrel(job)
    before = job.repository.git("for-each-ref"), job.repository.git("status", "--porcelain")
    await store(service, *job.row())
    found = await ask(service, "conflict")
    assert (found["branch"], found["base_branch"], found["reason"], found["more_files"]) == (BRANCH, "main", None, 0)
    by_path = {one["path"]: one for one in found["files"]}
    assert set(by_path) == {"a.txt", "b.txt", "image"}
    text = by_path["a.txt"]["text"]
    assert text.startswith("<<<<<<< ")
    assert "ours\n=======\ntheirs [REDACTED" in text
    assert TOKEN not in str(found)
    assert "Merge conflict in a.txt" in by_path["a.txt"]["message"]
    assert "modify/delete" in by_path["b.txt"]["message"]
    assert (by_path["image"]["text"], by_path["image"]["reason"]) == (None, "it is binary")
    assert (job.repository.git("for-each-ref"), job.repository.git("status", "--porcelain")) == before


async def test_a_task_without_a_conflict_has_none_to_show(service: Service, job: Job) -> None:
    await store(service, *job.row())
    found = await ask(service, "conflict")
    assert (found["files"], found["ours"]) == ([], None)
    assert "not in conflict" in found["reason"]


def test_a_conflict_that_was_solved_meanwhile_says_so(job: Job) -> None:
    if Git().version < (2, 38):
        pytest.skip("git is older than 2.38")
    quarrel(job)
    job.tree.git("merge", "-q", "-X", "ours", "main", check=False)
    job.commit("solved")
    found = conflicted(Git(), job.work, limit=1000)
    assert (found.files, "fits by now" in found.reason) == ((), True)
    job.remove()
    assert f"no branch {BRANCH}" in conflicted(Git(), job.work, limit=1000).reason


def test_long_and_many_conflicts_are_cut(job: Job) -> None:
    if Git().version < (2, 38):
        pytest.skip("git is older than 2.38")
    for number in range(25):
        job.tree.put(f"odd\n{number:02}", "theirs\n" * 5000)
    job.commit()
    for number in range(25):
        job.repository.put(f"odd\n{number:02}", "ours\n" * 5000)
    job.repository.commit("ours")
    found = conflicted(Git(), job.work, limit=1000)
    assert (len(found.files), found.more_files) == (20, 5)
    assert {(len(one.text or ""), one.cut) for one in found.files} == {(1000, True)}
    assert found.files[0].path == "odd\n00"


def test_an_old_git_cannot_show_a_conflict(job: Job, tmp_path: Path) -> None:
    old = tmp_path / "git"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && { echo git version 2.34.1; exit; }\nexec git "$@"\n')
    old.chmod(0o755)
    found = conflicted(Git(program=str(old)), job.work, limit=1000)
    assert "needs git 2.38" in found.reason
