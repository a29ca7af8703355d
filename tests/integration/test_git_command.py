"""How git is started, bounded and understood, and the lock of a repository; with real processes and files."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tasks.errors import GitError, GitUnavailable, NotARepository, RepositoryBusy
from tasks.git.command import OUTPUT_BYTES, Git
from tasks.git.lock import lock_path, repository_lock

Eventually = Callable[..., None]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    subprocess.run(["git", "init", "-q", "-b", "main", str(tmp_path / "r")], check=True)
    return tmp_path / "r"


def program(folder: Path, body: str) -> Git:
    """A git of our own making, which first answers for its version."""
    script = folder / "fake-git"
    script.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && {{ echo "git version 2.40.1 (Apple Git-1)"; exit; }}\n{body}\n'
    )
    script.chmod(0o755)
    return Git(program=str(script), timeout=10)


def test_variables_of_git_and_other_languages_do_not_reach_it(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_CONFIG_PARAMETERS", "GIT_ASKPASS", "LANGUAGE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    said = program(repository, "env; readlink /dev/fd/0 || :").run("x", cwd=repository, environ={"GIT_X": "given"})
    environ = dict(line.split("=", 1) for line in said.stdout.decode().splitlines() if "=" in line)
    assert {name: value for name, value in environ.items() if name.startswith("GIT_")} == {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_X": "given",
    }
    assert (environ["LC_ALL"], environ["HOME"], "LANGUAGE" in environ) == ("C", os.environ["HOME"], False)
    assert said.stdout.endswith(b"/dev/null\n")


def test_input_of_megabytes_goes_in_and_comes_out(repository: Path) -> None:
    content = b"x" * 3_000_000
    blob = Git().run("hash-object", "-w", "--stdin", cwd=repository, input=content).stdout.decode().strip()
    assert Git().run("cat-file", "blob", blob, cwd=repository).stdout == content


def test_whole_group_of_a_slow_command_is_ended(repository: Path, eventually: Eventually) -> None:
    slow = program(repository, "sleep 60 & echo $! >pid; wait")
    before = time.monotonic()
    with pytest.raises(GitError, match=r"`git merge` in .* was stopped after 0\.5 s; raise git\.timeout"):
        slow.run("merge", cwd=repository, timeout=0.5)
    assert time.monotonic() - before < 5
    sleeper = int((repository / "pid").read_text())
    eventually(lambda: not Path(f"/proc/{sleeper}/cmdline").exists() or _is_zombie(sleeper))


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_process_that_git_leaves_behind_does_not_hold_the_answer_up(repository: Path) -> None:
    before = time.monotonic()
    assert program(repository, "sleep 8 & echo done").run("x", cwd=repository).stdout == b"done\n"
    assert time.monotonic() - before < 5


def test_too_much_output_is_an_error_and_not_a_full_memory(repository: Path) -> None:
    with pytest.raises(GitError, match="16 MiB of output"):
        program(repository, "yes").run("log", cwd=repository)
    assert OUTPUT_BYTES == 16 * 1024 * 1024


def test_a_command_is_ended_once_it_has_printed_enough(repository: Path, eventually: Eventually) -> None:
    endless = program(repository, "echo $$ >pid; yes")
    output = endless.run("log", cwd=repository, enough=100_001)
    assert (output.code, output.stdout) == (0, (b"y\n" * 50_001)[:100_001])
    shell = int((repository / "pid").read_text())
    eventually(lambda: not Path(f"/proc/{shell}/cmdline").exists() or _is_zombie(shell))
    assert program(repository, "echo all").run("log", cwd=repository, enough=100).stdout == b"all\n"
    with pytest.raises(GitError):
        program(repository, "echo some; exit 3").run("log", cwd=repository, enough=100)


def test_chatter_on_stderr_is_cut(repository: Path) -> None:
    said = program(repository, "head -c 3000000 /dev/zero | tr '\\0' x >&2").run("x", cwd=repository)
    assert len(said.stderr) == 64 * 1024


def test_lock_file_of_another_git_is_waited_for(repository: Path) -> None:
    lock = repository / ".git/index.lock"
    lock.touch()
    (repository / "a").touch()
    failed = threading.Event()
    git = program(repository, f'git "$@" || {{ code=$?; touch {repository}/failed; exit $code; }}')

    def let_go() -> None:
        while not (repository / "failed").exists() and not failed.is_set():
            time.sleep(0.005)
        lock.unlink()

    thread = threading.Thread(target=let_go)
    thread.start()
    try:
        git.run("add", "a", cwd=repository)
    finally:
        failed.set()
        thread.join()
    assert (repository / "failed").exists()
    assert Git().run("ls-files", cwd=repository).stdout == b"a\n"


@pytest.mark.parametrize(
    ("lock", "command"),
    [("index.lock", ("add", "a")), ("config.lock", ("config", "a.b", "c"))],
    ids=["index", "config"],
)
def test_lock_file_that_stays_is_named_and_not_deleted(repository: Path, lock: str, command: tuple[str, ...]) -> None:
    (repository / ".git" / lock).touch()
    (repository / "a").touch()
    with pytest.raises(RepositoryBusy, match=rf"\.git/{lock} for .* delete that file"):
        Git().run(*command, cwd=repository, patience=0.2, check=False)
    assert (repository / ".git" / lock).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_repository_of_somebody_else_is_refused_with_the_way_out(repository: Path) -> None:
    for path in (repository, repository / ".git"):
        os.chown(path, 1234, 1234)
    with pytest.raises(GitError) as caught:
        Git().run("status", cwd=repository, check=False)
    assert f"git config --global --add safe.directory {repository}" in str(caught.value)
    subprocess.run(["git", "config", "--global", "--add", "safe.directory", str(repository)], check=True)
    assert Git().run("status", "--porcelain", cwd=repository).code == 0


def test_folder_without_a_repository_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(NotARepository, match="git init"):
        Git().run("status", cwd=tmp_path, check=False)
    with pytest.raises(NotARepository, match="no such folder"):
        Git().run("status", cwd=tmp_path / "gone")


def test_failure_tells_the_command_the_folder_and_gits_own_words(repository: Path) -> None:
    with pytest.raises(GitError) as caught:
        Git().run("-c", "a.b=c", "rev-parse", "--verify", "nope", cwd=repository)
    assert str(caught.value).startswith(
        f"`git rev-parse` in {repository} ended with 128: fatal: Needed a single revision"
    )
    assert Git().run("rev-parse", "--verify", "nope", cwd=repository, check=False).code == 128


def test_git_that_is_missing_or_too_old_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(GitUnavailable, match=r"cannot run .*no-git.*install git 2\.30"):
        Git(program=str(tmp_path / "no-git")).run("status", cwd=tmp_path)
    for version, words in (("git version 2.29.3", r"git 2\.29\.3 is too old"), ("hello", "does not name a version")):
        script = tmp_path / "git"
        script.write_text(f"#!/bin/sh\necho {version}\n")
        script.chmod(0o755)
        with pytest.raises(GitUnavailable, match=words):
            _ = Git(program=str(script)).version
    assert program(tmp_path, "").version == (2, 40, 1)


# -- the lock of a repository


def test_lock_holds_against_threads_and_against_links_to_the_same_place(tmp_path: Path) -> None:
    locks, place, link = tmp_path / "locks", tmp_path / "r.git", tmp_path / "link"
    place.mkdir()
    link.symlink_to(place)
    assert lock_path(locks, place) == lock_path(locks, link) != lock_path(locks, tmp_path)
    inside, most, done = 0, 0, []

    def work(common: Path) -> None:
        nonlocal inside, most
        for _ in range(20):
            with repository_lock(locks, common):
                inside += 1
                most = max(most, inside)
                time.sleep(0.0005)
                inside -= 1
                done.append(1)

    threads = [threading.Thread(target=work, args=(common,)) for common in (place, link, place)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, len(done)) == (1, 60)


def test_lock_of_one_repository_does_not_hold_up_another(tmp_path: Path) -> None:
    with repository_lock(tmp_path, tmp_path / "a"), repository_lock(tmp_path, tmp_path / "b", timeout=0.1):
        pass


def test_lock_ends_with_the_process_that_is_killed(tmp_path: Path) -> None:
    source = (
        "import sys, time; from pathlib import Path; from tasks.git.lock import repository_lock\n"
        "with repository_lock(Path(sys.argv[1]), Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", source, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(RepositoryBusy, match="trying again"), repository_lock(tmp_path, tmp_path, timeout=0.1):
            pass
        holder.kill()
    with repository_lock(tmp_path, tmp_path, timeout=5) as fd:
        assert not os.get_inheritable(fd)
