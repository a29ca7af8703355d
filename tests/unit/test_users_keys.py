"""Keys: private files, made once, never half written, read again when they change."""

import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tasks.errors import ConfigError
from tasks.users import KeyRing, load_pepper
from tasks.users.keys import GRACE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data/auth"


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def opened(folder: Path) -> list[Callable[[], object]]:
    return [lambda: load_pepper(folder), lambda: KeyRing(folder).current()]


def test_keys_are_made_private_whatever_the_umask_and_stay_the_same(folder: Path) -> None:
    before = os.umask(0)
    try:
        pepper, key = load_pepper(folder), KeyRing(folder).current()
    finally:
        os.umask(before)
    assert (load_pepper(folder), KeyRing(folder).current()) == (pepper, key)
    assert (len(pepper), len(key.secret)) == (32, 32)
    assert mode(folder) == 0o700
    assert {path.name: mode(path) for path in folder.iterdir()} == {"pepper": 0o600, "web-keys.json": 0o600}


def test_many_that_come_first_at_once_get_the_same_keys(folder: Path) -> None:
    found: list[tuple[bytes, bytes]] = []
    start = threading.Barrier(8)

    def come() -> None:
        start.wait()
        found.append((load_pepper(folder), KeyRing(folder).current().secret))

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["pepper", "web-keys.json"]


@pytest.mark.parametrize("wider", [0o640, 0o604, 0o660, 0o610, 0o644])
@pytest.mark.parametrize("name", ["pepper", "web-keys.json"])
def test_a_file_that_others_can_use_is_refused_with_what_to_do(folder: Path, name: str, wider: int) -> None:
    load_pepper(folder), KeyRing(folder)
    (folder / name).chmod(wider)
    with pytest.raises(ConfigError, match=rf"chmod 600 .*{name}"):
        [one() for one in opened(folder)]


def test_a_folder_that_others_can_use_is_refused_with_what_to_do(folder: Path) -> None:
    load_pepper(folder)
    folder.chmod(0o750)
    with pytest.raises(ConfigError, match="chmod 700"):
        load_pepper(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", ["pepper", "web-keys.json"])
def test_a_file_of_another_user_is_refused(folder: Path, name: str) -> None:
    load_pepper(folder), KeyRing(folder)
    os.chown(folder / name, 12345, -1)
    with pytest.raises(ConfigError, match="belongs to user 12345"):
        [one() for one in opened(folder)]


@pytest.mark.parametrize("name", ["pepper", "web-keys.json"])
def test_a_link_or_a_folder_in_its_place_is_refused(folder: Path, name: str, tmp_path: Path) -> None:
    load_pepper(folder), KeyRing(folder)
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(ConfigError, match=name):
        [one() for one in opened(folder)]
    (folder / name).unlink()
    (folder / name).symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=name):
        [one() for one in opened(folder)]
    (folder / name).unlink()
    (folder / name).mkdir(mode=0o700)
    with pytest.raises(ConfigError, match=name):
        [one() for one in opened(folder)]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file/auth", tmp_path / "file/data/auth"):
        for use in opened(folder):
            with pytest.raises(ConfigError, match=f"cannot make {folder}"):
                use()


def test_a_pepper_that_is_not_whole_is_refused(folder: Path) -> None:
    load_pepper(folder)
    for content in (b"", b"x" * 31, b"x" * 33):
        (folder / "pepper").write_bytes(content)
        with pytest.raises(ConfigError, match="not 32 bytes"):
            load_pepper(folder)


ROW = {"kid": "a", "key": "00" * 32, "made_at": 1, "retired_at": None}


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "null", "[" * 5000, '{"keys": []}', '{"keys": {}}', '{"keys": [1]}', '{"keys": null}',
        json.dumps({"keys": [ROW | {"key": "00" * 31}]}), json.dumps({"keys": [ROW | {"key": "zz" * 32}]}),
        json.dumps({"keys": [ROW | {"key": 1}]}), json.dumps({"keys": [ROW | {"kid": 1}]}),
        json.dumps({"keys": [ROW | {"retired_at": 1}]}), json.dumps({"keys": [ROW | {"made_at": "x"}]}),
        json.dumps({"keys": [ROW, ROW | {"kid": "b"}]}), json.dumps({"keys": [{"kid": "a"}]}),
    ],
)  # fmt: skip
def test_a_file_of_keys_that_is_not_whole_is_refused_with_what_to_do(folder: Path, content: str) -> None:
    KeyRing(folder)
    (folder / "web-keys.json").write_text(content)
    with pytest.raises(ConfigError, match=r"is not whole .*remove it"):
        KeyRing(folder)


def test_a_removed_file_of_keys_is_made_anew(folder: Path) -> None:
    ring = KeyRing(folder)
    old = ring.current()
    (folder / "web-keys.json").unlink()
    assert ring.current() != old
    assert ring.secret_of(old.kid) is None


def test_the_old_key_is_accepted_for_15_minutes_after_a_rotation(folder: Path) -> None:
    clock = Clock()
    ring = KeyRing(folder, now=clock)
    old = ring.current()
    new = ring.rotate()
    assert ring.current() == new != old
    clock.seconds += GRACE - 1
    assert ring.secret_of(old.kid) == old.secret
    clock.seconds += 1
    assert ring.secret_of(old.kid) is None
    assert ring.secret_of(new.kid) == new.secret


def test_only_keys_that_count_stay_in_the_file(folder: Path) -> None:
    clock = Clock()
    ring = KeyRing(folder, now=clock)
    for _ in range(5):
        ring.rotate()
    assert len(json.loads((folder / "web-keys.json").read_text())["keys"]) == 6
    clock.seconds += GRACE
    ring.rotate()
    assert len(json.loads((folder / "web-keys.json").read_text())["keys"]) == 2
    assert mode(folder / "web-keys.json") == 0o600
    assert [path.name for path in folder.iterdir()] == ["web-keys.json"]


def test_a_rotation_by_another_process_counts_at_once(folder: Path) -> None:
    running = KeyRing(folder)
    old = running.current()
    new = KeyRing(folder).rotate()
    assert running.current() == new
    assert running.secret_of(old.kid) == old.secret


def test_rotations_at_once_lose_no_key(folder: Path) -> None:
    first = KeyRing(folder).current()
    made: list[str] = [first.kid]
    threads = [threading.Thread(target=lambda: made.append(KeyRing(folder).rotate().kid)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ring = KeyRing(folder)
    assert len(set(made)) == 9
    assert all(ring.secret_of(kid) for kid in made)


def test_a_file_that_was_opened_to_others_while_running_is_not_trusted_any_more(folder: Path) -> None:
    ring = KeyRing(folder)
    kid = ring.current().kid
    (folder / "web-keys.json").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        ring.secret_of(kid)
    (folder / "web-keys.json").chmod(0o600)
    assert ring.secret_of(kid)
