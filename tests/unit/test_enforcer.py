"""The rules for commits: before and after a task, in a person's sessions, and what a command line would commit."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks.config import EnforcementSettings, GuardSettings
from tasks.database import SyncDatabase
from tasks.enforcer import Verdict, WorkflowEnforcer, guard, verdict_write, verdicts
from tasks.enforcer.commits import Commit, commits
from tasks.enforcer.guard import Memory, Question
from tasks.enforcer.shell import parse
from tasks.enforcer.snapshot import Snapshot, snapshot
from tasks.git import GitTracker
from tasks.words import RuleMode, Stage


class Workspace:
    """A repository with one commit on main."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")
        self.put("kept.txt", "kept\n")
        self.commit("first")

    def git(self, *words: str) -> str:
        return subprocess.check_output(["git", *words], cwd=self.root, text=True, stderr=subprocess.STDOUT).strip()

    def put(self, name: str, content: str = "new\n") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def commit(self, message: str = "more") -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def content(self) -> dict[str, tuple[bytes, int]]:
        files = (path for path in self.root.rglob("*") if path.is_file())
        return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No configuration of the machine counts, neither git's nor ours."""
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_", "TASKSD_"))]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "project")


def by(**rules: Any) -> WorkflowEnforcer:
    return WorkflowEnforcer(GitTracker(), rules=EnforcementSettings(**rules))


# The two methods of the public API.


def test_the_example_of_the_specification_runs_as_printed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(workspace.root)
    workspace.put("forgotten.txt")
    source = f"""
from tasks.enforcer import WorkflowEnforcer

enforcer = WorkflowEnforcer(git_tracker=git_tracker)

# Pre-task check
allowed, message = enforcer.check_pre_task(
    workspace="{path}",
    agent_type="code_agent"
)

if not allowed:
    print(f"Blocked: {{message}}")
    # "Uncommitted changes in {path}"

workspace.commit()
allowed, message = enforcer.check_pre_task(workspace="{path}", agent_type="code_agent")
print(allowed, repr(message))
workspace.put("work.py")

# Post-task validation
passed, message = enforcer.validate_post_task(
    task_id="abc123",
    workspace="{path}",
    agent_type="code_agent"
)

if not passed:
    print(f"Warning: {{message}}")
    # "Agent made file changes without committing"
"""
    exec(compile(source, "spec.md", "exec"), {"git_tracker": GitTracker(), "workspace": workspace})  # noqa: S102
    blocked, clean, warning = capsys.readouterr().out.splitlines()
    assert blocked.startswith(f"Blocked: Uncommitted changes in {path}")
    assert "forgotten.txt" in blocked
    assert clean == "True ''"
    assert warning.startswith("Warning: Agent made file changes without committing")
    assert "work.py" in warning


def test_committed_work_passes(workspace: Workspace) -> None:
    enforcer = WorkflowEnforcer()
    assert enforcer.check_pre_task(workspace.root) == (True, "")
    workspace.put("work.py")
    workspace.commit()
    assert enforcer.validate_post_task("abc123", workspace.root) == (True, "")


@pytest.mark.parametrize(
    ("mode", "allowed", "says"), [("block", False, True), ("warn", True, True), ("off", True, False)]
)
def test_mode_decides_what_a_dirty_workspace_means(workspace: Workspace, mode: str, allowed: bool, says: bool) -> None:
    workspace.put("new.txt")
    answer, message = by(pre_task=RuleMode(mode)).check_pre_task(workspace.root, "code_agent")
    assert (answer, bool(message)) == (allowed, says)


def test_post_task_rule_that_is_off_passes_everything(workspace: Workspace) -> None:
    enforcer = by(post_task=RuleMode.OFF, commits_required=True)
    workspace.put("new.txt")
    assert enforcer.validate_post_task("abc123", workspace.root) == (True, "")


@pytest.mark.parametrize("pre_task", ["warn", "off"])
def test_what_was_dirty_before_is_not_held_against_the_agent(workspace: Workspace, pre_task: str) -> None:
    enforcer = by(pre_task=RuleMode(pre_task))
    mine, other = workspace.put("mine.txt"), workspace.put("other.txt")
    workspace.put("kept.txt", "changed\n")
    workspace.git("add", "other.txt")
    assert enforcer.check_pre_task(workspace.root)[0]
    assert enforcer.validate_post_task("abc123", workspace.root) == (True, "")
    os.utime(other, (1, 1))  # as an editor that saves the same again
    workspace.git("add", "mine.txt")
    assert enforcer.validate_post_task("abc123", workspace.root) == (True, "")
    mine.write_text("and more\n")
    passed, message = enforcer.validate_post_task("abc123", workspace.root)
    assert not passed
    assert "mine.txt" in message
    assert "other.txt" not in message


@pytest.mark.parametrize("change", ["same size", "deleted", "made a link", "made executable", "in a folder", "large"])
def test_every_kind_of_further_change_is_seen(workspace: Workspace, change: str) -> None:
    enforcer = by(pre_task=RuleMode.OFF)
    path = workspace.put("folder/mine.txt", "x" * (3 << 20 if change == "large" else 9))
    workspace.put("kept.txt", "changed")
    enforcer.check_pre_task(workspace.root)
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    match change:
        case "same size":
            path.write_text("y" * 9)
            os.utime(path, ns=times)
        case "deleted":
            (workspace.root / "kept.txt").unlink()
        case "made a link":
            path.unlink()
            path.symlink_to("kept.txt")
        case "made executable":
            path.chmod(0o755)
        case "in a folder":
            workspace.put("folder/another.txt")
        case _:
            path.write_text("y" * (3 << 20))
    assert not enforcer.validate_post_task("abc123", workspace.root)[0]


def test_one_change_among_more_than_are_looked_at_is_told_by_its_name(workspace: Workspace) -> None:
    for number in range(5_100):
        (workspace.root / f"{number}.txt").touch()
    enforcer = by(pre_task=RuleMode.OFF)
    enforcer.check_pre_task(workspace.root)
    assert enforcer.validate_post_task("abc123", workspace.root) == (True, "")
    workspace.put("zzz.txt")
    passed, message = enforcer.validate_post_task("abc123", workspace.root)
    assert (passed, "zzz.txt" in message) == (False, True)


def test_another_tasks_look_does_not_change_what_a_task_is_measured_by(workspace: Workspace) -> None:
    enforcer = by(pre_task=RuleMode.WARN)
    enforcer.pre_task(workspace.root, task_id="abc123")
    workspace.put("work.py")
    enforcer.pre_task(workspace.root)
    enforcer.pre_task(workspace.root, task_id="other1")
    assert not enforcer.post_task("abc123", workspace.root).passed
    assert enforcer.post_task("other1", workspace.root).passed


def test_look_without_a_task_does_not_count_as_its_beginning(workspace: Workspace) -> None:
    enforcer = by(pre_task=RuleMode.WARN)
    enforcer.check_pre_task(workspace.root)
    workspace.put("work.py")
    enforcer.pre_task(workspace.root)
    assert not enforcer.validate_post_task("abc123", workspace.root)[0]


def test_state_of_a_worktree_after_its_set_up_can_be_remembered(workspace: Workspace) -> None:
    enforcer = by()
    workspace.put("made by the set-up")
    assert not enforcer.post_task("abc123", workspace.root).passed
    enforcer.remember(workspace.root, task_id="abc123")
    assert enforcer.post_task("abc123", workspace.root).passed


def test_commit_is_required_only_where_the_rules_say_so(workspace: Workspace) -> None:
    strict = by(commits_required=True)
    assert by().validate_post_task("abc123", workspace.root) == (True, "")
    strict.check_pre_task(workspace.root)
    passed, message = strict.validate_post_task("abc123", workspace.root)
    assert (passed, message.startswith("Agent made no commit")) == (False, True)
    base = workspace.git("rev-parse", "HEAD")
    workspace.commit()
    assert strict.validate_post_task("abc123", workspace.root) == (True, "")
    assert strict.validate_post_task("abc123", workspace.root, base_commit=base) == (True, "")
    head = workspace.git("rev-parse", "HEAD")
    assert not strict.validate_post_task("abc123", workspace.root, base_commit=head)[0]


@pytest.mark.parametrize(("mode", "passed"), [("block", False), ("warn", True)])
def test_where_an_agent_began_must_be_known_to_require_a_commit(workspace: Workspace, mode: str, passed: bool) -> None:
    enforcer = by(commits_required=True, post_task=RuleMode(mode))
    answer, message = enforcer.validate_post_task("abc123", workspace.root)
    assert answer is passed
    assert "Cannot check" in message


def test_rules_of_the_agents_type_count(workspace: Workspace) -> None:
    off = EnforcementSettings(pre_task=RuleMode.OFF, post_task=RuleMode.OFF)
    enforcer = WorkflowEnforcer(rules=EnforcementSettings(types={"scout": off}))
    workspace.put("new.txt")
    assert enforcer.check_pre_task(workspace.root, "scout") == (True, "")
    assert not enforcer.check_pre_task(workspace.root, "code_agent")[0]
    assert enforcer.validate_post_task("abc123", workspace.root, "scout") == (True, "")


def test_rules_come_from_the_config_file(workspace: Workspace, home: Path) -> None:
    folder = home / ".config/tasksd"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(
        '[enforcement]\nexempt = ["*.log"]\n[enforcement.types.scout]\npre_task = "off"\n'
    )
    workspace.put("a.log")
    assert WorkflowEnforcer().check_pre_task(workspace.root) == (True, "")
    workspace.put("a.txt")
    assert not WorkflowEnforcer().check_pre_task(workspace.root)[0]
    assert WorkflowEnforcer().check_pre_task(workspace.root, "scout") == (True, "")


def test_only_what_counts_as_dirty_is_dirt(workspace: Workspace) -> None:
    workspace.put("new.txt")
    assert by(dirty=("staged", "unstaged")).check_pre_task(workspace.root) == (True, "")
    workspace.git("add", "new.txt")
    assert not by(dirty=("staged", "unstaged")).check_pre_task(workspace.root)[0]


def test_merge_under_way_is_dirt_with_a_name(workspace: Workspace) -> None:
    workspace.git("switch", "-q", "-c", "side")
    workspace.put("kept.txt", "side\n")
    workspace.commit()
    workspace.git("switch", "-q", "main")
    workspace.put("kept.txt", "main\n")
    workspace.commit()
    subprocess.run(["git", "merge", "side"], cwd=workspace.root, capture_output=True, check=False)
    assert "merge in progress" in by().check_pre_task(workspace.root)[1]


# Workspaces of every kind.


def test_folder_outside_a_repository_passes_and_that_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "file").touch()
    allowed, message = by().check_pre_task(folder)
    assert allowed
    assert "not in a git repository" in message
    assert by().validate_post_task("abc123", folder)[0]
    allowed, message = by().check_pre_task(tmp_path / "missing")
    assert allowed
    assert "missing" in message


def test_repository_that_is_gone_after_the_task_is_reported(workspace: Workspace) -> None:
    enforcer = by()
    enforcer.check_pre_task(workspace.root)
    shutil.rmtree(workspace.root / ".git")
    passed, message = enforcer.validate_post_task("abc123", workspace.root)
    assert not passed
    assert message.startswith("Agent made file changes without committing")


def test_bare_repository_passes_and_that_is_said(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "bare")], check=True)
    allowed, message = by().check_pre_task(tmp_path / "bare")
    assert allowed
    assert "bare" in message
    assert by().validate_post_task("abc123", tmp_path / "bare")[0]


def test_repository_without_a_commit_is_judged_by_its_files(tmp_path: Path) -> None:
    root = tmp_path / "unborn"
    subprocess.run(["git", "init", "-q", "-b", "main", str(root)], check=True)
    enforcer = by(commits_required=True)
    assert enforcer.check_pre_task(root) == (True, "")
    assert not enforcer.validate_post_task("abc123", root)[0]
    (root / "first.txt").touch()
    assert "first.txt" in enforcer.validate_post_task("abc123", root)[1]
    subprocess.run(["git", "add", "-A"], cwd=root, check=True)
    subprocess.run(["git", "commit", "-q", "-m", "first"], cwd=root, check=True)
    assert enforcer.validate_post_task("abc123", root) == (True, "")


@pytest.mark.parametrize("mode", ["block", "warn", "off"])
def test_rule_that_cannot_be_checked_blocks_only_where_it_blocks(
    workspace: Workspace, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    enforcer = by(pre_task=RuleMode(mode), post_task=RuleMode(mode))
    for answer, message in (enforcer.check_pre_task(workspace.root), enforcer.validate_post_task("a", workspace.root)):
        assert answer is (mode != "block")
        assert message.startswith(f"Cannot check {workspace.root}") is (mode != "off")
        assert ("git" in message) is (mode != "off")


def test_damaged_repository_blocks_with_the_reason(workspace: Workspace) -> None:
    (workspace.root / ".git/index").write_bytes(b"no index")
    allowed, message = by().check_pre_task(workspace.root)
    assert not allowed
    assert message.startswith("Cannot check")


def test_folder_inside_the_repository_answers_for_all_of_it(workspace: Workspace) -> None:
    workspace.put("sub/kept.txt")
    workspace.commit()
    workspace.put("elsewhere.txt")
    assert not by().check_pre_task(workspace.root / "sub")[0]


def test_looking_changes_nothing(workspace: Workspace) -> None:
    workspace.put("new.txt")
    before = workspace.content()
    enforcer = by(pre_task=RuleMode.WARN)
    enforcer.check_pre_task(workspace.root)
    enforcer.validate_post_task("abc123", workspace.root)
    assert workspace.content() == before


def test_names_that_are_no_text_are_printable_in_messages(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.root / os.fsdecode(b"bad\xff\n")).touch()
    enforcer = WorkflowEnforcer(data_dir=tmp_path / "data")
    allowed, message = enforcer.check_pre_task(workspace.root)
    enforcer.close()
    assert not allowed
    assert message.isprintable()


# Verdicts.


def test_verdicts_are_recorded_and_found_again(workspace: Workspace, tmp_path: Path) -> None:
    enforcer = WorkflowEnforcer(data_dir=tmp_path / "data")
    enforcer.check_pre_task(workspace.root, "code_agent")
    workspace.put("new.txt")
    enforcer.validate_post_task("abc123", workspace.root, "code_agent")
    enforcer.close()
    store = SyncDatabase(tmp_path / "data/tasks.db")
    post, pre = verdicts(store.query)
    assert (pre["stage"], pre["mode"], pre["passed"], pre["task_id"]) == ("pre_task", "block", True, None)
    assert (post["stage"], post["mode"], post["passed"]) == ("post_task", "warn", False)
    assert (post["task_id"], post["agent_type"], post["workspace"]) == ("abc123", "code_agent", str(workspace.root))
    assert verdicts(store.query, task_id="abc123") == [post]
    assert verdicts(store.query, limit=1) == [post]
    assert verdicts(store.query, since=post["timestamp"] + 1) == []
    store.close()


def test_rule_that_is_off_leaves_no_record(workspace: Workspace, tmp_path: Path) -> None:
    rules = EnforcementSettings(pre_task=RuleMode.OFF)
    enforcer = WorkflowEnforcer(rules=rules, data_dir=tmp_path / "data")
    enforcer.check_pre_task(workspace.root)
    enforcer.close()
    assert not (tmp_path / "data/tasks.db").exists()


def test_store_that_fails_takes_no_answer_away(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    enforcer = WorkflowEnforcer(data_dir=tmp_path / "data")
    assert enforcer.check_pre_task(workspace.root) == (True, "")


def test_write_of_a_verdict_is_a_value() -> None:
    verdict = Verdict(Stage.STOP, RuleMode.BLOCK, passed=False, message="m\udcff", workspace="/w")
    (row,) = verdict_write(verdict, timestamp=7).rows
    assert isinstance(row, Mapping)
    assert (row["timestamp"], row["passed"], row["message"]) == (7, 0, "m\\xff")


# Snapshots.


def test_snapshot_survives_its_way_through_the_store(workspace: Workspace) -> None:
    workspace.put("new.txt")
    taken = snapshot(GitTracker().state(workspace.root), ("untracked",), ())
    memory = Memory(taken, in_turn=True, sent_back=2)
    row = memory.writes("s", 5)[0].rows[0]
    assert isinstance(row, Mapping)
    again = Memory.from_row(str(row["baseline"]), 2)
    assert again is not None
    assert (again.in_turn, again.sent_back, again.seen.root) == (True, 2, str(workspace.root))
    assert taken.changed_since(again.seen) == ()
    assert again.seen.changed_since(None) == ("new.txt",)


@pytest.mark.parametrize("baseline", ["", "[]", "{}", "no", '{"/a": "x"}', "null"])
def test_row_that_cannot_be_read_is_no_memory(baseline: str) -> None:
    assert Memory.from_row(baseline, 0) is None


def test_snapshot_of_too_much_or_of_another_place_tells_nothing() -> None:
    some = Snapshot("/a", None, {"x": "1 2 3"})
    assert some.changed_since(Snapshot("/b", None)) is None
    assert some.changed_since(Snapshot("/a", None, complete=False)) is None


def test_too_many_files_are_dirt_by_their_number() -> None:
    crowded = Snapshot("/repo", None, complete=False)
    for earlier in (None, CLEAN):
        assert crowded.changed_since(earlier) == ("more than 20,000 files",)
    said = block(guard.on_stop(STOP, SETTINGS, crowded, Memory(CLEAN, in_turn=True))) or ""
    assert "git status --short" in said
    assert "add -- 'more" not in said
    assert block(guard.on_prompt(PROMPT, RuleMode.BLOCK, crowded, None))


# What a command line commits.

IN = "/repo"
COMMITS: dict[str, list[Commit]] = {
    "git commit -m x": [Commit(IN, "commit")],
    "git -C sub commit": [Commit(f"{IN}/sub", "commit")],
    "git -C sub -C .. commit": [Commit(IN, "commit")],
    "git -c a.b=c --no-pager commit -m 'x y'": [Commit(IN, "commit")],
    "/usr/bin/git commit": [Commit(IN, "commit")],
    "g'i't \"commit\"": [Commit(IN, "commit")],
    "\\git commit": [Commit(IN, "commit")],
    "cd sub && git commit": [Commit(f"{IN}/sub", "commit")],
    "cd sub; cd ..; git commit": [Commit(IN, "commit")],
    "cd sub || exit 1; git commit": [Commit(f"{IN}/sub", "commit")],
    "pushd sub >/dev/null && git commit": [Commit(f"{IN}/sub", "commit")],
    "cd ~/proj && git commit": [Commit("/home/u/proj", "commit")],
    'cd "$HOME/proj" && git commit': [Commit("/home/u/proj", "commit")],
    'cd "${HOME}/proj" && git commit': [Commit("/home/u/proj", "commit")],
    "(cd sub; git commit); git commit": [Commit(f"{IN}/sub", "commit"), Commit(IN, "commit")],
    "cd sub | git commit": [Commit(IN, "commit")],
    "cd sub & git commit": [Commit(IN, "commit")],
    "ls | cd sub; git commit": [Commit(IN, "commit")],
    "git add -A && git commit -m 'a; b' && git push": [Commit(IN, "commit")],
    "git add -A \\\n  && git commit": [Commit(IN, "commit")],
    "bash -c 'git commit'": [Commit(IN, "commit")],
    'bash -ec "cd sub && git commit"': [Commit(f"{IN}/sub", "commit")],
    "sh -c 'bash -c \"git commit\"'": [Commit(IN, "commit")],
    "eval 'git commit -m x'": [Commit(IN, "commit")],
    "env A=b git commit": [Commit(IN, "commit")],
    "A=b C=d git commit": [Commit(IN, "commit")],
    "env -C sub git commit": [Commit(f"{IN}/sub", "commit")],
    "timeout -k 1 5 nice -n 5 git commit": [Commit(IN, "commit")],
    "command git commit": [Commit(IN, "commit")],
    "if true; then git commit; fi": [Commit(IN, "commit")],
    "{ git commit; }": [Commit(IN, "commit")],
    "! git commit": [Commit(IN, "commit")],
    "for i in 1 2; do git commit -m $i; done": [Commit(IN, "commit")],
    "echo $(git commit -m x)": [Commit(IN, "commit")],
    'x="a $(git commit -m x) b"': [Commit(IN, "commit")],
    "echo `git commit`": [Commit(IN, "commit")],
    "cat <(git commit)": [Commit(IN, "commit")],
    "git commit 2>&1 | tee log": [Commit(IN, "commit")],
    "git commit >out 2>err </dev/null": [Commit(IN, "commit")],
    'git commit -m "$(cat <<\'EOF\'\nit\'s (fine) "here"\nEOF\n)" && git push': [Commit(IN, "commit")],
    "cat >f <<EOF && git commit -F f\nmessage\nEOF": [Commit(IN, "commit")],
    "cat <<-EOF\n\tgit merge x\n\tEOF\ngit commit": [Commit(IN, "commit")],
    "echo $((1<<2)); git commit": [Commit(IN, "commit")],
    "git commit --amend --no-edit": [Commit(IN, "commit")],
    "git merge side": [Commit(IN, "merge", heads=("side",))],
    "git merge --continue": [Commit(IN, "merge", heads=("--continue",))],
    "git cherry-pick abc": [Commit(IN, "cherry-pick")],
    "git revert HEAD": [Commit(IN, "revert")],
    "git am <patch": [Commit(IN, "am")],
    "git checkout -b x && git commit": [Commit(IN, "commit", "x")],
    "git switch -c x && git commit": [Commit(IN, "commit", "x")],
    "git checkout main && git commit": [Commit(IN, "commit", "main")],
    "git switch -q main; git commit": [Commit(IN, "commit", "main")],
    "git checkout -- f && git commit": [Commit(IN, "commit")],
    "git checkout . && git commit": [Commit(IN, "commit")],
    "git stash && git commit": [Commit(IN, "commit")],
    "git branch x && git commit": [Commit(IN, "commit")],
}

NO_COMMITS = [
    *("", " ", "ls", "echo git commit", "echo 'git commit'", "# git commit", "ls # git commit", "git", "git -C"),
    *("git log --grep commit", "git commit --dry-run", "git commit --help", "git merge --abort", "git cherry-pick -n x"),
    *("git merge --ff-only x", "git merge --squash x", "git revert --no-commit x", "git am --abort", "git commit-tree x"),
    *("cat <<EOF\ngit commit\nEOF", "cat <<'EOF'\n$(git commit)\nEOF\n", "grep 'git commit' f", "echo \"git commit\""),
    *("cd $X && git commit", "cd $(pwd) && git commit", "cd - && git commit", "cd su* && git commit", "git -C $X commit"),
    *("cd sub || cd ..; git commit", "popd; git commit", "GIT_DIR=x git commit", "git --git-dir=x commit"),
    *("git $X", "$GIT commit", "git \"$(echo commit)\"", "f() { git commit; }", "git commit -m 'unfinished"),
    *("git commit -m \"$(", "xargs git commit", "command -v git commit", "bash script git commit", "bash -c \"$X\""),
    *("git checkout -b x && cd sub && git commit", "git checkout $X && git commit", "git switch - && git commit"),
    *("git branch -m x && git commit", "git rebase side && git commit", "git stash branch x && git commit"),
    *("ls > git commit", "ls >\ngit commit", "a=(git commit)", "sudo -u", "env -S 'git commit'", "echo ${x:-git commit}"),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMITS, ids=str)
def test_commits_of_a_command_line_are_found_where_they_are_made(command: str) -> None:
    assert commits(command, IN, home="/home/u") == COMMITS[command]


@pytest.mark.parametrize("rest", ["f() { git merge x; }; f", "a=(git merge x)", "case x in x) ls;; esac | $(case"])
def test_what_is_not_understood_takes_nothing_back(rest: str) -> None:
    assert commits(f"git commit; {rest}", IN) == [Commit(IN, "commit")]


@pytest.mark.parametrize("command", NO_COMMITS, ids=repr)
def test_what_makes_no_commit_for_certain_is_let_through(command: str) -> None:
    assert commits(command, IN, home="/home/u") == []


@pytest.mark.parametrize("command", [*COMMITS, *NO_COMMITS], ids=repr)
def test_every_commit_found_is_one_that_bash_makes_there(command: str, tmp_path: Path) -> None:
    """Judged by bash itself, with a git that only writes down how it was called."""
    if shutil.which("bash") is None:
        pytest.skip("bash is not here")
    repo, home, calls = tmp_path / "repo", tmp_path / "home", tmp_path / "calls"
    programs = tmp_path / "bin"
    for folder in (repo / "sub", home / "proj", programs):
        folder.mkdir(parents=True, exist_ok=True)
    calls.touch()
    (programs / "git").write_text(f'#!/bin/bash\nprintf "%s|" "$PWD" "$@" >>"{calls}"\necho >>"{calls}"\n')
    (programs / "git").chmod(0o755)
    (repo / "patch").touch()
    ours = command.replace("/usr/bin/git", f"{programs}/git")
    found = commits(ours, str(repo), home=str(home))
    environ = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(home)}
    subprocess.run(
        ["bash", "-c", ours],
        cwd=repo,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )
    made = []
    for line in calls.read_text(errors="replace").splitlines():
        where, *words = line.split("|")
        while "-C" in words[:-1] and words.index("-C") < 3:
            at = words.index("-C")
            where = os.path.normpath(os.path.join(where, words[at + 1]))
            del words[at : at + 2]
        made.append((where, words))
    for one in found:
        assert any(where == one.directory and one.verb in words for where, words in made), (one, made)


def test_end_that_is_missing_makes_the_last_command_uncertain() -> None:
    whole = "git commit -m a && git commit --dry"
    assert len(commits(whole, IN)) == 2
    assert len(commits(whole, IN, cut=True)) == 1
    assert commits("git commit -m a;", IN, cut=True) == [Commit(IN, "commit")]


@given(st.text(alphabet="gitcommd -'\"\\$`;&|()<>{}#~\n\0\1E", max_size=60) | st.text(max_size=60))
def test_no_text_is_too_strange(text: str) -> None:
    commits(text, IN, home="/home/u")
    parse(text)


HOSTILE = {
    "quotes": "'\"", "substitutions": "$(", "parentheses": "(", "heredocs without end": "<<a ",
    "heredocs": "<<a\nx\na\n", "many delimiters": "<<a{n}\nx\na{n}\n", "back quotes": "`a` ",
    "backslashes": "\\", "digits": "1",
    "blanks": " ", "commits": "git commit;", "inner commits": '"$(git commit)" ', "comments": "#\n", "braces": "${",
    "shells": "bash -c ", "evals": "eval ", "arithmetic": "((", "folders": "env -C x ", "moves": "cd x;", "tildes": "~",
    "redirections": "<", "switches": "git switch -c x;", "keywords": "then ",
}  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_of_a_megabyte_costs_linear_time(piece: str) -> None:
    def text(size: int) -> str:
        if "{n}" in piece:
            return "".join(piece.format(n=number) for number in range(size // len(piece)))
        return piece * (size // len(piece))

    def cost(size: int) -> float:
        given = text(size)
        started = time.process_time()
        commits(given, IN, home="/home/u")
        return time.process_time() - started

    small, large = min(cost(1 << 17) for _ in range(2)), cost(1 << 20)
    assert large < max(small, 0.01) * 30  # 8 times the text; 64 times the time would be quadratic


# What the guard answers.

CLEAN = Snapshot("/repo", "c1", branch="side")
MINE = replace(CLEAN, prints={"mine.txt": "1 1 a"})
MORE = replace(CLEAN, prints={"mine.txt": "1 1 a", "work.py": "1 1 b"})
PROMPT = Question("UserPromptSubmit", "session1-x", "/repo", "Do it")
STOP = Question("Stop", "session1-x", "/repo")
SETTINGS = GuardSettings()


def block(reply: guard.Reply) -> str | None:
    return reply.answer.get("reason") if reply.answer.get("decision") == "block" else None


def test_first_prompt_is_warned_of_everything_that_is_dirty() -> None:
    reply = guard.on_prompt(PROMPT, RuleMode.WARN, MINE, None)
    said = reply.answer["hookSpecificOutput"]
    assert said["hookEventName"] == "UserPromptSubmit"
    assert "mine.txt" in said["additionalContext"]
    assert reply.memory == Memory(MINE, in_turn=True)
    assert reply.verdict is not None
    assert not reply.verdict.passed


def test_blocked_prompt_begins_no_turn() -> None:
    reply = guard.on_prompt(PROMPT, RuleMode.BLOCK, MINE, None)
    assert "mine.txt" in (block(reply) or "")
    assert reply.memory is None


def test_clean_workspace_says_nothing() -> None:
    reply = guard.on_prompt(PROMPT, RuleMode.BLOCK, CLEAN, None)
    assert (reply.answer, reply.verdict, reply.memory) == ({}, None, Memory(CLEAN, in_turn=True))


@pytest.mark.parametrize(
    ("memory", "now", "foreign"),
    [
        (Memory(MINE, in_turn=False), MINE, None),  # known already, or left by the session itself
        (Memory(MINE, in_turn=False), MORE, "work.py"),  # changed while the session was idle
        (Memory(CLEAN, in_turn=True), MORE, None),  # an interrupted turn's own
        (Memory(Snapshot("/other", None), in_turn=False), MINE, "mine.txt"),
    ],
)
def test_later_prompts_are_held_up_only_by_what_came_from_outside(
    memory: Memory, now: Snapshot, foreign: str | None
) -> None:
    said = block(guard.on_prompt(PROMPT, RuleMode.BLOCK, now, memory))
    assert (said is not None) == (foreign is not None)
    assert foreign is None or foreign in (said or "")


@pytest.mark.parametrize("change", [{"prompt": "<task-notification>done"}, {"task_id": "abc123"}])
def test_prompt_rule_is_for_people_in_their_own_sessions(change: dict[str, Any]) -> None:
    reply = guard.on_prompt(replace(PROMPT, **change), RuleMode.BLOCK, MINE, None)
    assert reply.answer == {}
    assert reply.memory == Memory(MINE, in_turn=True)


def test_notification_gives_no_new_patience() -> None:
    memory = Memory(CLEAN, in_turn=False, sent_back=2)
    reply = guard.on_prompt(replace(PROMPT, prompt="<task-notification>x"), RuleMode.WARN, MORE, memory)
    assert reply.memory == replace(memory, in_turn=True)
    assert guard.on_prompt(PROMPT, RuleMode.WARN, MORE, memory).memory == Memory(MORE, in_turn=True, sent_back=0)


def test_rule_that_is_off_still_remembers_for_the_stop() -> None:
    reply = guard.on_prompt(PROMPT, RuleMode.OFF, MINE, None)
    assert (reply.answer, reply.memory) == ({}, Memory(MINE, in_turn=True))


def test_stop_is_sent_back_as_often_as_set_and_then_let_go() -> None:
    memory: Memory | None = Memory(MINE, in_turn=True)
    answers = []
    for at in range(4):
        reply = guard.on_stop(replace(STOP, stop_hook_active=at > 0), SETTINGS, MORE, memory)
        answers.append(block(reply))
        memory = reply.memory
        if at == 2:
            assert reply.verdict is not None
            assert "let go" in reply.verdict.message
    assert [answer is not None for answer in answers] == [True, True, False, False]
    assert "git add -- work.py && git commit" in (answers[0] or "")
    assert "mine.txt" not in (answers[0] or "")


def test_stop_after_a_commit_passes_and_the_reminder_is_recorded() -> None:
    assert guard.on_stop(STOP, SETTINGS, MINE, Memory(MINE, in_turn=True)).verdict is None
    reply = guard.on_stop(STOP, SETTINGS, MINE, Memory(MINE, in_turn=True, sent_back=1))
    assert reply.answer == {}
    assert reply.verdict is not None
    assert reply.verdict.passed
    assert reply.memory == Memory(MINE, in_turn=False, sent_back=1)


@pytest.mark.parametrize("change", [{"permission_mode": "plan"}, {"agent_id": "a1"}], ids=["plan mode", "subagent"])
def test_agent_that_may_not_commit_is_not_sent_back(change: dict[str, Any]) -> None:
    assert guard.on_stop(replace(STOP, **change), SETTINGS, MORE, Memory(MINE, in_turn=True)).answer == {}


@pytest.mark.parametrize("memory", [None, Memory(MINE, in_turn=False), Memory(Snapshot("/other", None), in_turn=True)])
def test_stop_whose_prompt_was_not_seen_is_let_go(memory: Memory | None) -> None:
    reply = guard.on_stop(STOP, SETTINGS, MORE, memory)
    assert (reply.answer, reply.verdict) == ({}, None)
    assert reply.memory is not None
    assert reply.memory.seen == MORE


def test_stop_that_only_warns_tells_the_person() -> None:
    reply = guard.on_stop(STOP, replace(SETTINGS, stop=RuleMode.WARN), MORE, Memory(MINE, in_turn=True))
    assert "work.py" in reply.answer["systemMessage"]
    assert "decision" not in reply.answer


def test_stop_on_a_protected_branch_is_told_to_leave_it_first() -> None:
    on_main = replace(MORE, branch="main")
    memory = Memory(replace(MINE, branch="main"), in_turn=True)
    assert "git switch -c agent/session1 && git add" in (block(guard.on_stop(STOP, SETTINGS, on_main, memory)) or "")
    free = replace(SETTINGS, commit=RuleMode.OFF)
    assert "switch" not in (block(guard.on_stop(STOP, free, on_main, memory)) or "")


def test_commands_that_the_agent_is_told_to_run_do_what_they_say(workspace: Workspace) -> None:
    workspace.put("staged by a person.txt")
    workspace.git("add", "-A")
    before = snapshot(GitTracker().state(workspace.root), EnforcementSettings().dirty, ())
    workspace.put("it's new;.txt")
    (workspace.root / "kept.txt").unlink()
    now = snapshot(GitTracker().state(workspace.root), EnforcementSettings().dirty, ())
    question = replace(STOP, directory=str(workspace.root.parent))
    said = block(guard.on_stop(question, SETTINGS, now, Memory(before, in_turn=True))) or ""
    command = said.partition("`")[2].partition("`")[0]
    subprocess.run(command, shell=True, check=True, capture_output=True, cwd=workspace.root.parent)  # noqa: S602
    assert workspace.git("status", "--porcelain") == 'A  "staged by a person.txt"'
    assert workspace.git("log", "--format=%s", "main") == "first"
    after = snapshot(GitTracker().state(workspace.root), EnforcementSettings().dirty, ())
    assert guard.on_stop(question, SETTINGS, after, Memory(before, in_turn=True)).answer == {}


def test_many_files_are_counted_and_not_all_spelled_out() -> None:
    many = replace(CLEAN, prints={f"folder/with/a/long/name/{n}.txt": "1 1 a" for n in range(500)})
    said = block(guard.on_stop(STOP, SETTINGS, many, Memory(CLEAN, in_turn=True))) or ""
    assert len(said) < 2_000
    assert "495 more" in said
    assert "git status --short" in said


def test_merge_that_the_agent_left_open_is_named() -> None:
    merging = replace(MORE, prints={**MORE.prints, "merge in progress": ""}, in_progress="merge in progress")
    said = block(guard.on_stop(STOP, SETTINGS, merging, Memory(MINE, in_turn=True))) or ""
    assert "Finish the merge" in said
    assert "add -- work.py &&" in said


def test_denied_commit_says_what_to_do_instead() -> None:
    reply = guard.on_commit(STOP, RuleMode.BLOCK, Commit("/repo", "commit"), "main")
    said = reply.answer["hookSpecificOutput"]
    assert said["permissionDecision"] == "deny"
    assert "git switch -c agent/session1" in said["permissionDecisionReason"]
    warned = guard.on_commit(STOP, RuleMode.WARN, Commit("/repo", "merge"), "main").answer["hookSpecificOutput"]
    assert "permissionDecision" not in warned
    assert "main" in warned["additionalContext"]


def test_protected_branches_may_be_patterns() -> None:
    patterns = ("main", "release/*")
    assert guard.is_protected("main", patterns)
    assert guard.is_protected("release/1.0", patterns)
    assert not guard.is_protected("domain", patterns)
    assert not guard.is_protected(None, ("*",))


@pytest.mark.parametrize(
    ("command", "follows"),
    [("git merge origin/main", True), ("git merge", True), ("git merge FETCH_HEAD", True), ("git merge @{u}", True),
     ("git merge side", False), ("git merge origin/side", False), ("git merge --continue", False), ("git commit", False)],
)  # fmt: skip
def test_bringing_main_up_to_its_upstream_is_nobodys_work(command: str, follows: bool) -> None:
    (commit,) = commits(command, IN)
    assert guard.follows_upstream(commit, "main") is follows


def test_session_ids_of_others_are_no_commands() -> None:
    reply = guard.on_commit(replace(STOP, session="`rm`; x"), RuleMode.BLOCK, Commit("/repo", "commit"), "main")
    assert "`git switch -c agent/rmx`" in json.dumps(reply.answer)
