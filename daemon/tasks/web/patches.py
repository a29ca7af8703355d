"""Texts of git as blocks of lines that look alike: patches by file, files in conflict by what stands against each other."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from tasks.api.diff import ChangedFile

#: What a line is → the block that it belongs to. A context line begins with a space.
_PATCH = {"+": "added", "-": "deleted", "@": "place"}
#: Lines around a conflict that are shown with it.
AROUND = 4

#: (kind, text): lines of one kind that follow one another, each with its line break.
Block = tuple[str, str]


@dataclass(frozen=True, slots=True)
class FilePatch:
    file: ChangedFile
    #: added, deleted, place (a line of where), same; empty: the patch does not come to this file
    blocks: list[Block]
    #: short enough, with those before it, to be shown unasked
    is_open: bool


def by_file(files: Sequence[ChangedFile], patch: str, *, most_open: int) -> list[FilePatch]:
    """Each of `files` with its part of `patch`; the first ones, up to `most_open` lines together, are open."""
    parts = dict(_parts(patch))
    found, seen = [], 0
    for one in files:
        body = parts.get(f"a/{one.old_path or one.path} b/{one.path}", [])
        seen += len(body)
        found.append(FilePatch(one, blocks(body), bool(body) and seen <= most_open))
    return found


def _parts(patch: str) -> Iterator[tuple[str, list[str]]]:
    """What stands behind `diff --git` → the lines from the first place on."""
    # Only \n ends a line: files may hold other characters that break lines elsewhere.
    lines = patch.split("\n")
    starts = [number for number, line in enumerate(lines) if line.startswith("diff --git ")]
    for start, end in pairwise([*starts, len(lines)]):
        body = lines[start + 1 : end]
        first = next((number for number, line in enumerate(body) if line.startswith("@@")), len(body))
        while body and not body[-1]:
            body.pop()
        yield lines[start].removeprefix("diff --git "), body[first:]


def blocks(lines: Iterable[str]) -> list[Block]:
    """Of the lines of a patch."""
    return _grouped((_PATCH.get(line[:1], "same"), line) for line in lines)


def conflict_blocks(text: str, *, most: int) -> list[Block]:
    """The conflicts of a file with git's marks in it, and some lines around each: ours, theirs, origin, mark, same, and gap
    for lines that are left out. At most `most` lines.
    """
    kinds = list(_sides(text.removesuffix("\n").split("\n")))
    near = [
        any(kind != "same" for kind, _ in kinds[max(0, number - AROUND) : number + AROUND + 1])
        for number in range(len(kinds))
    ]
    shown: list[tuple[str, str]] = []
    for number, (kind, line) in enumerate(kinds):
        if near[number]:
            shown.append((kind, line))
        elif not shown or shown[-1][0] != "gap":
            shown.append(("gap", "…"))
    return _grouped([*shown[:most], *([("gap", f"… {len(shown) - most:,} lines more")] if len(shown) > most else [])])


def _sides(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    side = "same"
    for line in lines:
        mark = line[:7]
        if mark == "<<<<<<<":
            side = "ours"
        elif side != "same" and mark == "|||||||":
            side = "origin"
        elif side in ("ours", "origin") and line == "=======":
            side = "theirs"
        elif side == "theirs" and mark == ">>>>>>>":
            side = "same"
        else:
            yield side, line
            continue
        yield "mark", line


def _grouped(lines: Iterable[tuple[str, str]]) -> list[Block]:
    return [(kind, "".join(f"{line}\n" for _, line in group)) for kind, group in groupby(lines, key=lambda one: one[0])]
