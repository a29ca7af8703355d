"""Thousands of damaged payloads: each becomes a row or lies in quarantine with its reason, and the daemon goes on."""

import random
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tasks.words import QuarantineReason

from .rig.daemon import Daemon
from .rig.events import Dropper, result
from .rig.store import assert_consistent
from .rig.waiting import until

CORPUS = sorted((Path(__file__).parents[1] / "data/hooks").glob("*.json"))

#: What parsers stumble over.
TOKENS = (
    b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"18446744073709551616", b"-1", b"null", b"true", b"[]", b"{}",
    b'"\\ud800"', b'"\\u0000"', b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"[" * 200, b'{"a":' * 150, b'"' , b"\\",
    b'"session_id":"x",', b'"hook_event_name":"Stop",', b'"tool_use_id":5,', b'"tool_name":null,', b"\xf0\x9f\x98\x80",
    b'"tool_input":"text",', b'"tool_response":[1,[2]],', b'"duration_ms":-5,', b'"error":{"a":1},', b"\r\n", b"," * 9,
)  # fmt: skip


def mutated(payload: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """`payload` after one to four accidents."""
    damaged = bytearray(payload)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(damaged) + 1)
        length = chance.choice((1, 2, 8, 60, 400))
        match chance.randrange(9):
            case 0:
                del damaged[at:]
            case 1:
                del damaged[at : at + length]
            case 2:
                damaged[at:at] = chance.choice(TOKENS)
            case 3:
                damaged[at : at + length] = chance.choice(TOKENS)
            case 4:
                damaged[at:at] = chance.randbytes(length)
            case 5:
                damaged[at:at] = damaged[at : at + length] * chance.choice((1, 2, 50))
            case 6 if damaged:
                damaged[at % len(damaged)] ^= 1 << chance.randrange(8)
            case 7:
                other = chance.choice(others)
                start = chance.randrange(len(other) + 1)
                damaged[at : at + length] = other[start : start + length]
            case _:
                # A value of another kind where a value was: what stays valid JSON gets deepest.
                colon = damaged.find(b":", at)
                comma = damaged.find(b",", colon)
                if 0 <= colon < comma:
                    damaged[colon + 1 : comma] = chance.choice(TOKENS)
    return bytes(damaged)


@pytest.mark.parametrize(
    "count", [2000, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])], ids=["few", "many"]
)
def test_every_damaged_payload_is_a_row_or_in_quarantine(daemon: Daemon, count: int) -> None:
    chance = random.Random(count)
    corpus = [path.read_bytes() for path in CORPUS]
    assert len(corpus) > 100
    daemon.start()
    dropper = Dropper(daemon.spool)
    now = time.time_ns()
    for number in range(count):
        # Half of them look old enough to be settled at once, the others must wait for that.
        age = 60 * 10**9 if number % 2 else 0
        dropper.raw(mutated(chance.choice(corpus), corpus, chance), mtime_ns=now - age + number * 1000)
    dropper.raw(result("after", 1))
    after = "SELECT count(*) FROM events WHERE session_uuid = 'after'"
    until(lambda: daemon.value(after) == 1, "the good event after them", timeout=30)
    daemon.drained(timeout=30)
    stored = daemon.value("SELECT count(*) FROM events") - 1
    quarantined = daemon.quarantined()
    assert stored + len(quarantined) == count
    assert stored > count // 20  # otherwise nothing got past the parser
    assert len(quarantined) > count // 20
    reasons = {entry["code"] for entry in quarantined}
    assert reasons <= set(QuarantineReason) - {QuarantineReason.INTERNAL, QuarantineReason.CRASH_SUSPECT}, reasons
    with daemon.database() as connection:
        assert_consistent(connection)
    status = daemon.status()
    assert status["spool"]["quarantined"] == len(quarantined)
    assert status["ingest"]["degraded"] is None
    daemon.stop()
