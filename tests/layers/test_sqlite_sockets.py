"""The directory of the notification sockets: nothing but this program's own sockets is ever removed or used."""

import asyncio
import logging
import os
import socket
import stat
from pathlib import Path

import pytest

from channelmap.layers import open_layer
from channelmap.layers.sqlite import sockets

from .conformance import event, numbers

NOBODY = 65_534
ME, OWNER, STRANGER, GROUP = os.geteuid(), 2_000_001, 2_000_002, 2_000_003


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture
def wake(file: Path) -> Path:
    return Path(f"{file}-wake")


def send(file: Path, number: int = 1) -> None:
    layer = open_layer(f"sqlite:///{file}")
    layer.send_sync("jobs", event(number))
    asyncio.run(layer.close())


def take(file: Path) -> list[int]:
    async def once() -> list[int]:
        layer = open_layer(f"sqlite:///{file}")
        asyncio.get_running_loop().call_later(0.02, layer.send_sync, "jobs", event(7))
        async with asyncio.timeout(20):
            deliveries = await layer.take("jobs", 9)
        await layer.close()
        return numbers(deliveries)

    return asyncio.run(once())


def tree(directory: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["notes.txt", "123.0a1b2c3d", ".123.0a1b2c3d"])
def test_a_file_in_the_directory_stays_whatever_its_name(file: Path, wake: Path, name: str) -> None:
    wake.mkdir()
    (wake / name).write_text("mine")

    send(file)

    assert take(file) == [1]
    assert tree(wake) == {str(wake / name): "mine"}


def test_what_a_link_leads_to_is_neither_removed_nor_used(file: Path, wake: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "123.0a1b2c3d").write_text("mine")
    wake.symlink_to(other)

    send(file)

    assert take(file) == [1]
    assert tree(other) == {str(other / "123.0a1b2c3d"): "mine"}


def test_a_link_to_a_socket_elsewhere_is_not_notified(file: Path, wake: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as elsewhere:
        elsewhere.bind(str(tmp_path / "s"))
        elsewhere.settimeout(0)
        wake.mkdir()
        (wake / "123.0a1b2c3d").symlink_to(tmp_path / "s")

        send(file)

        with pytest.raises(BlockingIOError):
            elsewhere.recv(100)
    assert (wake / "123.0a1b2c3d").is_symlink()


def test_a_stale_socket_of_this_user_is_removed_and_one_of_another_user_stays(file: Path, wake: Path) -> None:
    send(file)
    for name in ("1.00000001", "1.00000002", "another"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left_over:
            left_over.bind(str(wake / name))
    if os.geteuid() == 0:
        os.chown(wake / "1.00000002", NOBODY, NOBODY)

    send(file)

    expected = {"1.00000002", "another"} if os.geteuid() == 0 else {"another"}
    assert {path.name for path in wake.iterdir()} == expected


def test_a_directory_that_is_no_directory_or_not_ours_is_said_once_and_polling_goes_on(
    file: Path, wake: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wake.write_text("mine")

    with caplog.at_level(logging.INFO, "channelmap.layers.sqlite"):
        assert take(file) == [7]

    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == [
        f"sqlite:///{file}: no notification socket"
    ]
    assert wake.read_text() == "mine"


@pytest.mark.parametrize(
    ("directory", "file_mode", "is_used"),
    [
        ({"uid": ME, "gid": 7}, 0o600, True),
        ({"uid": 0, "gid": 0}, 0o600, True),
        ({"uid": OWNER, "gid": 7}, 0o600, True),
        ({"uid": STRANGER, "gid": GROUP}, 0o660, True),
        ({"uid": STRANGER, "gid": GROUP}, 0o640, False),
        ({"uid": STRANGER, "gid": 7}, 0o660, False),
        ({"uid": STRANGER, "gid": GROUP}, 0o600, False),
    ],
)
def test_a_directory_is_used_only_where_it_belongs_to_somebody_who_may_write_to_the_file(
    directory: dict[str, int],
    file_mode: int,
    is_used: bool,  # noqa: FBT001  (a parameter of the table)
) -> None:
    def status(mode: int, uid: int, gid: int) -> os.stat_result:
        return os.stat_result((mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))

    assert sockets.is_trusted(status(0o700, **directory), status(file_mode, OWNER, GROUP)) is is_used


def test_a_new_file_and_all_beside_it_are_this_users_alone_whatever_the_umask(file: Path, wake: Path) -> None:
    before = os.umask(0o022)
    try:
        layer = open_layer(f"sqlite:///{file}")
        layer.send_sync("jobs", event(1))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()}
        asyncio.run(layer.close())
    finally:
        os.umask(before)

    assert modes == {"events.db": 0o600, "events.db-wal": 0o600, "events.db-shm": 0o600, "events.db-wake": 0o700}


@pytest.mark.parametrize(("mode", "directory"), [(0o660, 0o770), (0o666, 0o777), (0o644, 0o755)])
def test_a_file_that_was_made_beforehand_says_who_may_write_and_notify(
    file: Path, wake: Path, mode: int, directory: int
) -> None:
    file.touch()
    file.chmod(mode)

    send(file)

    assert stat.S_IMODE(file.stat().st_mode) == mode
    assert stat.S_IMODE(wake.stat().st_mode) == directory
