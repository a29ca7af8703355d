"""Sessions that people had in the past week, in their own folders. As a program, so that it takes a core of its own:
`python -m tasks.demo.sessions FOLDER UNTIL SEED` plays them and prints how many there are.
"""

import copy
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.demo.conversation import Call, Conversation, unique
from tasks.demo.past import FIRST_PID, Archive, PastStage, moments
from tasks.demo.place import Place
from tasks.demo.projects import PROJECTS, Project
from tasks.demo.work import LAST_WORDS, SMALL, STRONG, SUBAGENTS, UNPRICED, USUAL, Work

MINUTE = 60_000  # milliseconds

#: Pids of these sessions, beside those of tasks.
_FIRST_PID = FIRST_PID + 1_000_000

_PROMPTS = (
    "Why does {name} forget the last element?", "Write a test for {name}", "Rename {name} to something that says what it does",
    "What calls {name}, and with what?", "Make {name} faster, it shows in the profile", "go on", "Now the docs, please",
    "The test fails on my machine: have a look", "Take {name} apart: it does two things", "Explain how {name} is used",
)  # fmt: skip
_MODELS = (STRONG, USUAL, SMALL, UNPRICED)


@dataclass(frozen=True, slots=True)
class Scene:
    """Where everything of the past goes."""

    archive: Archive
    place: Place
    #: epoch milliseconds: nothing happened after that
    until: int


def play_week(scene: Scene, seed: int) -> int:
    """Play the sessions of a week. Returns how many."""
    rng = random.Random(f"sessions {seed}")  # noqa: S311 - invented content
    begun = list(moments(rng, scene.until, weekday=9, weekend=2))
    # Whatever time of day it is: something of today.
    begun += [scene.until - rng.randint(25, 230) * MINUTE for _ in range(5)]
    project = PROJECTS[0]
    for number, at in enumerate(sorted(begun)):
        # The next one often works on the same: that is how files become contended.
        if rng.random() < 0.6:
            project = rng.choices(PROJECTS, (40, 26, 22, 12))[0]
        elif number:
            at = min(at, sorted(begun)[number - 1] + rng.randint(3, 18) * MINUTE)
        model = rng.choices(_MODELS, (34, 50, 10, 6))[0]
        if number % 23 == 11:
            model = UNPRICED
        _Evening(scene, rng, project, model, at).play(number)
    return len(begun)


class _Evening:
    """One session from its start to its end."""

    def __init__(self, scene: Scene, rng: random.Random, project: Project, model: str, at: int) -> None:
        self._scene = scene
        self._rng = rng
        self._project = project
        self._stage = PastStage(scene.archive, at, scene.archive.pid())
        self._work = Work(rng, project, scene.place.workspace(project), care=rng.uniform(0.88, 0.96))
        self._conversation = self._new(model)

    def play(self, number: int) -> None:
        one = self._conversation
        one.start()
        self._prompts(self._rng.choices((1, 2, 3, 5), (40, 30, 20, 10))[0])
        match number % 20:
            case 3:
                self._fail()
            case 7:
                self._interrupt()
            case 9:
                self._resume()
            case 13:
                self._fork()
            case 17:
                self._clear()
        self._conversation.end("prompt_input_exit" if self._rng.random() < 0.7 else "other")

    @property
    def _is_late(self) -> bool:
        return self._stage.now() >= self._scene.until - 3 * MINUTE

    def _new(self, model: str) -> Conversation:
        mode = self._rng.choice(("default", "acceptEdits", "acceptEdits", "plan"))
        session = unique(self._rng)
        return Conversation(
            self._stage, self._rng, session, self._work.cwd, self._scene.place.transcripts, model, mode=mode
        )

    def _prompts(self, number: int) -> None:
        for turn in range(number):
            if self._is_late:
                return
            if turn:
                self._stage.wait(self._rng.lognormvariate(12.2, 0.9))
                if self._is_late:
                    # The person came back after the end of our story.
                    self._stage.clock = self._scene.until - 3 * MINUTE
                    return
            self._turn(self._conversation)

    def _turn(self, one: Conversation) -> None:
        rng = self._rng
        one.prompt(rng.choice(_PROMPTS).format(name=self._work.name()))
        for _ in range(rng.randint(5, 16)):
            if self._is_late:
                break
            if rng.random() < 0.03:
                one.ask_permission(self._work.tests(), rng.lognormvariate(10.2, 0.8))
            elif rng.random() < 0.05:
                agent = rng.choice(SUBAGENTS)
                one.delegate(
                    agent, f"Find what uses {self._work.name()}", SMALL, self._work.side_work(rng.randint(3, 9))
                )
            else:
                self._work.go_on(one, 1)
        one.stop(rng.choice(LAST_WORDS))

    def _fail(self) -> None:
        self._conversation.prompt("go on")
        self._work.go_on(self._conversation, 2)
        error, text = self._rng.choice(
            (("rate_limit", "You've hit your session limit"), ("server_error", "API Error: 529 Overloaded"))
        )
        self._conversation.fail(error, text)

    def _interrupt(self) -> None:
        """The person presses Esc while something runs, and says it otherwise."""
        one = self._conversation
        one.prompt("Run everything")
        call = self._work.tests()
        one.answer("", [Call(call.tool, call.arguments, "", "open", None, 9000)])
        one.prompt("No, only the tests of this file")
        self._work.go_on(one, 3)
        one.stop(self._rng.choice(LAST_WORDS))

    def _resume(self) -> None:
        """Left, and taken up again."""
        one = self._conversation
        one.end()
        self._stage.wait(self._rng.randint(20, 200) * MINUTE)
        if self._is_late:
            self._stage.clock = self._scene.until - 2 * MINUTE
        self._stage.pid = self._scene.archive.pid()
        one.start("resume")
        self._prompts(1)

    def _fork(self) -> None:
        """Resumed under an id of its own: the start is reported under the old one, and its lines are copied."""
        old = self._conversation
        old.end()
        self._stage.wait(self._rng.randint(2, 15) * MINUTE)
        if self._is_late:
            self._stage.clock = self._scene.until - 3 * MINUTE - 1
        self._stage.pid = self._scene.archive.pid()
        old.start("resume")
        fork = self._conversation = self._new(old.model)
        copies: Sequence[dict[str, object]] = copy.deepcopy(old.said)
        for line in copies:
            if line["type"] == "assistant":
                line["requestSessionId"] = line["sessionId"]
            line["sessionId"] = fork.session
            self._stage.line(fork.file, line)
        self._turn(fork)

    def _clear(self) -> None:
        self._conversation.end("clear")
        self._conversation = self._new(self._conversation.model)
        self._stage.wait(300)
        self._conversation.start("clear")
        self._prompts(1)


def main(arguments: Sequence[str]) -> int:
    folder, until, seed = arguments
    place = Place(Path(folder))
    scene = Scene(Archive(place.spool, first_pid=_FIRST_PID), place, int(until))
    number = play_week(scene, int(seed))
    scene.archive.save()
    print(number)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
