"""Code written for Channels catches the error of a full channel, whichever of our layers raises it."""

import asyncio
import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from channels.exceptions import ChannelFull as ChannelsFull
from channels.layers import InMemoryChannelLayer

import channelmap
from channelmap.layer import ChannelLayer
from channelmap.layers import open_layer
from channelmap.layers.foreign import ForeignChannelLayer

from .conformance import event
from .redis_servers import Server


@pytest.fixture(params=["memory", "sqlite", "foreign"])
def layer(request: pytest.FixtureRequest, tmp_path: Path) -> ChannelLayer:
    """A layer with room for one event on each channel."""
    match request.param:
        case "memory":
            return open_layer("memory://", capacity=1)
        case "sqlite":
            return open_layer(f"sqlite:///{tmp_path}/events.db", capacity=1)
        case _:
            return ForeignChannelLayer(InMemoryChannelLayer(capacity=1))


def run_python(code: str) -> str:
    """Run code in a fresh interpreter, in which nothing has imported Channels yet."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def full() -> channelmap.ChannelFull:
    error = channelmap.ChannelFull("memory://", "jobs", 7, 3, 2)
    error.add_note("while the import ran")
    return error


def expect_both_names_to_catch(layer: ChannelLayer) -> None:
    async def scenario() -> None:
        await layer.send("jobs", event(1))
        for kind in (ChannelsFull, channelmap.ChannelFull, channelmap.LayerError):
            with pytest.raises(kind):
                await layer.send("jobs", event(2))
            with pytest.raises(kind):
                await layer.send_many("jobs", [event(2), event(3)])
        await layer.close()

    asyncio.run(scenario())


def test_both_names_catch_the_error_of_every_layer(layer: ChannelLayer) -> None:
    expect_both_names_to_catch(layer)


def test_both_names_catch_the_error_of_a_layer_in_redis(server: Server) -> None:
    expect_both_names_to_catch(open_layer(server.url, capacity=1))


def test_send_sync_raises_the_error_of_channels_too(tmp_path: Path) -> None:
    layer = open_layer(f"sqlite:///{tmp_path}/events.db", capacity=1)
    layer.send_sync("jobs", event(1))
    with pytest.raises(ChannelsFull):
        layer.send_sync("jobs", event(2))
    asyncio.run(layer.close())


def test_a_layer_made_before_channels_is_imported_raises_its_error_afterwards() -> None:
    assert run_python("""
import sys
import channelmap.layers
layer = channelmap.layers.open_layer("memory://", capacity=1)
layer.send_sync("jobs", {"type": "job"})
try:
    layer.send_sync("jobs", {"type": "job"})
except channelmap.ChannelFull as error:
    print(type(error) is channelmap.ChannelFull, "channels" in sys.modules)
import channels.exceptions
try:
    layer.send_sync("jobs", {"type": "job"})
except channels.exceptions.ChannelFull as error:
    print(isinstance(error, channelmap.ChannelFull))
""").split() == ["True", "False", "True"]


def test_a_module_of_channels_that_is_still_being_imported_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "channels.exceptions", type(sys)("channels.exceptions"))
    assert type(full()) is channelmap.ChannelFull


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_a_copy_says_and_holds_the_same(copied: Callable[[Exception], channelmap.ChannelFull]) -> None:
    error, again = full(), copied(full())
    assert (type(again), again.args, str(again), repr(again)) == (type(error), error.args, str(error), repr(error))
    assert (again.capacity, again.sent, again.__notes__) == (7, 2, ["while the import ran"])
    assert repr(again) == "ChannelFull('memory://', 'jobs', 7, 3, 2)"
    assert isinstance(again, ChannelsFull)


def test_a_process_without_channels_reads_a_pickled_error() -> None:
    assert run_python(f"""
import pickle, sys
print(pickle.loads({pickle.dumps(full())!r}))
print("channels" in sys.modules)
""").splitlines() == [str(full()), "False"]


def test_a_class_derived_from_ours_keeps_its_own_type() -> None:
    class QuotaExceeded(channelmap.ChannelFull):
        pass

    assert type(QuotaExceeded("memory://", "jobs", capacity=7)) is QuotaExceeded
