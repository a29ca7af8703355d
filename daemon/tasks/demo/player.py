"""A program that takes the client's part: `python -m tasks.demo.player task|person SESSION MODEL PACE`.

As a task's agent it reads the prompt from standard input, changes and commits a real file, and prints what a client prints;
as a person's session it only looks busy. Hooks are reported through the real recorder, in the demo's own folder.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from tasks.demo.conversation import Call, Conversation, Json, spelled
from tasks.demo.place import MARKER, Place
from tasks.demo.projects import PROJECTS, tuned
from tasks.demo.work import LAST_WORDS, SMALL, STRONG, SUBAGENTS, USUAL, Work

#: How the description of tasks begins that change the same line as others.
TIGHTEN = "Tighten the limit of "
#: How one may end that fails: the client's word for it, and what it says. No limit of the API: that would hold the others.
_FAILURES = (
    ("max_turns", "Reached maximum number of turns ({turns})"),
    ("model_error", "API Error: 400 messages.14: all messages must have non-empty content"),
)
#: Seconds since the demo began → how many times as long everything takes: a demo that is forgotten does less and less.
_PACES = ((1800, 1), (7200, 4), (28_800, 12))
_SLOWEST = 40
#: Milliseconds that anything takes at most, at the first pace.
_LONGEST = 90_000


class LiveStage:
    """Where a conversation is heard now: it waits for real, and its hooks are recorded."""

    def __init__(self, place: Place, *, prints: bool) -> None:
        self._parent = os.getppid()
        self._recorder = str(place.data_dir / "hooks/record")
        self._began = place.config_file.stat().st_mtime
        self._given = place.pace
        self._prints = prints

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def wait(self, milliseconds: float) -> None:
        if os.getppid() != self._parent:
            raise _Left  # the demo was killed
        time.sleep(min(milliseconds, _LONGEST) / 1000 * self._pace())

    def hook(self, payload: Json) -> None:
        text = spelled(payload) + "\n"
        subprocess.run([self._recorder], input=text.encode(), check=False)

    def line(self, transcript: Path, line: Json) -> None:
        transcript.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with transcript.open("a", encoding="utf-8") as file:
            file.write(spelled(line) + "\n")

    def output(self, line: Json) -> None:
        if self._prints:
            print(spelled(line), flush=True)

    def _pace(self) -> float:
        age = time.time() - self._began
        return self._given * next((pace for seconds, pace in _PACES if age < seconds), _SLOWEST)


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status, as the client has it."""
    part, session, model, pace = arguments
    place = Place(Path(os.environ[MARKER]), float(pace))
    rng = random.Random(session)  # noqa: S311 - invented content
    cwd = Path.cwd()
    project = next(one for one in PROJECTS if (cwd / one.files[0]).exists())
    stage = LiveStage(place, prints=part == "task")
    one = Conversation(
        stage, rng, session, cwd, place.transcripts, model or rng.choice((USUAL, STRONG)),
        branch=f"task/{cwd.name}" if part == "task" else "main",
    )  # fmt: skip
    work = Work(rng, project, cwd, attended=part == "person")
    signal.signal(signal.SIGTERM, _leave)
    try:
        if part == "task":
            return _task(one, work, sys.stdin.read().strip())
        return _person(one, work)
    except KeyboardInterrupt:
        return 1  # no hook tells of it
    except _Left:
        one.end()
        return 143


class _Left(Exception):
    """Asked to end."""


def _leave(signal_number: int, frame: FrameType | None) -> None:
    raise _Left


def _task(one: Conversation, work: Work, prompt: str) -> int:
    rng = one.rng
    one.start()
    one.prompt(prompt)
    work.go_on(one, rng.randint(2, 5))
    if rng.random() < 0.25:
        one.delegate(rng.choice(SUBAGENTS), f"Find what uses {work.name()}", SMALL, work.side_work(rng.randint(2, 4)))
    if rng.random() < 0.07:
        reason, text = rng.choice(_FAILURES)
        one.result(text.format(turns=one.turns), _dollars(one), is_error=True, terminal_reason=reason)
        one.end()
        return 1
    is_tight = prompt.startswith(TIGHTEN)
    for _ in range(1 if is_tight else rng.randint(1, 2)):
        one.answer(work.say(), [_edit(work, tight=is_tight)])
    one.answer("", [work.tests()])
    work.go_on(one, rng.randint(1, 4))
    commit = work.command(
        f'git commit -qam "{prompt[:60]}"', "Commit the work", "", 60, lambda: _commit(work.cwd, prompt)
    )
    one.answer("Everything is in place; I commit it.", [commit])
    words = rng.choice(LAST_WORDS)
    one.stop(words)
    one.result(words, _dollars(one))
    one.end()
    return 0


def _person(one: Conversation, work: Work) -> int:
    rng = one.rng
    one.mode = "default"
    one.start()
    for turn in range(rng.randint(2, 4)):
        if turn:
            one.stage.wait(rng.uniform(8_000, 40_000))
        one.prompt(f"Have a look at {work.name()}")
        work.go_on(one, rng.randint(2, 6))
        if turn % 2 == 0:
            one.ask_permission(work.tests(), rng.uniform(30_000, 80_000))
        work.go_on(one, rng.randint(1, 4))
        one.stop(rng.choice(LAST_WORDS))
        if rng.random() < 0.4:
            one.stage.wait(15_000)
            one.notify_idle()
    one.stage.wait(rng.uniform(8_000, 20_000))
    one.end("prompt_input_exit")
    return 0


def _edit(work: Work, *, tight: bool) -> Call:
    """A real change of a file."""
    file = work.project.files[0] if tight else work.rng.choice(work.project.files)
    path = work.cwd / file
    before, after, content = tuned(path, work.rng, 0 if tight else None)
    return work.edit(file, before, after, lambda: _write(path, content))


def _write(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")


def _commit(folder: Path, message: str) -> None:
    subprocess.run(["git", "commit", "-q", "-a", "-m", message], cwd=folder, check=False, stdout=subprocess.DEVNULL)


def _dollars(one: Conversation) -> float:
    # Needed once, and slow to import.
    from tasks import config
    from tasks.demo.bill import dollars
    from tasks.prices import PriceBook

    return dollars(PriceBook.of(config.load()), one.spent, one.stage.now())


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
