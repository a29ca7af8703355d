"""What is registered in settings files, where, and whether it can run. Changes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import InstallError
from tasks.install import merge
from tasks.install.copies import RecorderState, copy_state
from tasks.install.registration import EVENTS, GUARDED, Program
from tasks.install.settings_file import SettingsFile


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event is registered."""

    file: Path
    #: the program or shell line that runs
    command: str


@dataclass(frozen=True, slots=True)
class EventStatus:
    """One event and where it is registered; the plugin's registration is no `Place`."""

    event: str
    places: tuple[Place, ...]
    #: the plugin is enabled as well
    plugin: bool = False

    @property
    def registered(self) -> bool:
        return bool(self.places) or self.plugin

    @property
    def twice(self) -> bool:
        """Every event is recorded more than once. It counts once all the same, but costs the agent time."""
        return len({place.command for place in self.places}) + self.plugin > 1


@dataclass(frozen=True, slots=True)
class GuardStatus:
    """The guard: off until it is registered, and then for all of its events."""

    events: tuple[EventStatus, ...]
    state: RecorderState
    file: Path

    @property
    def registered(self) -> bool:
        return any(event.places for event in self.events)

    @property
    def missing(self) -> tuple[str, ...]:
        """The events that it is not asked about although it is registered for others."""
        return tuple(event.event for event in self.events if not event.places) if self.registered else ()

    @property
    def is_fine(self) -> bool:
        return not self.registered or (not self.missing and self.state is RecorderState.CURRENT)


@dataclass(frozen=True, slots=True)
class HooksStatus:
    events: tuple[EventStatus, ...]
    recorder: RecorderState
    recorder_file: Path
    guard: GuardStatus
    #: what is wrong with the settings files, each with its remedy
    problems: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(status.event for status in self.events if not status.registered)


def status(settings_files: list[Path], hooks_dir: Path) -> HooksStatus:
    """What is registered in these files together, and whether the recorder can run. Never raises InstallError."""
    places: dict[str, list[Place]] = {event.name: [] for event in EVENTS}
    guarded: dict[str, list[Place]] = {event: [] for event in GUARDED}
    problems: list[str] = []
    plugin = False
    for path in dict.fromkeys(map(Path, settings_files)):
        try:
            data = SettingsFile.read(path).data()
            merge.check_shape(data)
        except InstallError as error:
            problems.append(str(error))
            continue
        if data.get("disableAllHooks") is True:
            problems.append(f'{path}: "disableAllHooks" is true, so nothing is recorded; remove it')
        plugin = plugin or has_plugin(data)
        for found, program in ((places, Program.RECORD), (guarded, Program.GUARD)):
            for event, handlers in merge.ours(data, program).items():
                found.setdefault(event, []).extend(Place(path, _line(handler)) for handler in handlers)
    events = tuple(EventStatus(event, tuple(found), plugin) for event, found in places.items())
    recorder, guard = (hooks_dir / program for program in (Program.RECORD, Program.GUARD))
    guard_events = tuple(EventStatus(event, tuple(found)) for event, found in guarded.items())
    guard_status = GuardStatus(guard_events, copy_state(guard), guard)
    return HooksStatus(events, copy_state(recorder), recorder, guard_status, tuple(problems))


def has_plugin(data: Mapping[str, object]) -> bool:
    """Whether these settings enable our plugin, which records without any registration."""
    enabled = data.get("enabledPlugins")
    return isinstance(enabled, dict) and any(name.startswith("tasksd@") and on is True for name, on in enabled.items())


def _line(handler: Mapping[str, object]) -> str:
    arguments = handler.get("args")
    return " ".join([str(handler["command"]), *(map(str, arguments) if isinstance(arguments, list) else ())])
