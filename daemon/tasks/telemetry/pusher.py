"""Pushes what finished to the collector, over and over until it took it."""

import asyncio
import json
import logging
import socket
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tasks import __version__
from tasks.config import OtlpSettings
from tasks.database import Database, Write
from tasks.errors import ConfigError, StoreBusy, StoreError, StoreUnavailable
from tasks.telemetry.finished import Cursors, Finished, finished

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)

#: Where `daemon_state` keeps the cursors.
STATE = "telemetry.cursors"
#: Seconds that one push may take, tries included.
TIMEOUT = 10.0
#: Seconds between lines in the log about the same trouble.
REMIND_INTERVAL = 600.0

_REMEMBER = """
INSERT INTO daemon_state (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""


class Pusher:
    """Whoever owns the loop calls `step` every `settings.interval` seconds.

    Every span is pushed at least once, with ids that make a repeated one the same. A collector that is away costs nothing
    but the retry; what happened meanwhile is pushed when it is back. Raises ConfigError when the extra is not installed.
    """

    def __init__(self, settings: OtlpSettings, database: Database) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            from tasks.telemetry.spans import Spans
        except ImportError as error:
            raise ConfigError(
                f"otlp.endpoint is set, but OpenTelemetry is not installed ({error}): pip install 'tasksd[otlp]'"
            ) from error
        self._database = database
        self._spans: Spans = Spans(__version__, socket.gethostname())
        self._exporter: OTLPSpanExporter = OTLPSpanExporter(
            endpoint=settings.endpoint, headers=dict(settings.headers), timeout=TIMEOUT
        )
        # Its own log lines repeat with every try; ours do not.
        logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter").setLevel(logging.CRITICAL)
        self._endpoint = settings.endpoint
        self._logged_at = -REMIND_INTERVAL

    async def step(self) -> int:
        """Push what has finished and settled. Returns the number of spans; 0 when there is nothing, or nobody takes it."""
        pushed = 0
        try:
            while (found := await self._look()) is not None:
                spans = self._spans.of(found)
                if spans and not await asyncio.to_thread(self._push, spans):
                    self._complain("the collector did not take it")
                    return pushed
                await self._remember(found.cursors)
                pushed += len(spans)
        except (StoreUnavailable, StoreBusy, StoreError) as error:
            self._complain(str(error))
        return pushed

    def close(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    async def _look(self) -> Finished | None:
        """None: there is nothing new."""
        stored = await self._database.query("SELECT value FROM daemon_state WHERE name = ?", (STATE,))
        if not stored:
            await self._remember(await self._database.read(lambda reader: Cursors.newest(reader.query)))
            return None
        after = Cursors(**json.loads(stored[0][0]))
        now = time.time_ns() // 1_000_000
        found = await self._database.read(lambda reader: finished(reader.query, after, now))
        return None if found.cursors == after else found

    async def _remember(self, cursors: Cursors) -> None:
        await self._database.apply([Write.one(_REMEMBER, (STATE, json.dumps(asdict(cursors))))])

    def _push(self, spans: list[Any]) -> bool:
        from opentelemetry.sdk.trace.export import SpanExportResult

        return self._exporter.export(spans) is SpanExportResult.SUCCESS

    def _complain(self, why: str) -> None:
        now = time.monotonic()
        if now - self._logged_at >= REMIND_INTERVAL:
            log.warning("traces are not pushed, they wait endpoint=%s error=%s", self._endpoint, why)
            self._logged_at = now
