"""The rules before and after a task. Pure: from what was seen to a verdict."""

from tasks.enforcer.verdicts import Verdict, named
from tasks.words import RuleMode, Stage


def judge_before(mode: RuleMode, workspace: str, dirt: tuple[str, ...]) -> Verdict:
    """`dirt` is what counts as dirty in the workspace."""
    if not dirt:
        return Verdict(Stage.PRE_TASK, mode, passed=True, workspace=workspace)
    message = f"Uncommitted changes in {workspace}: {named(dirt)}; commit or stash them"
    return Verdict(Stage.PRE_TASK, mode, passed=False, message=message, paths=dirt, workspace=workspace)


def judge_after(mode: RuleMode, workspace: str, changed: tuple[str, ...], *, lacks_commit: bool) -> Verdict:
    """`changed` is what is dirty now and was not so before; `lacks_commit`: a commit is required and none was made."""
    if changed:
        message = f"Agent made file changes without committing: {named(changed)} in {workspace}"
        return Verdict(Stage.POST_TASK, mode, passed=False, message=message, paths=changed, workspace=workspace)
    if lacks_commit:
        message = f"Agent made no commit in {workspace}, and agents of its type have to (enforcement.commits_required)"
        return Verdict(Stage.POST_TASK, mode, passed=False, message=message, workspace=workspace)
    return Verdict(Stage.POST_TASK, mode, passed=True, workspace=workspace)


def cannot_check(stage: Stage, mode: RuleMode, workspace: str, reason: object) -> Verdict:
    """A rule that blocks lets nothing through that it could not look at; one that only warns says so and is met."""
    what = "uncommitted changes" if stage is Stage.PRE_TASK else "what the agent changed"
    message = f"Cannot check {workspace} for {what}: {reason}"
    return Verdict(stage, mode, passed=mode is not RuleMode.BLOCK, message=message, workspace=workspace)


def not_applicable(stage: Stage, mode: RuleMode, workspace: str, reason: str) -> Verdict:
    """There is nothing that could be uncommitted, and that is said."""
    return Verdict(stage, mode, passed=True, message=reason, workspace=workspace)


def off(stage: Stage, workspace: str) -> Verdict:
    return Verdict(stage, RuleMode.OFF, passed=True, workspace=workspace)
