"""Where a folder is: in which repository, in which working tree, and how to say a path to a person."""

import os
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import NoCommits, NotARepository
from tasks.git.checkouts import printable
from tasks.git.command import Git

BRANCH_PREFIX = "refs/heads/"


@dataclass(frozen=True, slots=True)
class Place:
    """A folder in a repository. All paths are absolute and as the file system has them, of any bytes."""

    workspace: Path
    #: the top of the working tree; None: a bare repository
    root: Path | None
    #: what belongs to this working tree alone: its HEAD, its index, what is in progress in it
    git_dir: Path
    #: what all working trees of the repository share
    common_dir: Path
    #: the folder below `root`, such as "src/app"; empty at the top
    prefix: str

    @property
    def top(self) -> Path:
        """Where to run git for the whole of it."""
        return self.root or self.common_dir


@dataclass(frozen=True, slots=True)
class Head:
    commit: str
    #: None: detached
    branch: str | None


def locate(git: Git, workspace: str | os.PathLike[str]) -> Place:
    """The place of `workspace`, which may be the folder of a bare repository, a linked worktree or any folder in one.

    Raises NotARepository for a folder that is missing, outside a repository or inside `.git`, and what Git.run raises.
    """
    folder = Path(os.path.abspath(os.fspath(workspace)))  # noqa: PTH100 - resolve() would follow a link's last part
    asked = ("--absolute-git-dir", "--git-common-dir", "--show-prefix", "--show-toplevel")
    output = git.run("rev-parse", "--is-bare-repository", "--is-inside-work-tree", *asked, cwd=folder, check=False)
    bare, inside, *answers = output.stdout.split(b"\n")[:-1]
    if bare == b"false" and inside == b"false":
        raise NotARepository(f"{folder} is inside the .git folder of a repository; name its working tree")
    wanted = asked if inside == b"true" else asked[:2]
    if len(answers) != len(asked) or inside != b"true":
        # A path with a line break, or a bare repository, which has no top: one question at a time.
        answers = [git.run("rev-parse", flag, cwd=folder).stdout.removesuffix(b"\n") for flag in wanted]
    git_dir, common, prefix, root = (*map(os.fsdecode, answers), "", "")[:4]
    return Place(
        workspace=folder,
        root=Path(root) if root else None,
        git_dir=Path(git_dir),
        common_dir=(folder / common).resolve(),
        prefix=prefix.rstrip("/"),
    )


def read_head(git: Git, place: Place) -> Head:
    """The commit and the branch that the working tree (or the bare repository) is on.

    Raises NoCommits when the branch has none yet.
    """
    output = git.run("rev-parse", "HEAD^{commit}", "--symbolic-full-name", "HEAD", cwd=place.top, check=False)
    if output.code != 0:
        raise NoCommits(
            f"{shown(place.workspace)} has no commit yet: commit something first, or submit with --no-isolation"
        )
    commit, name = output.stdout.splitlines()
    branch = os.fsdecode(name)
    return Head(commit.decode(), branch.removeprefix(BRANCH_PREFIX) if branch.startswith(BRANCH_PREFIX) else None)


def shown(path: str | os.PathLike[str]) -> str:
    """A path for a message, of printable characters only: bytes that are no UTF-8 as \\xNN, controls escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in printable(os.fspath(path)))


def listed(paths: tuple[str, ...], most: int = 5) -> str:
    """Some of the paths for a message, and how many more there are."""
    rest = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(map(shown, paths[:most])) + rest
