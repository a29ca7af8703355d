"""Which commits a command line would make, and where. What is uncertain is no commit: a policy, not a jail."""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field

from tasks.enforcer.shell import HOME, UNKNOWN, Line, Operator, parse

#: Subcommands that make commits, with the options that keep them from it.
_MAKES_COMMITS = {
    "commit": ("--dry-run", "--short", "--porcelain", "--long", "-h", "--help"),
    "merge": ("--abort", "--quit", "--no-commit", "--squash", "--ff-only", "-h", "--help"),
    "cherry-pick": ("--abort", "--quit", "--skip", "--no-commit", "-n", "-h", "--help"),
    "revert": ("--abort", "--quit", "--skip", "--no-commit", "-n", "-h", "--help"),
    "am": ("--abort", "--quit", "--skip", "--show-current-patch", "-h", "--help"),
}
#: Subcommands after which another branch may be checked out.
_SWITCHES = (
    "checkout",
    "switch",
    "branch",
    "rebase",
    "bisect",
    "symbolic-ref",
    "stash",
    "init",
    "clone",
    "worktree",
)
_CREATES = ("-b", "-B", "-c", "-C", "--create", "--force-create", "--orphan")

#: Words in front of a command that are none themselves.
_KEYWORDS = ("then", "do", "else", "elif", "if", "while", "until", "{", "}", "!", "time", "fi", "done", "esac")
#: Programs that run the rest of their arguments, with those of their options that take a value.
_WRAPPERS: dict[str, tuple[str, ...]] = {
    "env": ("-u", "--unset", "-C", "--chdir", "-S", "--split-string"),
    "command": (),
    "builtin": (),
    "exec": ("-a",),
    "nohup": (),
    "setsid": (),
    "nice": ("-n",),
    "ionice": ("-c", "-n", "-p"),
    "stdbuf": ("-i", "-o", "-e"),
    "timeout": ("-s", "--signal", "-k", "--kill-after"),
    "sudo": ("-u", "-g", "-C", "-D", "-h", "-p", "-R", "-r", "-T", "-t", "-U"),
    "doas": ("-u", "-C"),
}
_SHELLS = ("sh", "bash", "dash", "zsh", "ksh", "ash")
#: Options of git itself that take a value as a word of their own.
_GIT_VALUES = ("-c", "--config-env", "--attr-source", "--list-cmds")
#: … and those after which the repository is not the folder's.
_GIT_ELSEWHERE = ("--git-dir", "--work-tree", "--namespace", "--bare")
#: Command lines in words of command lines (`bash -c …`).
_DEPTH = 4
#: PATH_MAX of Linux
_LONGEST_PATH = 4096


@dataclass(frozen=True, slots=True)
class Commit:
    """One command that would make a commit."""

    #: absolute; the folder it works in
    directory: str
    #: commit, merge, cherry-pick, revert or am
    verb: str
    #: the branch that the command line itself checks out before; None: the one that is checked out
    branch: str | None = None
    #: of a merge: the words that say what is merged
    heads: tuple[str, ...] = ()


def commits(command: str, directory: str, *, home: str = "", cut: bool = False) -> list[Commit]:
    """The commits that `command`, run by a shell in `directory`, certainly makes, in order.

    `cut`: the end of the command is missing, so its last simple command may be something else.
    """
    line = parse(command)
    if cut and line:
        line = line[:-1]
    run = _Run(home)
    run.line(line, directory, 0)
    return run.found


@dataclass(slots=True)
class _Run:
    home: str
    found: list[Commit] = field(default_factory=list)
    #: where a branch was switched, and the branch that is checked out there now; "" where that is not certain
    switched: tuple[str, str] | None = None

    def line(self, line: Line, directory: str | None, depth: int) -> str | None:
        """Go through a command line; returns the folder it ends in, None where that is not certain."""
        outside: list[str | None] = []
        for at, item in enumerate(line):
            if isinstance(item, Operator):
                if item.text == "(":
                    outside.append(directory)
                elif item.text == ")" and outside:
                    directory = outside.pop()
                continue
            for inner in item.inner:
                self.line(inner, directory, depth)
            before, after = (_operator(line, beside) for beside in (at - 1, at + 1))
            moved = self.command(item.words, directory, depth)
            if moved == directory or before in _PIPES or after in (*_PIPES, "&"):
                continue  # what runs in a process of its own moves only that
            directory = None if before == "||" else moved
        return directory

    def command(self, words: Sequence[str], directory: str | None, depth: int) -> str | None:
        """One simple command in `directory`; returns the folder after it."""
        words, directory_of, certain = self._unwrapped(words, directory)
        if not words:
            return directory
        program = words[0].rpartition("/")[2]
        match program:
            case "cd" | "pushd":
                return self._moved(directory, words[1:])
            case "popd":
                return None
            case "git":
                if certain and directory_of is not None:
                    self._git(words[1:], directory_of)
            case "eval" if depth < _DEPTH and not any(UNKNOWN in word for word in words):
                return self.line(parse(" ".join(words[1:]).replace(HOME, "~")), directory, depth + 1)
            case _ if program in _SHELLS and depth < _DEPTH:
                script = _script(words[1:])
                if script is not None:
                    self.line(parse(script.replace(HOME, self.home)), directory_of, depth + 1)
        return directory

    def _unwrapped(self, words: Sequence[str], directory: str | None) -> tuple[Sequence[str], str | None, bool]:
        """The command without keywords, assignments and the programs that only run it; where; whether that is certain."""
        at, certain = 0, True
        while at < len(words):
            word = words[at]
            program = word.rpartition("/")[2]
            if word in _KEYWORDS:
                at += 1
            elif _is_assignment(word):
                certain = certain and not word.startswith("GIT_")
                at += 1
            elif program in _WRAPPERS:
                at, directory = self._past_options(program, words, at + 1, directory)
            else:
                break
        return words[at:], directory, certain

    def _past_options(
        self, program: str, words: Sequence[str], at: int, directory: str | None
    ) -> tuple[int, str | None]:
        while at < len(words) and words[at].startswith("-"):
            option, valued = words[at], words[at] in _WRAPPERS[program]
            if option in ("-S", "--split-string") or (program == "command" and option in ("-v", "-V")):
                return len(words), None
            if program == "env" and option in ("-C", "--chdir"):
                directory = self._inside(directory, words[at + 1]) if at + 1 < len(words) else None
            at += 2 if valued else 1
            if option == "--":
                break
        if program == "timeout":
            at += 1  # how long
        return at, directory

    def _git(self, words: Sequence[str], directory: str | None) -> None:
        at = 0
        while at < len(words) and words[at].startswith("-"):
            option = words[at].partition("=")[0]
            if option in _GIT_ELSEWHERE or UNKNOWN in words[at]:
                return
            if words[at] == "-C":
                directory = self._inside(directory, words[at + 1]) if at + 1 < len(words) else None
            at += 2 if words[at] == "-C" or words[at] in _GIT_VALUES else 1
        if at >= len(words) or directory is None:
            return
        verb, rest = words[at], words[at + 1 :]
        if verb in _SWITCHES:
            branch = _branch_after(verb, rest)
            if branch is not None:
                self.switched = (directory, branch)
        elif verb in _MAKES_COMMITS and not set(rest).intersection(_MAKES_COMMITS[verb]):
            self._add(verb, rest, directory)

    def _add(self, verb: str, rest: Sequence[str], directory: str) -> None:
        branch = None
        if self.switched is not None:
            where, branch = self.switched
            if where != directory or not branch:
                return  # on a branch that is not known here
        heads = tuple(word for word in rest if not word.startswith("-") or word == "--continue")
        self.found.append(Commit(directory, verb, branch, heads if verb == "merge" else ()))

    def _moved(self, directory: str | None, words: Sequence[str]) -> str | None:
        """Where `cd` with these words leads."""
        words = [word for word in words if word not in ("--", "-P", "-L", "-e")]
        if len(words) > 1:
            return None
        return self._inside(directory, words[0] if words else HOME)

    def _inside(self, directory: str | None, path: str) -> str | None:
        if not path or path == "-" or UNKNOWN in path or any(char in path for char in "*?["):
            return None
        if path.startswith(HOME):
            path = self.home + path[1:] if self.home else UNKNOWN
        if HOME in path or UNKNOWN in path or len(path) + len(directory or "") > _LONGEST_PATH:
            return None
        if path.startswith("/"):
            return posixpath.normpath(path)
        return posixpath.normpath(posixpath.join(directory, path)) if directory is not None else None


_PIPES = ("|", "|&")


def _operator(line: Line, at: int) -> str:
    """The operator at that place; empty where there is none."""
    item = line[at] if 0 <= at < len(line) else None
    return item.text if isinstance(item, Operator) else ""


def _is_assignment(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return bool(equals) and name.removesuffix("+").isidentifier() and name.isascii()


def _script(words: Sequence[str]) -> str | None:
    """What `bash` runs with these arguments: the word after an option with `c` in it. None: a file, or not certain."""
    for at, word in enumerate(words):
        if not word.startswith("-") or word == "--":
            return None
        if not word.startswith("--") and "c" in word:
            script = words[at + 1] if at + 1 < len(words) else None
            return None if script is None or UNKNOWN in script else script
    return None


def _branch_after(verb: str, words: Sequence[str]) -> str | None:
    """The branch checked out after one of `_SWITCHES`; "" where that is not certain, None where it is the same as before."""
    plain = [word for word in words if not word.startswith("-")]
    if verb == "stash":
        return "" if plain[:1] == ["branch"] else None
    if verb == "branch":
        return "" if {"-m", "-M", "--move"}.intersection(words) else None
    if verb in ("clone", "worktree") or (verb == "bisect" and plain[:1] != ["start"]):
        return None
    if verb not in ("checkout", "switch"):
        return ""
    if any(word.startswith(_CREATES) for word in words):
        created = [words[at + 1] for at, word in enumerate(words[:-1]) if word in _CREATES]
        return created[0] if created and UNKNOWN not in created[0] else ""
    if verb == "checkout" and (
        "--" in words or "." in words or {"-p", "--patch", "--ours", "--theirs"}.intersection(words)
    ):
        return None
    options = set(words).difference(plain, ("-q", "--quiet"))
    return plain[0] if len(plain) == 1 and not options and UNKNOWN not in plain[0] else ""
