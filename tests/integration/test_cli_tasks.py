"""The commands about tasks as a person uses them, against a real daemon whose agents run what they are asked."""

import getpass
import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .desk import COMMAND, INTERRUPTIBLE, TIMEOUT, Desk, desk_in, until

#: The ordinary way, without the quick one before it.
THROUGH_CLICK = [sys.executable, "-c", "import sys; from tasks.cli.app import run; sys.exit(run(sys.argv[1:]))"]
TOKEN = "ghp_" + "a1B2" * 9  # made up
HOSTILE = "\x1b]0;owned\x07\x1b[2J[bold]markup[/]"
COMMIT = "echo {0} >{0}; git add {0}; git commit -qm {0}"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    yield from desk_in(tmp_path_factory.mktemp("c"))


@pytest.fixture
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One agent at a time, and three tasks that may wait."""
    yield from desk_in(tmp_path_factory.mktemp("n"), agents=1, queue=3)


# Submitting


def test_submitting_prints_the_id_alone_and_works_for_the_current_folder(desk: Desk) -> None:
    done = desk.run("submit", "true", "--priority", "high", "--workflow", "w", "--agent-type", "t", "--budget", "0.5")
    assert re.fullmatch(r"[0-9a-f]{6}\n", done.stdout)
    one = desk.ended(done.stdout.strip())
    assert (one["workspace"], one["user_id"], one["description"]) == (str(desk.repository), os.getuid(), "true")
    assert (one["priority"], one["workflow"], one["agent_type"], one["budget_usd"]) == ("high", "w", "t", 0.5)


def test_what_keeps_a_task_from_going_on_as_expected_is_said_on_stderr(desk: Desk) -> None:
    plain = desk.folder / "plain"
    plain.mkdir()
    done = desk.run("submit", "true", "--workspace", str(plain))
    assert re.fullmatch(r"[0-9a-f]{6}\n", done.stdout)
    assert "not in a git repository" in done.stderr


def test_a_description_comes_from_a_file_or_from_standard_input(desk: Desk) -> None:
    script = "exit 0\n" + "# a specification\n" * 12_000
    file = desk.folder / "spec"
    file.write_text(script)
    ids = [
        desk.run("submit", "--file", str(file)).stdout.strip(),
        desk.run("submit", "-", input=script).stdout.strip(),
    ]
    for id_ in ids:
        assert (desk.data / "runs" / id_ / "prompt").read_text() == script


def test_the_json_of_submitting_is_that_of_the_api(desk: Desk) -> None:
    answer = desk.json("submit", "true")
    assert answer["warnings"] == []
    assert desk.task(answer["task_id"]).keys() == answer.keys() - {"warnings"}


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["x", "--file", "y"], ["  "], ["x", "--priority", "urgent"], ["x", "--budget", "0"], ["x", "--max-turns", "0"],
        ["x", "--workspace", "/nonexistent"], ["--file", "/nonexistent"], ["--file", "."],
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_of_submit_ends_with_2(desk: Desk, arguments: list[str]) -> None:
    done = desk.run("submit", *arguments, code=2)
    assert done.stdout == ""
    assert "Error: " in done.stderr


def test_a_description_that_is_too_long_or_no_text_says_what_to_do(desk: Desk) -> None:
    file = desk.folder / "odd"
    file.write_bytes(b"x" * ((1 << 20) + 1))
    assert "put it into a file" in desk.run("submit", "--file", str(file), code=2).stderr
    file.write_bytes(b"caf\xe9")
    assert "not UTF-8 (byte 3)" in desk.run("submit", "--file", str(file), code=2).stderr


def test_what_the_daemon_refuses_is_one_line_and_1(desk: Desk) -> None:
    done = desk.run("submit", "true", "--model", "--odd", code=1)
    assert done.stdout == ""
    assert done.stderr == "tasksd: model: must be one line that begins with neither a space nor a -, and not empty\n"
    done = desk.run("submit", "-", input="a\0b", code=1)
    assert done.stderr == "tasksd: description: must not be empty, and hold no NUL\n"


def test_an_agent_type_that_is_misspelt_is_pointed_out(narrow: Desk) -> None:
    assert "settings of its own" not in narrow.run("submit", "true", "--agent-type", "reviwer").stderr
    narrow.stop()
    with (narrow.folder / ".config/tasksd/config.toml").open("a") as config:
        config.write("[agent.types.reviewer]\nmax_turns = 3\n[enforcement.types.strict]\ncommits_required = true\n")
    narrow.start()
    said = narrow.run("submit", "true", "--agent-type", "reviwer").stderr
    assert "agent type reviwer has no settings of its own; those that have: reviewer, strict\n" in said
    for known in (["--agent-type", "reviewer"], ["--agent-type", "strict"], []):
        assert "settings of its own" not in narrow.run("submit", "true", *known).stderr


# Waiting


def test_waiting_ends_with_0_when_the_work_is_merged(desk: Desk) -> None:
    done = desk.run("submit", "--wait", COMMIT.format("waited"))
    id_ = done.stdout.strip()
    assert re.fullmatch(r"[0-9a-f]{6}", id_)
    assert f"task {id_} completed, merged into main\n" in done.stderr
    assert re.search(rf"^\d\d:\d\d:\d\d {id_} works in ", done.stderr, re.MULTILINE)
    assert (desk.repository / "waited").exists()


def test_waiting_ends_with_0_when_there_was_nothing_to_merge(desk: Desk) -> None:
    answer = json.loads(desk.run("submit", "--wait", "--json", "true").stdout)
    assert (answer["status"], answer["merge_state"]) == ("completed", "none")


def test_waiting_ends_with_1_when_the_task_fails_and_says_what_to_do(desk: Desk) -> None:
    done = desk.run("submit", "--wait", "echo broken >&2; exit 3", code=1)
    id_ = done.stdout.strip()
    assert f"task {id_} failed: " in done.stderr
    assert f"tasksd retry {id_}" in done.stderr


def test_waiting_ends_with_1_when_the_work_is_not_merged(desk: Desk) -> None:
    ours = "echo ours >clash; git add clash; git commit -qm ours"
    theirs = f"cd {desk.repository}; echo theirs >clash; git add clash; git commit -qm theirs"
    done = desk.run("submit", "--wait", f"{ours}; {theirs}", code=1)
    id_ = done.stdout.strip()
    assert f"task {id_} completed, its merge conflicts" in done.stderr
    assert "\n  clash\n" in done.stderr
    assert f"tasksd merge {id_}" in done.stderr
    desk.git("branch", "-q", "aside", f"task/{id_}~")
    assert desk.run("merge", id_, "--into", "aside").stderr.startswith(f"task {id_} merged as ")


def test_leaving_does_not_end_the_task_and_says_so(desk: Desk) -> None:
    gate = desk.folder / "left"
    waiting = desk.popen("submit", "--wait", f"until [ -e {gate} ]; do sleep 0.05; done", by=INTERRUPTIBLE)
    assert waiting.stdout is not None
    id_ = waiting.stdout.readline().strip()
    desk.running(id_)
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=TIMEOUT)
    assert waiting.returncode == 130
    assert f"task {id_} goes on" in said
    assert "Traceback" not in said
    assert desk.task(id_)["status"] == "running"
    gate.touch()
    desk.ended(id_)


def test_waiting_goes_on_over_a_restart_of_the_daemon(narrow: Desk) -> None:
    gate = narrow.folder / "gate"
    waiting = narrow.popen("submit", "--wait", f"until [ -e {gate} ]; do sleep 0.05; done; {COMMIT.format('late')}")
    assert waiting.stdout is not None
    narrow.running(waiting.stdout.readline().strip())
    assert narrow.stop() == 0
    gate.touch()
    narrow.start()
    _, said = waiting.communicate(timeout=TIMEOUT)
    assert waiting.returncode == 0, said
    assert "completed, merged into main" in said


def test_a_terminal_shows_progress_and_keeps_stdout_clean(desk: Desk) -> None:
    shown, out, code = _on_a_terminal(desk, "submit", "--wait", "sleep 1.5; " + COMMIT.format("shown"))
    assert code == 0
    assert re.fullmatch(r"[0-9a-f]{6}\n", out)
    assert "running" in shown
    assert "merged into main" in shown


def test_a_task_can_be_queued_again_as_soon_as_it_was_cancelled(desk: Desk) -> None:
    id_ = desk.hand_over("sleep 1000")
    desk.running(id_)
    until(lambda: desk.task(id_)["pid"], "its agent is known")
    desk.run("cancel", id_)
    desk.run("retry", id_)
    until(lambda: (one := desk.task(id_))["attempt"] == 2 and one["pid"], "it runs again")
    assert [one["outcome"] for one in desk.task(id_)["runs"]] == ["stopped", None]
    desk.run("cancel", id_)


def test_what_the_owner_orders_is_written_down(desk: Desk) -> None:
    id_ = desk.hand_over("sleep 1000")
    desk.run("cancel", id_)
    desk.run("cancel", id_, code=None)

    def noted() -> list[tuple[str, str | None, int]]:
        return [(one["action"], one["target"], one["outcome"]) for one in desk.ask("GET", "/v1/audit")[2]]

    until(lambda: ("POST /v1/tasks/{task_id}/cancel", id_, 200) in noted(), "it is written down")
    assert ("POST /v1/tasks", id_, 201) in noted()
    assert {(one["username"], one["via"], one["user_id"]) for one in desk.ask("GET", "/v1/audit")[2]} == {
        (getpass.getuser(), "socket", None)
    }


# Reading


@pytest.mark.parametrize(
    "arguments", [["tasks"], ["tasks", "--json"], ["tasks", "--live", "--json"], ["tasks", "--limit=1"]], ids=" ".join
)
def test_the_quick_way_answers_as_the_ordinary_way(desk: Desk, arguments: list[str]) -> None:
    desk.ended(desk.hand_over("true"))
    ordinary, quick = desk.run(*arguments, by=THROUGH_CLICK), desk.run(*arguments)
    assert (quick.stdout, quick.stderr) == (ordinary.stdout, ordinary.stderr)
    assert quick.stdout
    assert ("--limit shows more" in quick.stderr) == ("--limit=1" in arguments)
    program = "import sys; from tasks.cli import main; sys.exit(main())"
    seen = desk.run(*arguments, by=[sys.executable, "-X", "importtime", "-c", program]).stderr
    imported = {line.rpartition("|")[2].strip() for line in seen.splitlines()}
    assert not imported & {"click", "rich", "json", "socket", "re", "typing", "pathlib", "tasks.config"}


@pytest.mark.parametrize("command", ["submit", "tasks", "show", "logs", "cancel", "merge", "clean", "pool"])
def test_no_command_about_tasks_imports_what_only_the_daemon_needs(desk: Desk, command: str) -> None:
    program = "import sys; from tasks.cli.app import run; run(sys.argv[1:]); print(*sys.modules)"
    seen = set(desk.run(command, "--help", by=[sys.executable, "-c", program]).stdout.split())
    assert not seen & {"pydantic", "fastapi", "uvicorn", "uvloop", "aiosqlite", "pygit2"}


def test_tasks_are_chosen_by_status(desk: Desk) -> None:
    failed = desk.hand_over("exit 1", workflow="chosen")
    desk.ended(failed, "failed")
    desk.ended(desk.hand_over("true", workflow="chosen"))
    found = desk.json("tasks", "--status", "failed", "--status", "stopped", "--workflow", "chosen")
    assert [one["task_id"] for one in found] == [failed]
    text = desk.run("tasks", "--workflow", "chosen").stdout
    assert text.splitlines()[0].split()[:3] == ["task", "status", "since"]
    assert len(text.splitlines()) == 3


def test_a_task_is_shown_with_all_that_a_person_wants_to_know(desk: Desk) -> None:
    id_ = desk.ended(desk.hand_over(COMMIT.format("seen") + "; echo all is well"))["task_id"]
    text = desk.run("show", id_[:5]).stdout
    assert text.startswith(f"task         {id_}\nstatus       completed ")
    for expected in (f"branch       task/{id_} from main, 1 commit", "merge        merged as ", "result       all is well",
                     "\nruns\n", "\nactivity\n"):  # fmt: skip
        assert expected in text
    assert desk.run("show", "zzz", code=1).stderr == "tasksd: no task has the id zzz\n"


def test_a_conflict_is_shown_with_commands_that_resolve_it(desk: Desk) -> None:
    (desk.repository / "both").write_text("base\n")
    desk.git("add", "both")
    desk.git("commit", "-qm", "base")
    gate = desk.folder / "go"
    id_ = desk.hand_over(f"until [ -e {gate} ]; do sleep 0.05; done; echo theirs >both; git commit -qam theirs")
    desk.running(id_)
    (desk.repository / "both").write_text("ours\n")
    desk.git("commit", "-qam", "ours")
    gate.touch()
    desk.ended(id_)
    assert f"1 merge conflict (tasksd show {id_})" in desk.run("status").stdout
    done = desk.run("merge", id_, code=1)
    assert "conflict" in done.stderr
    assert "\n  both\n" in done.stderr
    shown = desk.run("show", id_).stdout
    assert "  both\n" in shown
    advised = shown.partition("\ndescription")[0].splitlines()
    commands = [line.strip() for line in advised if line.startswith("  ") and line.strip() != "both"]
    script = (
        "\n".join(f"{command} || true" if command.startswith("git merge ") else command for command in commands)
        .replace("git status ", "echo resolved >both; git add both; git status ")
        .replace("tasksd ", shlex.join(COMMAND) + " ")
    )
    done = subprocess.run(["sh", "-e"], input=script, env=desk.environ | {"GIT_EDITOR": "true"}, cwd=desk.folder,
                          capture_output=True, text=True, timeout=TIMEOUT, check=False)  # fmt: skip
    assert done.returncode == 0, (script, done.stderr)
    assert f"task {id_} merged as " in done.stderr
    assert (desk.repository / "both").read_text() == "resolved\n"
    assert "is kept" not in done.stderr
    assert desk.task(id_)["worktree"] is None


def test_logs_are_readable_lines_raw_output_or_json(desk: Desk) -> None:
    id_ = desk.ended(desk.hand_over(f"printf 'token {TOKEN}\\nno end'; echo oops >&2"))["task_id"]
    lines = desk.run("logs", id_).stdout.splitlines()
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  works in ", lines[0])
    assert [one["message"] for one in desk.json("logs", id_)] == [line[21:] for line in lines]
    assert re.fullmatch(r"token \[REDACTED:github:\w+\]\nno end", desk.run("logs", "--raw", id_).stdout)
    assert desk.run("logs", "--stderr", id_).stdout == "oops\n"
    assert desk.run("logs", "--raw", "--attempt", "1", id_[:5]).stdout.startswith("token ")
    assert "run 7" in desk.run("logs", "--raw", "--attempt", "7", id_, code=1).stderr
    for wrong in (["--raw", "--json"], ["--attempt", "1"]):
        assert "Error: " in desk.run("logs", id_, *wrong, code=2).stderr


def test_a_long_log_is_printed_whole_also_for_a_slow_reader(desk: Desk) -> None:
    id_ = desk.ended(desk.hand_over("seq 400000"))["task_id"]
    reader = desk.popen("logs", "--raw", id_)
    assert reader.stdout is not None
    first = reader.stdout.readline()
    assert select.select([reader.stdout], [], [], TIMEOUT)[0]
    until(lambda: desk.ask("GET", "/v1/pool")[0] == 200, "the daemon is not held up")
    with reader.stdout, reader.stderr or reader.stdout:
        rest = reader.stdout.read()
    assert reader.wait(TIMEOUT) == 0
    assert first + rest == "".join(f"{number}\n" for number in range(1, 400_001))


def test_following_goes_on_over_a_restart_and_ends_with_the_task(narrow: Desk) -> None:
    gate = narrow.folder / "gate"
    id_ = narrow.hand_over(f"echo one; until [ -e {gate} ]; do sleep 0.05; done; echo two")
    narrow.running(id_)
    raw = narrow.popen("logs", "--raw", "--follow", id_)
    activity = narrow.popen("logs", "--follow", "--json", id_)
    assert raw.stdout is not None and activity.stdout is not None
    assert raw.stdout.readline() == "one\n"
    begun = activity.stdout.readline()  # both have reached the daemon
    assert narrow.stop() == 0
    narrow.start()
    gate.touch()
    rest, said = raw.communicate(timeout=TIMEOUT)
    assert (rest, raw.returncode) == ("two\n", 0), said
    assert said.endswith("the task is completed\n")
    lines, _ = activity.communicate(timeout=TIMEOUT)
    assert activity.returncode == 0
    assert [json.loads(line) for line in (begun + lines).splitlines()] == narrow.json("logs", id_)


def test_what_agents_write_cannot_steer_a_terminal(desk: Desk) -> None:
    id_ = desk.ended(desk.hand_over(f"printf '%s\\n' '{HOSTILE}' # {HOSTILE}"))["task_id"]
    for arguments in (["tasks"], ["show", id_], ["logs", id_], ["logs", "--raw", id_]):
        shown, out, code = _on_a_terminal(desk, *arguments, both=True)
        assert code == 0
        assert not {"\x1b]0;", "\x1b[2J"} & {piece for piece in ("\x1b]0;", "\x1b[2J") if piece in shown + out}
        assert "\x07" not in shown + out
    assert HOSTILE in desk.run("logs", "--raw", id_).stdout


def test_the_pool_and_its_tasks_are_in_the_status(narrow: Desk) -> None:
    narrow.running(narrow.hand_over("sleep 1000"))
    narrow.hand_over("true")
    until(lambda: "1 of 1 busy, 1 waiting" in narrow.run("status").stdout, "the pool is in the status")
    assert "1 running, 1 queued" in narrow.run("status").stdout
    watcher = narrow.popen("tasks", "--watch", "--json", by=INTERRUPTIBLE)
    assert watcher.stdout is not None
    assert [len(json.loads(watcher.stdout.readline())) for _ in range(2)] == [2, 2]
    watcher.send_signal(signal.SIGINT)
    watcher.communicate(timeout=TIMEOUT)
    assert watcher.returncode == 130


def test_a_task_that_is_held_is_in_the_pool_and_in_the_status(narrow: Desk) -> None:
    narrow.run("pool", "resize", "2")
    first = narrow.hand_over("sleep 1000", isolate=False)
    narrow.running(first)
    second = narrow.hand_over("true", isolate=False)
    (held,) = until(lambda: narrow.json("pool")["held"], "the second waits for the first")
    assert (held["task_id"], held["priority"]) == (second, "normal")
    assert first in held["reason"]
    shown = until(lambda: "held" in (out := narrow.run("pool").stdout) and out, "it is shown")
    assert second in shown and held["reason"] in shown
    until(lambda: "1 queued (1 held)" in narrow.run("status").stdout, "it is in the status")
    narrow.run("cancel", second)
    assert narrow.json("pool")["held"] == []


# Steering


def test_the_pool_is_paused_resized_and_resumed(narrow: Desk) -> None:
    assert narrow.run("pool", "pause").stdout.startswith("pool      paused; 0 of 1 busy, 0 waiting\n")
    id_ = narrow.run("submit", "true").stdout.strip()
    until(lambda: narrow.json("pool")["queued_tasks"] == 1, "it waits")
    assert id_ in narrow.run("pool").stdout
    assert narrow.json("pool", "resize", "2")["total_workers"] == 2
    assert json.loads(narrow.run("pool", "--json", "resume").stdout)["paused"] is False
    narrow.ended(id_)
    assert "Error: " in narrow.run("pool", "resize", "0", code=2).stderr


def test_tasks_are_cancelled_and_tried_again(narrow: Desk) -> None:
    running, waiting = narrow.hand_over("sleep 1000"), narrow.hand_over("true")
    narrow.running(running)
    done = narrow.run("cancel", running, waiting, "zzz", code=1)
    assert f"task {running} stopped\n" in done.stderr
    assert f"task {waiting} stopped\n" in done.stderr
    assert "no task has the id zzz\n" in done.stderr
    assert done.stderr.endswith("2 tasks cancelled\n")
    until(lambda: narrow.run("retry", waiting, code=None).returncode == 0, "it can be tried again")
    narrow.ended(waiting)
    assert "there is nothing left to stop" in narrow.run("cancel", waiting, code=1).stderr
    assert waiting in narrow.run("retry", waiting, code=1).stderr


def test_cleaning_tells_first_and_then_removes(narrow: Desk) -> None:
    id_ = narrow.ended(narrow.hand_over("true"))["task_id"]
    folder = narrow.data / "runs" / id_
    assert "nothing to clean" in narrow.run("clean").stdout
    assert re.search(rf"{id_} .*would be removed", narrow.run("clean", "--older-than", "0", "--dry-run").stdout)
    assert folder.exists()
    assert {one["task_id"] for one in json.loads(narrow.run("clean", "--older-than=0", "--json").stdout)} == {id_}
    assert not folder.exists()
    for wrong in ("x", "-1d", "1y", "d"):
        assert "no length of time" in narrow.run("clean", f"--older-than={wrong}", code=2).stderr


def test_any_length_of_time_can_be_given_to_clean(desk: Desk) -> None:
    assert desk.json("clean", "--dry-run", "--older-than", "999999w") == []
    assert "no length of time" in desk.run("clean", "--older-than", "5", code=2).stderr


def test_ids_of_tasks_are_completed(desk: Desk) -> None:
    id_ = desk.ended(desk.hand_over("true"))["task_id"]
    for words in ("tasksd show ", "tasksd cancel ", "tasksd logs "):
        done = desk.run(_TASKSD_COMPLETE="bash_complete", COMP_WORDS=words + id_[:5], COMP_CWORD=str(words.count(" ")))
        assert id_ in [line.partition(",")[2] for line in done.stdout.split()]


@pytest.mark.parametrize("id_", ["", "../pool"])
@pytest.mark.parametrize("command", ["show", "logs", "logs --raw", "cancel", "retry", "merge", "session"])
def test_what_can_be_no_id_is_wrong_usage(desk: Desk, command: str, id_: str) -> None:
    done = desk.run(*command.split(), id_, code=2, by=THROUGH_CLICK)
    assert done.stdout == ""
    assert f"{id_!r} is no id" in done.stderr


def test_output_that_was_cleaned_away_is_said_to_be(desk: Desk) -> None:
    id_ = desk.ended(desk.hand_over("echo said"))["task_id"]
    assert "of run 7 of task" in desk.run("logs", "--raw", "--attempt", "7", id_, code=1).stderr
    desk.run("clean", "--older-than", "0")
    said = desk.run("logs", "--raw", id_, code=1).stderr
    assert f"there is no output of run 1 of task {id_}: it did not come to that, or `tasksd clean` removed it" in said


def test_the_doctor_warns_of_a_paused_pool_and_names_conflicts(desk: Desk) -> None:
    def found(check: str) -> list[dict[str, Any]]:
        done = desk.run("doctor", "--json", code=None)
        return [one for one in json.loads(done.stdout) if one["check"] == check]

    assert [one["verdict"] for one in found("pool")] == ["ok"]
    ours = "echo ours >doctor; git add doctor; git commit -qm ours"
    theirs = f"cd {desk.repository}; echo theirs >doctor; git add doctor; git commit -qm theirs"
    id_ = desk.ended(desk.hand_over(f"{ours}; {theirs}"))["task_id"]
    desk.run("pool", "pause")
    desk.hand_over("true")
    (pool,) = until(lambda: [one for one in found("pool") if "1 task waiting" in one["message"]], "it waits")
    assert (pool["verdict"], pool["message"]) == ("warning", "paused, 1 task waiting")
    assert "tasksd pool resume" in pool["remedy"]
    (conflict,) = (one for one in found("tasks") if id_ in one["message"])
    assert (conflict["verdict"], conflict["remedy"]) == ("warning", f"run `tasksd show {id_}`")
    desk.run("pool", "resume")
    assert [one["verdict"] for one in found("pool")] == ["ok"]


# Without a daemon


def test_without_a_daemon_readers_read_the_file_and_writers_say_what_to_do(narrow: Desk) -> None:
    done = narrow.ended(narrow.hand_over(f"echo said {TOKEN}"))["task_id"]
    running = narrow.hand_over("echo begun; sleep 1000")
    waiting = narrow.hand_over("true")
    narrow.running(running)
    until(lambda: narrow.run("logs", "--raw", running, code=None).stdout and narrow.task(running)["pid"], "it began")
    readers: tuple[list[str], ...] = (
        ["tasks", "--json"], ["tasks", "--live", "--json"], ["tasks", "--status", "completed", "--json"],
        ["show", done[:5], "--json"], ["logs", done, "--json"],
    )  # fmt: skip
    before = [json.loads(narrow.run(*one).stdout) for one in readers]
    raw = narrow.run("logs", "--raw", done).stdout
    assert narrow.stop() == 0
    for arguments, expected in zip(readers, before, strict=True):
        found = narrow.run(*arguments)
        assert json.loads(found.stdout) == expected
        assert "tasksd up" in found.stderr
    assert narrow.run("logs", "--raw", done).stdout == raw
    assert TOKEN not in raw
    assert "no daemon runs" in narrow.run("show", waiting).stdout
    assert "goes on by itself" in narrow.run("show", running).stdout
    status = json.loads(narrow.run("status", "--json", code=69).stdout)
    assert (status["pool"], status["tasks"]["statuses"]["running"]) == (None, 1)
    for writer in (
        ["submit", "true"], ["cancel", done], ["retry", done], ["merge", done], ["clean"], ["pool"], ["pool", "pause"],
        ["logs", "--follow", done], ["logs", "--raw", "--follow", done],
    ):  # fmt: skip
        refused = narrow.run(*writer, code=69)
        assert refused.stdout == ""
        assert "tasksd up" in refused.stderr
    narrow.start()


def test_who_watches_tasks_is_told_that_no_daemon_runs(narrow: Desk) -> None:
    narrow.ended(narrow.hand_over("true"))
    assert narrow.stop() == 0
    watcher = narrow.popen("tasks", "--watch", "--json", by=INTERRUPTIBLE)
    assert watcher.stdout is not None
    assert [len(json.loads(watcher.stdout.readline())) for _ in range(2)] == [1, 1]
    watcher.send_signal(signal.SIGINT)
    _, said = watcher.communicate(timeout=TIMEOUT)
    assert said.count("daemon not running") == 1
    narrow.start()


def test_without_a_database_nothing_is_made(tmp_path: Path) -> None:
    bare = Desk(tmp_path)
    for reader in (["tasks"], ["show", "abc"], ["logs", "abc"]):
        assert bare.run(*reader, code=69).stdout == ""
    assert not bare.data.exists()


def _on_a_terminal(desk: Desk, *arguments: str, both: bool = False) -> tuple[str, str, int]:
    """What a terminal shows (stderr, or `both`), stdout beside it, and the exit code."""
    ours, theirs = pty.openpty()
    started = subprocess.Popen(
        [*COMMAND, *arguments], env=desk.environ | {"TERM": "xterm-256color"}, cwd=desk.repository, stdin=theirs,
        stdout=theirs if both else subprocess.PIPE, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while select.select([ours], [], [], TIMEOUT)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # its end, on Linux
                break
            if not piece:
                break
            shown += piece
        out: Any = started.communicate(timeout=TIMEOUT)[0]
    finally:
        os.close(ours)
    return shown.decode(), (out or b"").decode(), started.returncode
