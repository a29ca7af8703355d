"""What the real client does by itself, told by a recorder of plain `sh`: the ground of the other tests."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from .rig import scenarios
from .rig.client import Run
from .rig.recorder import Recorder
from .rig.rig import Rig
from .rig.scenarios import Scenario
from .rig.waiting import until

pytestmark = pytest.mark.client


@pytest.fixture
def recorder(rig: Rig) -> Recorder:
    recorder = Recorder(rig.root / "recorded")
    recorder.register(rig.client.settings_file)
    return recorder


def hooks_of(call_id: str, events: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the hooks of one call, PostToolBatch included, in order."""
    names = []
    for event in events:
        batch = [call["tool_use_id"] for call in event.get("tool_calls", [])]
        if call_id == event.get("tool_use_id") or call_id in batch:
            names.append(str(event["hook_event_name"]))
    return names


def assert_hooks_as_described(scenario: Scenario, events: Sequence[Mapping[str, Any]]) -> None:
    fired = {call.id: hooks_of(call.id, events) for call in scenario.calls}
    expected = {call.id: [*call.hooks, *(["PostToolBatch"] if call.in_batch else [])] for call in scenario.calls}
    assert fired == expected


def names(events: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(event["hook_event_name"]) for event in events]


def test_every_call_fires_the_hooks_described(rig: Rig, recorder: Recorder) -> None:
    scenario = scenarios.everything(rig.client.project)
    run = rig.play(scenario)
    assert run.returncode == 0, run.stderr
    assert_hooks_as_described(scenario, recorder.events())
    refused = {call.id for call in scenario.calls if not call.success and call.agent_type is None}
    assert {call_id for call_id, result in run.tool_results.items() if result.get("is_error")} >= refused


def test_background_subagent_goes_on_after_the_turn_of_its_parent(rig: Rig, recorder: Recorder) -> None:
    scenario = scenarios.background_agent()
    process = rig.begin(scenario)
    until(lambda: "Stop" in names(recorder.events()), "the Stop of the main agent")
    rig.api.open("subagent")
    assert process.finish().returncode == 0
    events = recorder.events()
    assert_hooks_as_described(scenario, events)
    order = names(events)
    assert order.index("Stop") < order.index("SubagentStop") < order.index("SessionEnd")


def test_interrupted_call_fires_nothing_after_its_start(rig: Rig, recorder: Recorder) -> None:
    run = run_until_it_works(rig, scenario := scenarios.endless("interrupted"), "interrupt")
    assert run.result["is_error"]
    assert_hooks_as_described(scenario, recorder.events())
    assert "Stop" not in names(recorder.events())


def test_killed_client_fires_nothing_and_leaves_its_command_behind(rig: Rig, recorder: Recorder) -> None:
    run = run_until_it_works(rig, scenario := scenarios.endless("killed"), "kill")
    assert run.returncode == -9
    assert_hooks_as_described(scenario, recorder.events())
    assert "SessionEnd" not in names(recorder.events())
    if sys.platform == "linux":
        assert rig.client.survivors()


def run_until_it_works(rig: Rig, scenario: Scenario, end: str) -> Run:
    """Start an endless scenario and end it by `interrupt` or `kill` once its command runs."""
    process = rig.begin(scenario)
    until(rig.client.project.joinpath("running").exists, "the command of the scenario")
    {"interrupt": process.interrupt, "kill": process.kill}[end]()
    return process.finish()
