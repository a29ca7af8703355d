"""Tells the two copies of one event apart that arrive when both the plugin and settings.json register the recorder."""

from collections import OrderedDict
from dataclasses import dataclass, field

from tasks.ingest.digest import Digest

#: Milliseconds between two copies of one event, at most.
WINDOW = 60_000
MEMORY = 50_000


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

    def is_second_copy(self, digest: Digest) -> bool:
        key = (digest.content_id, digest.file.client_pid)
        seen = self._seen.get(key)
        if seen is None or abs(digest.at - seen.at) > WINDOW:
            seen = self._seen[key] = _Seen(digest.at)
            self._seen.move_to_end(key)
            if len(self._seen) > MEMORY:
                self._seen.popitem(last=False)
        if digest.event_id not in seen.by_plugin:
            plugin = digest.file.by_plugin
            seen.by_plugin[digest.event_id] = plugin
            own = sum(one is plugin for one in seen.by_plugin.values())
            if own <= len(seen.by_plugin) - own:
                seen.dropped.add(digest.event_id)
        return digest.event_id in seen.dropped
