"""People who ask more than can be answered: recording goes on, and so does letting people in."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from .desk import until
from .site import SESSION, Site, site_in

#: Prompts of one session, of which answering takes some tenths of a second, and people who ask for them at once.
PROMPTS, PEOPLE = 30_000, 40
OTHER = "99999999-1111-4222-8333-444455556666"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    for made in site_in(tmp_path_factory.mktemp("s")):
        made.leave("UserPromptSubmit", prompt="again")
        made.stored()
        again(made)
        yield made


def again(site: Site) -> None:
    """The one prompt over and over, each under an id of its own."""
    with closing(sqlite3.connect(site.data / "tasks.db", timeout=60)) as store, store:
        store.execute(
            """
            WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ?)
            INSERT INTO events (seq, event_id, timestamp, session_uuid, kind, prompt_id, body)
            SELECT 1000 + i, CAST(printf('%016d', i) AS BLOB), timestamp, session_uuid, kind, 'p' || i, body
            FROM events, n WHERE kind = 'UserPromptSubmit'
            """,
            (PROMPTS,),
        )


def test_recording_and_logging_in_do_not_wait_for_what_people_ask(site: Site) -> None:
    vic = site.browser("vic")
    answers: list[int] = []

    def ask() -> None:
        with suppress(TimeoutError):  # the last ones, on a slow machine
            answers.append(vic.get(f"/v1/sessions/{SESSION}/turns?limit=1").status)

    people = [threading.Thread(target=ask) for _ in range(PEOPLE)]
    for one in people:
        one.start()
    until(lambda: answers, "the first one is answered")
    site.leave("SessionStart", OTHER, source="startup")
    site.stored()
    assert site.browser("ada", new=True).csrf
    assert len(answers) < PEOPLE, "they waited for everybody who had asked before"
    for one in people:
        one.join()
    assert set(answers) == {200}
