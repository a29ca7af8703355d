"""The states that a repository can be in, one function each: it makes one and returns the workspace to ask about."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import MakeRepository, Repository

Row = Callable[[MakeRepository], Path]


def clean(make: MakeRepository) -> Path:
    return make().root


def changed_in_all_ways(make: MakeRepository) -> Path:
    repository = make()
    repository.write(a__txt="staged", c__txt="new")
    repository.git("add", "-A")
    repository.write(a__txt="unstaged too", new_in_deep_in_er__txt="untracked", new_in_x__txt="u", d__log="ignored")
    (repository.root / "b.txt").unlink()
    (repository.root / "src/app/main.py").chmod(0o755)
    repository.write(later__txt="x")
    repository.git("add", "-N", "later.txt")
    return repository.root


def renamed(make: MakeRepository) -> Path:
    repository = make()
    repository.git("mv", "a.txt", "z.txt")
    return repository.root


def file_became_a_link(make: MakeRepository) -> Path:
    repository = make()
    (repository.root / "a.txt").unlink()
    (repository.root / "a.txt").symlink_to("b.txt")
    return repository.root


def touched(make: MakeRepository) -> Path:
    repository = make()
    for path in repository.root.glob("*.txt"):
        os.utime(path, (1, 1))
    return repository.root


def conflicting(make: MakeRepository) -> Repository:
    """main and other changed the same line; on main."""
    repository = make()
    repository.git("checkout", "-q", "-b", "other")
    repository.write(a__txt="theirs\n")
    repository.commit("other")
    repository.git("checkout", "-q", "main")
    repository.write(a__txt="ours\n")
    repository.commit("ours")
    return repository


def stopped(*command: str, inside: str = "other") -> Row:
    def make_it(make: MakeRepository) -> Path:
        repository = conflicting(make)
        repository.git(*command, inside, check=False)
        return repository.root

    return make_it


def am(make: MakeRepository) -> Path:
    repository = conflicting(make)
    repository.git("format-patch", "-1", "other", "-o", str(repository.root.parent))
    repository.git("am", *map(str, repository.root.parent.glob("*.patch")), check=False)
    return repository.root


def between_two_picks(make: MakeRepository) -> Path:
    """The first pick was resolved and committed by hand: CHERRY_PICK_HEAD is gone, the second is still to come."""
    repository = conflicting(make)
    repository.git("checkout", "-q", "other")
    repository.write(d__txt="d")
    repository.commit("second")
    repository.git("checkout", "-q", "main")
    repository.git("cherry-pick", "other~1", "other", check=False)
    repository.write(a__txt="resolved\n")
    repository.commit("resolved")
    return repository.root


def bisect(make: MakeRepository) -> Path:
    repository = conflicting(make)
    repository.git("bisect", "start", "HEAD", "HEAD~1")
    return repository.root


def detached(make: MakeRepository) -> Path:
    repository = make()
    repository.git("checkout", "-q", "--detach")
    repository.write(a__txt="x")
    return repository.root


def unborn(make: MakeRepository) -> Path:
    repository = make(commit=False)
    repository.write(staged__txt="s", untracked__txt="u")
    repository.git("add", "staged.txt")
    return repository.root


def with_submodule(make: MakeRepository) -> Repository:
    library = make("library")
    repository = make()
    repository.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library.root), "lib")
    repository.commit("with a submodule")
    return repository


def submodule_clean(make: MakeRepository) -> Path:
    return with_submodule(make).root


def submodule_on_another_commit(make: MakeRepository) -> Path:
    repository = with_submodule(make)
    repository.git("commit", "-q", "--allow-empty", "-m", "x", cwd=repository.root / "lib")
    return repository.root


def submodule_changed(make: MakeRepository) -> Path:
    repository = with_submodule(make)
    repository.write(lib_in_a__txt="changed")
    return repository.root


def submodule_untracked_inside(make: MakeRepository) -> Path:
    repository = with_submodule(make)
    repository.write(lib_in_new__txt="new")
    return repository.root


def submodule_staged(make: MakeRepository) -> Path:
    repository = with_submodule(make)
    repository.git("commit", "-q", "--allow-empty", "-m", "x", cwd=repository.root / "lib")
    repository.git("add", "lib")
    return repository.root


def submodule_that_the_user_ignores(make: MakeRepository) -> Path:
    root = submodule_changed(make)
    Repository(root).git("config", "submodule.lib.ignore", "all")
    return root


def inside_a_submodule(make: MakeRepository) -> Path:
    return submodule_changed(make) / "lib"


def filtered(make: MakeRepository) -> Path:
    """As LFS does it: what is stored is not what lies in the tree. Touched, so that only the filter tells it is clean."""
    repository = make()
    repository.git("config", "filter.turned.clean", "rev")
    repository.git("config", "filter.turned.smudge", "rev")
    repository.git("config", "filter.turned.required", "true")
    repository.put(".gitattributes", "*.bin filter=turned\n")
    repository.put("x.bin", "abc\n")
    repository.commit("filtered")
    assert repository.git("show", "HEAD:x.bin") == "cba"
    os.utime(repository.root / "x.bin", (1, 1))
    return repository.root


def encoded(make: MakeRepository) -> Path:
    repository = make()
    repository.put(".gitattributes", "*.txt16 working-tree-encoding=UTF-16LE\n")
    repository.put("x.txt16", "täxt\n".encode("utf-16-le"))
    repository.commit("encoded")
    os.utime(repository.root / "x.txt16", (1, 1))
    return repository.root


def sparse(make: MakeRepository) -> Path:
    repository = make()
    repository.git("sparse-checkout", "set", "--cone", "docs")
    assert not (repository.root / "src").exists()
    return repository.root


def sparse_index(make: MakeRepository) -> Path:
    repository = make()
    repository.git("sparse-checkout", "set", "--cone", "--sparse-index", "docs")
    repository.write(a__txt="changed")
    return repository.root


def split_index(make: MakeRepository) -> Path:
    repository = make()
    repository.git("update-index", "--split-index")
    repository.write(a__txt="changed", u__txt="u")
    repository.git("add", "u.txt")
    return repository.root


def index_of_version_4_with_untracked_cache(make: MakeRepository) -> Path:
    repository = make()
    repository.git("update-index", "--index-version", "4", "--force-untracked-cache")
    repository.write(a__txt="changed", u__txt="u")
    return repository.root


def sha256(make: MakeRepository) -> Path:
    repository = make("repository", "--object-format=sha256")
    repository.write(a__txt="changed")
    return repository.root


def reftable(make: MakeRepository) -> Path:
    if subprocess.run(["git", "init", "--ref-format=reftable", "-h"], capture_output=True, check=False).stderr:
        pytest.skip("this git has no reftable")
    repository = make("repository", "--ref-format=reftable")
    repository.write(a__txt="changed")
    return repository.root


def partial_clone(make: MakeRepository) -> Path:
    origin = make("origin")
    origin.git("config", "uploadpack.allowFilter", "true")
    origin.git("clone", "-q", "--filter=blob:none", "--no-local", f"file://{origin.root}", "../repository")
    (origin.root.parent / "repository/u.txt").write_text("u")
    return origin.root.parent / "repository"


def shallow_clone(make: MakeRepository) -> Path:
    origin = make("origin")
    origin.commit("second")
    origin.git("clone", "-q", "--depth=1", f"file://{origin.root}", "../repository")
    return origin.root.parent / "repository"


def linked_worktree(make: MakeRepository) -> Path:
    repository = make()
    repository.git("worktree", "add", "-q", "../linked")
    repository.write(a__txt="changed in main only")
    (repository.root.parent / "linked/b.txt").write_text("changed in the linked one")
    return repository.root.parent / "linked"


def subfolder(make: MakeRepository) -> Path:
    return changed_in_all_ways(make) / "src/app"


def odd_names(make: MakeRepository) -> Path:
    repository = make(b"re po\n\xff")
    for name in ("with space.txt", "with\nbreak.txt", os.fsdecode(b"\xff\xfe.txt"), 'quo"te.txt', "ü.txt"):
        repository.put(name, "x")
        repository.put(f"staged {name}", "x")
    repository.git("add", "staged*")
    return repository.root


def other_repository_inside(make: MakeRepository) -> Path:
    repository = make()
    make("repository/inner")
    return repository.root


def settings_that_hide(make: MakeRepository) -> Path:
    repository = make()
    for name, value in (
        *(("status.renames", "copies"), ("status.relativePaths", "true"), ("status.branch", "true")),
        *(("status.showStash", "true"), ("core.quotePath", "true"), ("diff.renames", "copies")),
    ):
        repository.git("config", name, value)
    repository.write(a__txt="changed", ü__txt="x")
    repository.git("stash", "-q")
    repository.write(src_in_app_in_new__py="x")
    return repository.root / "src"


ROWS: list[Row] = [
    *(clean, changed_in_all_ways, renamed, file_became_a_link, touched, detached, unborn, am, bisect),
    *(stopped("merge"), stopped("rebase"), stopped("cherry-pick"), stopped("revert", "--no-edit", inside="main~1")),
    *(between_two_picks, submodule_clean, submodule_on_another_commit, submodule_changed, submodule_staged),
    *(submodule_untracked_inside, submodule_that_the_user_ignores, inside_a_submodule, filtered, encoded),
    *(sparse, sparse_index, split_index, index_of_version_4_with_untracked_cache, sha256, reftable, partial_clone),
    *(shallow_clone, linked_worktree, subfolder, odd_names, other_repository_inside, settings_that_hide),
]
NAMES = [row.__name__ if row.__name__ != "make_it" else f"stopped-{number}" for number, row in enumerate(ROWS)]
