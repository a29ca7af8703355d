"""Tells the two copies of one event apart that arrive when both the plugin and settings.json register the recorder."""

from collections import OrderedDict
from dataclasses import dataclass, field

from tasks.ingest.digest import CONTENT_ID_SIZE, Digest, was_by_plugin

#: Milliseconds between two copies of one event, at most.
WINDOW = 60_000
#: Contents remembered, about 900 bytes each. Hooks make a few hundred events a second at most, and a backlog is read in
#: order of time.
MEMORY = 10_000


@dataclass(slots=True)
class _Seen:
    at: int
    #: event id → whether the plugin recorded it
    by_plugin: dict[bytes, bool] = field(default_factory=dict)
    dropped: set[bytes] = field(default_factory=set)


class Twins:
    """The k-th copy from one recorder is the twin of the k-th copy from the other; the later one is dropped.

    Equal payloads from the same recorder are different events. Asking twice gives the same answer.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[bytes, int | None], _Seen] = OrderedDict()

    def remembers(self, digest: Digest) -> bool:
        """Whether a copy of it has been asked about, or recalled."""
        return self._near(digest.content_id, digest.file.client_pid, digest.at) is not None

    def recall(self, event_id: bytes, client_pid: int | None, at: int) -> None:
        """One that an earlier process has stored."""
        self._note(event_id[:CONTENT_ID_SIZE], client_pid, at).by_plugin[event_id] = was_by_plugin(event_id)

    def is_second_copy(self, digest: Digest) -> bool:
        seen = self._note(digest.content_id, digest.file.client_pid, digest.at)
        if digest.event_id not in seen.by_plugin:
            plugin = digest.file.by_plugin
            seen.by_plugin[digest.event_id] = plugin
            own = sum(one is plugin for one in seen.by_plugin.values())
            if own <= len(seen.by_plugin) - own:
                seen.dropped.add(digest.event_id)
        return digest.event_id in seen.dropped

    def _near(self, content_id: bytes, client_pid: int | None, at: int) -> _Seen | None:
        seen = self._seen.get((content_id, client_pid))
        return seen if seen is not None and abs(at - seen.at) <= WINDOW else None

    def _note(self, content_id: bytes, client_pid: int | None, at: int) -> _Seen:
        if (seen := self._near(content_id, client_pid, at)) is None:
            key = content_id, client_pid
            seen = self._seen[key] = _Seen(at)
            self._seen.move_to_end(key)
            if len(self._seen) > MEMORY:
                self._seen.popitem(last=False)
        return seen
