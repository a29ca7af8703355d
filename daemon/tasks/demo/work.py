"""What agents do in the demo: calls of tools as they are usual, with what comes of them, and the ways in which they fail."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks.demo.conversation import Call, Conversation, Json, Outcome
from tasks.demo.projects import Project

#: Models that have a price, and one that has none yet.
STRONG, USUAL, SMALL, UNPRICED = (
    "claude-opus-4-8",
    "claude-sonnet-5-5",
    "claude-haiku-4-5-20251001",
    "claude-aurora-1-preview",
)
SUBAGENTS = ("Explore", "general-purpose", "code-reviewer")

_SAYINGS = (
    "Let me look at how this is done now.", "I'll check the tests first.", "That explains it.", "Now the change itself.",
    "The callers have to agree with it.", "One more place needs this.", "Let me run the tests.", "", "", "",
)  # fmt: skip
LAST_WORDS = (
    "Done: the change is in place and its tests pass.",
    "That was it. I also covered the case that had no test.",
    "Finished. The cause was a comparison that forgot the last element.",
    "All tests pass; the behaviour for old data stays as it was.",
)

#: Tool, how the call ends, what is said. {file} and {name} are filled in.
_FAILURES: Sequence[tuple[str, Outcome, str]] = (
    ("Bash", "failed", "Exit code 1\nFAILED {file}::test_{name} - AssertionError: assert 3 == 4\n1 failed, 41 passed"),
    ("Bash", "failed", "Exit code 1\nFAILED {file}::test_{name}_empty - IndexError: pop from empty list\n2 failed"),
    ("Bash", "failed", "Exit code 127\n/bin/bash: line 1: just: command not found"),
    ("Bash", "failed", "Exit code 2\nls: cannot access 'fixtures/{name}.json': No such file or directory"),
    ("Bash", "failed",
     'Exit code 1\n  File "{file}", line 27\n    def {name}(items:\n             ^\nSyntaxError: \'(\' was never closed'),
    ("Bash", "failed", "Exit code 1\ncat: /var/log/{name}.log: Permission denied"),
    ("Bash", "failed", "Exit code 143\nCommand timed out after 2m 0s"),
    ("Bash", "failed", "Exit code 128\nfatal: unable to access 'https://git.example.org/{name}.git/': Could not resolve host: "
     "git.example.org"),
    ("Bash", "failed", "Exit code 7\ncurl: (7) Failed to connect to localhost port 8080 after 0 ms: Connection refused"),
    ("Bash", "failed", "Exit code 1\ntar: {name}.tar: Wrote only 4096 of 10240 bytes: No space left on device"),
    ("Bash", "denied", "Permission to use Bash has been denied because Claude Code is running in don't ask mode."),
    ("Bash", "denied", "Permission to use Bash with command git push --force has been denied."),
    ("Bash", "rejected", "The user doesn't want to proceed with this tool use. The tool use was rejected."),
    ("Read", "failed", "File does not exist. Note: your current working directory is {cwd}."),
    ("Read", "failed", "File does not exist. Note: your current working directory is {cwd}."),
    ("Read", "failed", "EISDIR: illegal operation on a directory, read '{cwd}'"),
    ("Edit", "refused", "<tool_use_error>File has not been read yet. Read it first before writing to it.</tool_use_error>"),
    ("Edit", "refused", "<tool_use_error>String to replace not found in file.\nString: return {name}(items)</tool_use_error>"),
    ("Edit", "refused", "<tool_use_error>File has been modified since read, either by the user or by a linter. Read it again "
     "before attempting to write it.</tool_use_error>"),
    ("Edit", "refused", "<tool_use_error>Found 3 matches of the string to replace, but replace_all is false. To replace all "
     "occurrences, set replace_all to true.</tool_use_error>"),
    ("Write", "failed", "EACCES: permission denied, open '{cwd}/{file}'"),
    ("Grep", "refused", "<tool_use_error>InputValidationError: Grep failed due to the following issue:\nThe required parameter "
     "`pattern` is missing</tool_use_error>"),
    ("WebFetch", "failed", "Request failed with status code 404"),
    ("mcp__tracker__get_issue", "failed", "upstream returned 503 Service Unavailable"),
    ("mcp__tracker__get_issue", "failed", 'MCP server "tracker" tool "get_issue" timed out after 30s'),
)  # fmt: skip

#: What a failure says, and the command that it is of; of others it is the project's tests.
_FAILED_BY: Sequence[tuple[str, str]] = (
    ("--force", "git push --force"),
    ("just:", "just lint"),
    ("ls:", "ls fixtures/{name}.json"),
    ("cat:", "cat /var/log/{name}.log"),
    ("fatal:", "git fetch https://git.example.org/{name}.git"),
    ("curl:", "curl -sS http://localhost:8080/health"),
    ("tar:", "tar -cf {name}.tar fixtures"),
)


@dataclass(slots=True)
class Work:
    """Makes calls for one agent in one folder. `care`: 0 to 1, how seldom its calls fail."""

    rng: random.Random
    project: Project
    cwd: Path
    care: float = 0.93
    #: a person is there to say no
    attended: bool = True
    _read: list[str] = field(default_factory=list)

    def calls(self) -> list[Call]:
        """What one answer asks for: mostly one call, at times some that go together."""
        if self.rng.random() > self.care:
            return [self._failure()]
        number = self.rng.choices((1, 2, 3), (78, 16, 6))[0]
        if number > 1:
            return [self.rng.choice((self._look, self._search))() for _ in range(number)]
        return [self._usual()]

    def say(self) -> str:
        return self.rng.choice(_SAYINGS)

    def go_on(self, conversation: Conversation, answers: int) -> None:
        """So many answers, each with its calls."""
        for _ in range(answers):
            calls = self.calls()
            if self.rng.random() < 0.006:
                calls = [Call(one.tool, one.arguments, one.text, "unreported", one.response) for one in calls]
            conversation.answer(self.say(), calls)

    def side_work(self, answers: int) -> "Callable[[Conversation], None]":
        """What a subagent does: it looks."""

        def work(conversation: Conversation) -> None:
            for _ in range(answers):
                conversation.answer("", [self.rng.choice((self._look, self._search))()])
            conversation.answer("Found what matters: see the list.")

        return work

    def file(self) -> str:
        """A file of the project, the first ones much more often."""
        files = self.project.files
        return files[min(int(self.rng.expovariate(0.45)), len(files) - 1)]

    def edit(self, file: str, before: str, after: str, effect: Callable[[], None] | None = None) -> Call:
        path = str(self.cwd / file)
        arguments = {"file_path": path, "old_string": before, "new_string": after, "replace_all": False}
        response = {"filePath": path, "oldString": before, "newString": after, "structuredPatch": [], "userModified": False,
                    "replaceAll": False}  # fmt: skip
        text = f"The file {path} has been updated successfully."
        return Call("Edit", arguments, text, "ok", response, self._took(14), effect)

    def command(
        self, command: str, about: str, text: str, duration: int, effect: Callable[[], None] | None = None
    ) -> Call:
        response = {"stdout": text, "stderr": "", "interrupted": False, "isImage": False, "noOutputExpected": False}
        return Call("Bash", {"command": command, "description": about}, text, "ok", response, duration, effect)

    def tests(self) -> Call:
        number, seconds = self.rng.randint(38, 71), self.rng.lognormvariate(1.2, 0.7)
        return self.command(
            self.project.test, "Run the tests", f"{number} passed in {seconds:.2f}s", int(seconds * 1000) + 300
        )

    def look(self, file: str) -> Call:
        path = str(self.cwd / file)
        number = self.rng.randint(20, 260)
        content = f"1\t{self.project.comment} {file}\n2\t\n3\t…"
        response = {"type": "text", "file": {"filePath": path, "content": content, "numLines": number, "startLine": 1,
                                             "totalLines": number}}  # fmt: skip
        self._read.append(file)
        return Call("Read", {"file_path": path}, content, "ok", response, self._took(7))

    def _usual(self) -> Call:
        kinds = (self._look, self._shell, self._change, self._search, self._list, self._write, self._plan, self._web,
                 self._issue)  # fmt: skip
        return self.rng.choices(kinds, (27, 27, 19, 12, 4, 4, 3, 2, 2))[0]()

    def _look(self) -> Call:
        return self.look(self.file())

    def _change(self) -> Call:
        number = self.rng.randint(10, 90)
        return self.edit(self._read[-1] if self._read else self.file(), f"limit = {number}", f"limit = {number + 4}")

    def _shell(self) -> Call:
        rng = self.rng
        if rng.random() < 0.45:
            return self.tests()
        command, about, text = rng.choice(
            (
                ("git status --short", "See what changed", f" M {self.file()}"),
                ("git diff --stat", "See how much changed", f" {self.file()} | 6 +++---\n 1 file changed"),
                (
                    "git log --oneline -5",
                    "Look at recent commits",
                    "3f1c2aa Adjust login_attempts\n88be012 Adjust ticks",
                ),
                (f"wc -l {self.file()}", "Count lines", f"{rng.randint(40, 400)} {self.file()}"),
                (f"sed -n 1,40p {self.file()}", "Show the beginning", self.project.comment + " …"),
                ("ls", "List files", "\n".join(sorted({one.partition("/")[0] for one in self.project.files}))),
            )
        )
        return self.command(command, about, text, self._took(55))

    def _search(self) -> Call:
        name = self.name()
        found = [str(self.cwd / self.file()) for _ in range(self.rng.randint(1, 4))]
        response = {"mode": "files_with_matches", "filenames": found, "numFiles": len(found)}
        return Call("Grep", {"pattern": name}, "\n".join(found), "ok", response, self._took(22))

    def _list(self) -> Call:
        found = [str(self.cwd / one) for one in self.project.files]
        response = {"filenames": found, "durationMs": 9, "numFiles": len(found), "truncated": False}
        return Call(
            "Glob", {"pattern": f"**/*.{self.project.suffix}"}, "\n".join(found), "ok", response, self._took(12)
        )

    def _write(self) -> Call:
        path = str(self.cwd / "docs" / f"{self.name().lower()}.md")
        content = f"# {self.name()}\n\nWhat it does, and what it leaves alone.\n"
        response: Json = {
            "type": "create",
            "filePath": path,
            "content": content,
            "structuredPatch": [],
            "originalFile": None,
        }
        text = f"File created successfully at: {path}"
        return Call("Write", {"file_path": path, "content": content}, text, "ok", response, self._took(11))

    def _plan(self) -> Call:
        steps = ("Read the code", "Change it", "Run the tests")
        todos = [{"content": one, "status": "pending", "activeForm": one} for one in steps]
        return Call("TodoWrite", {"todos": todos}, "Todos have been modified successfully.", "ok",
                    {"oldTodos": [], "newTodos": todos}, 1)  # fmt: skip

    def _web(self) -> Call:
        url = f"https://docs.example.org/{self.name().lower()}"
        response = {"bytes": 18_400, "code": 200, "codeText": "OK", "result": "How it is meant.", "url": url}
        return Call("WebFetch", {"url": url, "prompt": "How is this used?"}, "How it is meant.", "ok", response,
                    self._took(1900))  # fmt: skip

    def _issue(self) -> Call:
        number = self.rng.randint(100, 480)
        text = f"#{number}: {self.name()} is wrong on the last day of a month"
        return Call("mcp__tracker__get_issue", {"number": number}, text, "ok", [{"type": "text", "text": text}],
                    self._took(340))  # fmt: skip

    def _failure(self) -> Call:
        usable = [one for one in _FAILURES if self.attended or one[1] != "rejected"]
        tool, outcome, text = self.rng.choice(usable)
        file, name = self.file(), self.name()
        text = text.format(file=file, name=name, cwd=self.cwd)
        example = self._arguments(tool, file, name, text)
        took = 120_000 if "timed out after 2m" in text else self._took(40)
        return Call(tool, example, text, outcome, None, took if outcome == "failed" else self._took(900))

    def _arguments(self, tool: str, file: str, name: str, text: str) -> dict[str, object]:
        match tool:
            case "Bash":
                commands = (one.format(name=name) for said, one in _FAILED_BY if said in text)
                return {"command": next(commands, self.project.test), "description": "Try it"}
            case "Read":
                return {"file_path": str(self.cwd / f"{name.lower()}.{self.project.suffix}")}
            case "Edit":
                return {
                    "file_path": str(self.cwd / file),
                    "old_string": f"return {name}(items)",
                    "new_string": "return []",
                }
            case "Write":
                return {"file_path": str(self.cwd / file), "content": "…"}
            case "WebFetch":
                return {"url": f"https://docs.example.org/{name.lower()}", "prompt": "How is this used?"}
            case "Grep":
                return {"path": str(self.cwd)}
            case _:
                return {"number": 104}

    def name(self) -> str:
        return self.rng.choice([name for names in self.project.modules.values() for name in names])

    def _took(self, usual: float) -> int:
        """Milliseconds around what is usual; some calls take many times as long."""
        return max(1, int(usual * self.rng.lognormvariate(0, 0.7)))
