"""Live pages: whoever comes while another one goes, and the end of the daemon."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse
from tasks.errors import StoreBusy
from tasks.users import Principal
from tasks.web.frame import Data, Frame, Look, Page
from tasks.web.pages import sessions
from tasks.words import Role

from .doorway import Doorway
from .site import Site, site_in

LATER = "99999999-1111-4222-8333-444455556666"
(PAGE,) = sessions.PAGES


@pytest.fixture
async def doorway(tmp_path: Path) -> AsyncIterator[Doorway]:
    made = Doorway(tmp_path)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield from site_in(tmp_path)


async def watched(frame: Frame, page: Page = PAGE) -> AsyncIterator[str]:
    """The page of sessions as it changes, for one more person."""
    scope = {
        "type": "http", "method": "GET", "path": PAGE.path, "query_string": b"", "path_params": {},
        "headers": [(b"accept", b"text/event-stream")], "principal": Principal(1, "ada", Role.ADMIN, "cookie", "x"),
    }  # fmt: skip
    answer = await frame.answer(page, Request(scope))
    assert isinstance(answer, StreamingResponse)
    return answer.body_iterator  # type: ignore[return-value]


async def wait_for(pieces: AsyncIterator[str], text: str) -> None:
    async with asyncio.timeout(60):
        async for piece in pieces:
            if text in piece:
                return
    raise AssertionError("the stream ended")


async def test_whoever_comes_while_the_last_one_goes_is_kept_up_to_date(doorway: Doorway) -> None:
    frame = Frame(doorway.context, doorway.authority)
    first = await watched(frame)
    await wait_for(first, "event: sections")
    second = await watched(frame)
    await first.aclose()  # type: ignore[attr-defined]
    await wait_for(second, "event: sections")
    await doorway.happen("SessionStart", LATER, source="startup")
    await wait_for(second, LATER)
    await second.aclose()  # type: ignore[attr-defined]


async def test_a_stream_that_nobody_took_leaves_nothing_behind(doorway: Doorway) -> None:
    frame = Frame(doorway.context, doorway.authority)
    await watched(frame)
    assert not frame._broadcasts


@pytest.mark.parametrize(
    ("error", "told"),
    [(StoreBusy("another process writes"), "another process writes"), (ValueError(), "log of the daemon")],
)
async def test_a_page_that_cannot_be_made_says_so_until_it_can(doorway: Doorway, error: Exception, told: str) -> None:
    troubles = [error]

    async def load(look: Look) -> Data:
        if troubles:
            raise troubles[0]
        return await PAGE.load(look)

    pieces = await watched(Frame(doorway.context, doorway.authority), replace(PAGE, load=load))
    await wait_for(pieces, told)
    troubles.clear()
    await wait_for(pieces, "event: sections")
    await wait_for(pieces, 'event: trouble\ndata: ""')
    await pieces.aclose()  # type: ignore[attr-defined]


def test_the_end_of_the_daemon_ends_live_pages_without_a_word(site: Site) -> None:
    ada = site.browser("ada")
    with ExitStack() as stack:
        streams = [stack.enter_context(ada.stream(path)) for path in ("/", "/tasks", "/sessions", "/costs")]
        for one in streams:
            assert next(one)
        assert site.stop() == 0
        for one in streams:
            list(one)  # to its proper end
    log = (site.folder / "daemon.log").read_text()
    assert "stopped, the spool is read" in log
    assert "ERROR" not in log and "Traceback" not in log, log
