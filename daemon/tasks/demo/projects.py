"""The invented people and projects of the demo, and their repositories, with a history that git really has."""

import random
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Who commits and asks: name, address.
PEOPLE = (
    ("Maria Lindqvist", "maria@example.org"),
    ("Jonas Weber", "jonas@example.org"),
    ("Aisha Rahman", "aisha@example.org"),
    ("Tomás Ferreira", "tomas@example.org"),
    ("Yuki Tanaka", "yuki@example.org"),
)

#: A number that an edit may change, on a line of its own.
TUNABLE = "limit = "


@dataclass(frozen=True, slots=True)
class Project:
    name: str
    about: str
    #: how its files end, what runs its tests, and what their form is
    suffix: str
    test: str
    template: str
    comment: str
    #: folder/module → its functions
    modules: Mapping[str, Sequence[str]]

    @property
    def files(self) -> list[str]:
        """Of its code, relative; the first ones are where most happens."""
        return [f"{module}.{self.suffix}" for module in self.modules]


_PYTHON = '''def {name}(items, factor=1.0):
    """{doc}."""
    limit = {number}
    chosen = [one for one in items if one.weight <= limit]
    return sorted(chosen, key=lambda one: one.weight * factor)


'''
_TYPESCRIPT = """export function {name}(items: Item[], factor = 1): Item[] {{
  // {doc}
  const limit = {number}
  const chosen = items.filter((one) => one.weight <= limit)
  return chosen.sort((a, b) => (a.weight - b.weight) * factor)
}}

"""
_GO = """// {name}: {doc}.
func {name}(items []Item, factor float64) []Item {{
	limit = {number}
	chosen := keep(items, limit)
	sortBy(chosen, factor)
	return chosen
}}

"""

PROJECTS = (
    Project("harbor", "Bookings and manifests of a container port", "py", "pytest -q", _PYTHON, "#", {
        "harbor/bookings": ("open_bookings", "cancel_late", "rebook", "match_slots", "overbooked"),
        "harbor/session": ("expired", "renew", "login_attempts", "revoke"),
        "harbor/manifest": ("merge_manifests", "declared_weight", "missing_seals", "hazardous"),
        "harbor/api": ("paginate", "rate_limited", "etag_of", "errors_of"),
        "harbor/billing": ("demurrage", "round_tariff", "storage_days", "invoice_lines"),
        "harbor/berths": ("free_berths", "tide_window", "assign"),
        "tests/test_bookings": ("test_cancel_late", "test_rebook_keeps_order", "test_match_slots"),
        "tests/test_session": ("test_expired", "test_renew_twice"),
    }),
    Project("lumen", "The dashboard of the port, in the browser", "ts", "npm test", _TYPESCRIPT, "//", {
        "src/table": ("sortRows", "visibleColumns", "groupByDay", "totals"),
        "src/chart": ("ticks", "stackBars", "labelsThatFit", "legend"),
        "src/filters": ("parseQuery", "toQuery", "presets"),
        "src/store": ("reduce", "hydrate", "undoable", "persist"),
        "src/format": ("money", "tonnes", "relativeTime"),
        "test/table.test": ("sortsStable", "hidesEmpty"),
    }),
    Project("atlas-etl", "Ship positions and weather, cleaned every hour", "py", "pytest -q tests", _PYTHON, "#", {
        "atlas/positions": ("deduplicate", "smooth_track", "fill_gaps", "outliers"),
        "atlas/weather": ("interpolate_wind", "gusts", "merge_models"),
        "atlas/load": ("upsert_batches", "copy_rows", "retry_chunks", "checksum"),
        "atlas/schedule": ("due_jobs", "backoff", "late_jobs"),
        "atlas/quality": ("null_rate", "drifted", "report"),
        "tests/test_positions": ("test_deduplicate", "test_gap_of_an_hour"),
    }),
    Project("quill", "Writes release notes from commits", "go", "go test ./...", _GO, "//", {
        "internal/log/parse": ("ParseCommits", "SplitTrailers", "SkipMerges"),
        "internal/log/group": ("GroupByScope", "RankSections", "FoldFixups"),
        "internal/render/markdown": ("Headings", "Links", "Escape"),
        "cmd/quill/main": ("ReadFlags", "OpenRepository", "Exit"),
        "internal/render/render_test": ("TestHeadings", "TestEscape"),
    }),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Merged:
    """Work of a task that is part of a history: its time in epoch milliseconds."""

    task_id: str
    subject: str
    at: int


def make_repository(
    folder: Path, project: Project, merged: Sequence[Merged], since: int, *, seed: int, environ: Mapping[str, str]
) -> dict[str, str]:
    """Make the repository of `project` in `folder`: its code, months of commits before `since` (epoch milliseconds), and
    the merges of `merged`, oldest first. Returns the merge commit of each task. Raises OSError, CalledProcessError.
    """
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main", environ=environ)
    stream = _Stream(project, seed)
    stream.history(since)
    for one in merged:
        stream.merge(one)
    marks = folder / ".git/demo-marks"
    git(folder, "fast-import", "--quiet", f"--export-marks={marks}", environ=environ, text=stream.text)
    git(folder, "reset", "-q", "--hard", "main", environ=environ)
    names = dict(line[1:].split(" ") for line in marks.read_text(encoding="ascii").splitlines())
    marks.unlink()
    return {task_id: names[str(mark)] for task_id, mark in stream.merges.items()}


def git(folder: Path, *arguments: str, environ: Mapping[str, str], text: str = "") -> str:
    """What git says. Raises CalledProcessError, whose `stderr` tells why."""
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=dict(environ), input=text.encode(), capture_output=True, check=True
    )
    return done.stdout.decode("utf-8", "replace")


def tuned(path: Path, rng: random.Random, which: int | None = None) -> tuple[str, str, str]:
    """Another number in a file of code, for the function `which` or any. Returns the line before and after, and the content
    to be written.
    """
    lines = path.read_text(encoding="utf-8").split("\n")
    places = [number for number, line in enumerate(lines) if TUNABLE in line]
    at = rng.choice(places) if which is None else places[which]
    before = lines[at]
    beginning, _, number = before.partition(TUNABLE)
    lines[at] = f"{beginning}{TUNABLE}{int(number) % 97 + rng.randint(1, 40)}"
    return before.strip(), lines[at].strip(), "\n".join(lines)


class _Stream:
    """What `git fast-import` reads."""

    def __init__(self, project: Project, seed: int) -> None:
        self.merges: dict[str, int] = {}
        self._project = project
        self._rng = random.Random(f"{project.name}{seed}")  # noqa: S311 - invented content
        self._numbers = {name: self._rng.randint(10, 90) for names in project.modules.values() for name in names}
        self._parts: list[str] = []
        self._mark = 0
        self._tip = 0

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def history(self, since: int) -> None:
        """The first commit, and some more, all before `since`."""
        project, rng = self._project, self._rng
        person = rng.choice(PEOPLE)
        at = since - 90 * 86_400_000
        readme = f"# {project.name}\n\n{project.about}.\n\nTests: `{project.test}`\n"
        files = {"README.md": readme, "CHANGELOG.md": "# Changes\n\n## Unreleased\n\n- First version.\n"}
        files |= {f"{module}.{project.suffix}": self._code(module) for module in project.modules}
        self._tip = self._commit("Begin", at, person, files, parents=())
        for _ in range(rng.randint(14, 22)):
            at += rng.randint(1, 5) * 86_400_000 // 2
            if at >= since:
                break
            name, files = self._change()
            self._tip = self._commit(f"Adjust {name}", at, rng.choice(PEOPLE), files, parents=(self._tip,))

    def merge(self, one: Merged) -> None:
        base = self._tip
        name, files = self._change()
        person = self._rng.choice(PEOPLE)
        side = self._commit(
            f"{one.subject}\n\nTouches {name}.", one.at - 60_000, person, files, (base,), ref="demo-side"
        )
        self._tip = self._commit(f"Merge task {one.task_id}: {one.subject}", one.at, person, files, (base, side))
        self.merges[one.task_id] = self._tip

    def _change(self) -> tuple[str, dict[str, str]]:
        module = self._rng.choice(list(self._project.modules))
        name = self._rng.choice(self._project.modules[module])
        self._numbers[name] += self._rng.choice((-4, 3, 6))
        return name, {f"{module}.{self._project.suffix}": self._code(module)}

    def _code(self, module: str) -> str:
        return f"{self._project.comment} {module.rpartition('/')[2]} of {self._project.name}\n\n" + "".join(
            self._project.template.format(name=name, doc=_about(name, module), number=self._numbers[name])
            for name in self._project.modules[module]
        )

    def _commit(
        self,
        message: str,
        at: int,
        person: tuple[str, str],
        files: Mapping[str, str],
        parents: Sequence[int],
        ref: str = "main",
    ) -> int:
        self._mark += 1
        if ref != "main":
            # Each side begins anew; the branch itself is not kept.
            self._parts.append(f"reset refs/heads/{ref}\nfrom :{parents[0]}\n\n")
        self._parts.append(
            f"commit refs/heads/{ref}\nmark :{self._mark}\n"
            f"committer {person[0]} <{person[1]}> {at // 1000} +0000\n{_data(message)}"
        )
        for parent, word in zip(parents, ("from", "merge"), strict=False):
            self._parts.append(f"{word} :{parent}\n")
        self._parts += [f"M 100644 inline {path}\n{_data(content)}" for path, content in files.items()]
        self._parts.append("\n")
        if ref != "main":
            self._parts.append(f"reset refs/heads/{ref}\nfrom {'0' * 40}\n\n")
        return self._mark


def _about(name: str, module: str) -> str:
    """What stands over a function: `Cancel late, of bookings`."""
    words = "".join(f" {one.lower()}" if one.isupper() else one for one in name.replace("_", " ")).strip()
    return f"{words.capitalize()}, of {module.rpartition('/')[2]}"


def _data(text: str) -> str:
    return f"data {len(text.encode())}\n{text}\n"
