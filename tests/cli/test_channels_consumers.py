"""The layer of consumers derived from the real `channels.consumer` under `runworker`."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from channelmap.layers.sqlite import SQLiteChannelLayer
from tests.cli.commands import Run, write_site
from tests.layers.redis_servers import VOLATILE, Server, running

CHANNELS = """\
version: 1
layer: sqlite:///channels.db
channels:
  jobs:
    consumer: work.Jobs
    events: {relay: true, join: true, joined: true, slow: true}
  results:
    consumer: work.Results
    events:
      result: {schema: {type: object, properties: {id: {type: integer}}, required: [id]}}
"""

WORK = """\
from pathlib import Path
import asyncio
from asgiref.sync import async_to_sync
from channels.consumer import AsyncConsumer, SyncConsumer
from channelmap import AsyncConsumer as Ours, EventRejected

class AsyncJobs(AsyncConsumer):
    async def relay(self, event):
        await self.channel_layer.send("results", {"type": "result", "id": 1})
        try:
            await self.channel_layer.send("results", {"type": "result", "id": "one"})
        except EventRejected as error:
            print(error.code, flush=True)

    async def join(self, event):
        await self.channel_layer.group_add("all", self.channel_name)
        await self.channel_layer.group_send("all", {"type": "joined"})

    async def joined(self, event):
        print("joined", flush=True)

    async def slow(self, event):
        Path("begun").touch()
        while not Path("release").exists():
            await asyncio.sleep(0.005)
        print("slow", flush=True)

class SyncJobs(SyncConsumer):
    def relay(self, event):
        async_to_sync(self.channel_layer.send)("results", {"type": "result", "id": 1})
        try:
            async_to_sync(self.channel_layer.send)("results", {"type": "result", "id": "one"})
        except EventRejected as error:
            print(error.code, flush=True)

    def join(self, event):
        async_to_sync(self.channel_layer.group_add)("all", self.channel_name)
        async_to_sync(self.channel_layer.group_send)("all", {"type": "joined"})

    def joined(self, event):
        print("joined", flush=True)

    def slow(self, event): ...

class Results(Ours):
    async def result(self, event):
        print("result", event["id"], flush=True)

class OurJobs(Ours):
    relay, join, joined, slow = AsyncJobs.relay, AsyncJobs.join, AsyncJobs.joined, AsyncJobs.slow

class Jobs(AsyncJobs):
    pass
"""

ELSEWHERE = "{'BACKEND': 'channelmap.layers.sqlite.SQLiteChannelLayer', 'CONFIG': {'url': 'sqlite:///elsewhere.db'}}"
ANOTHER_LAYER = "self.channel_layer of Channels' consumers is the worker's layer, "
#: Settings of Django's default layer, and the number of warnings that it is not the worker's layer.
SETTINGS = {
    "no layers": ("", 0),
    "in memory": ("CHANNEL_LAYERS = {'default': {'BACKEND': 'channels.layers.InMemoryChannelLayer'}}", 0),
    "the same file": (
        f"import os\nCHANNEL_LAYERS={{'default': {ELSEWHERE}}}\n".replace("elsewhere", "' + os.getcwd() + '/channels"),
        0,
    ),
    "another file": (f"CHANNEL_LAYERS = {{'default': {ELSEWHERE}}}", 1),
    "not to be imported": ("CHANNEL_LAYERS = {'default': {'BACKEND': 'nowhere.Layer', 'CONFIG': {'a': 1}}}", 1),
}


@pytest.fixture
def work(project: Path) -> Path:
    write_site(project, CHANNELS, WORK)
    return project


def in_django(project: Path, settings: str) -> dict[str, str]:
    """Write Django's settings; return the environment that names them."""
    (project / "settings.py").write_text(f"INSTALLED_APPS = ['channels']\n{settings}\n")
    return {"DJANGO_SETTINGS_MODULE": "settings"}


def burst(run: Run, event_type: str, environment: dict[str, str]) -> Any:
    """Send an event, and handle it and the events that its handler sends."""
    assert run("send", "jobs", f'{{"type": "{event_type}"}}', **environment).popen.returncode == 0
    process = run("runworker", "--burst", **environment)
    assert process.popen.returncode == 0, process.errors
    return process


@pytest.mark.parametrize(("settings", "warnings"), SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("base", ["AsyncJobs", "SyncJobs"])
def test_a_consumer_of_channels_sends_with_the_workers_layer_which_validates(
    work: Path, run: Run, base: str, settings: str, warnings: int
) -> None:
    (work / "work.py").write_text(WORK.replace("Jobs(AsyncJobs)", f"Jobs({base})"))

    process = burst(run, "relay", in_django(work, settings))

    assert sorted(process.lines, reverse=True) == ["schema-mismatch\n", "result 1\n"], process.errors
    assert process.errors.count(ANOTHER_LAYER) == warnings
    assert not (work / "elsewhere.db").exists()


def test_a_consumer_of_channels_without_django_settings_takes_no_event(work: Path, run: Run) -> None:
    run("send", "jobs", '{"type": "relay"}')

    process = run("runworker", "--burst")

    assert process.popen.returncode == 1
    assert "ImproperlyConfigured" in process.errors
    assert run("dead", "list").output == ""


@pytest.mark.parametrize("base", ["AsyncJobs", "SyncJobs"])
def test_private_channels_and_groups_of_a_channels_consumer_use_the_workers_layer(
    work: Path, run: Run, start: Run, wait_until: Callable[..., None], base: str
) -> None:
    (work / "work.py").write_text(WORK.replace("Jobs(AsyncJobs)", f"Jobs({base})"))
    worker = start("runworker", **in_django(work, SETTINGS["another file"][0]))

    run("send", "jobs", '{"type": "join"}')

    wait_until(lambda: worker.lines == ["joined\n"], "what the group passes on")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0, worker.errors


def test_a_consumer_with_another_alias_gets_that_layer_of_django(work: Path, run: Run) -> None:
    (work / "work.py").write_text(WORK.replace("    pass\n", "    channel_layer_alias = 'aside'\n"))

    process = burst(run, "relay", in_django(work, f"CHANNEL_LAYERS = {{'aside': {ELSEWHERE}}}"))

    assert process.output == ""
    assert ANOTHER_LAYER not in process.errors

    async def main() -> list[Any]:
        layer = SQLiteChannelLayer("sqlite:///elsewhere.db")
        taken = await layer.take("results", 10, wait=False)
        await layer.close()
        return [delivery.event and delivery.event["id"] for delivery in taken]

    assert asyncio.run(main()) == [1, "one"]


def test_an_alias_that_django_does_not_have_is_logged(work: Path, run: Run) -> None:
    (work / "work.py").write_text(WORK.replace("    pass\n", "    channel_layer_alias = 'aside'\n"))

    process = burst(run, "relay", in_django(work, f"CHANNEL_LAYERS = {{'default': {ELSEWHERE}}}"))

    assert "WARNING" in process.errors
    assert "channel_layer_alias 'aside' is not in CHANNEL_LAYERS: self.channel_layer is None" in process.errors


@pytest.mark.parametrize(
    ("layer", "config", "warnings"),
    [
        ("redis://${HOST}", "{'hosts': [('127.0.0.1', PORT)]}", 0),
        ("redis://127.0.0.1:PORT/0", "{'hosts': ['redis://127.0.0.1:PORT'], 'capacity': 5}", 0),
        ("redis://127.0.0.1:PORT/0", "{'hosts': ['redis://127.0.0.1:PORT/1']}", 1),
        ("redis://127.0.0.1:PORT/0", "{'hosts': ['redis://127.0.0.1:PORT'], 'prefix': 'site'}", 1),
        (
            "{backend: channels_redis.core.RedisChannelLayer, config: {hosts: ['redis://127.0.0.1:PORT/0']}}",
            "{'hosts': ['redis://127.0.0.1:PORT/0']}",
            0,
        ),
    ],
)
def test_the_layer_of_channels_redis_on_the_same_server_counts_as_the_same_layer(  # noqa: PLR0917
    work: Path, tmp_path: Path, run: Run, layer: str, config: str, warnings: int
) -> None:
    server = Server(tmp_path / "valkey", *VOLATILE)
    port = str(server.port)
    (work / "channels.yaml").write_text(CHANNELS.replace("sqlite:///channels.db", layer.replace("PORT", port)))
    backend = "'BACKEND': 'channels_redis.core.RedisChannelLayer'"
    settings = f"CHANNEL_LAYERS = {{'default': {{{backend}, 'CONFIG': {config.replace('PORT', port)}}}}}"

    with running(server):
        process = burst(run, "relay", in_django(work, settings) | {"HOST": server.address})

    assert sorted(process.lines, reverse=True) == ["schema-mismatch\n", "result 1\n"], process.errors
    assert process.errors.count(ANOTHER_LAYER) == warnings


@pytest.mark.parametrize("base", ["AsyncJobs", "OurJobs"])
def test_a_layer_lost_while_a_consumer_listens_to_its_private_channel_does_not_fail_the_current_event(  # noqa: PLR0917
    work: Path, tmp_path: Path, run: Run, start: Run, wait_until: Callable[..., None], base: str
) -> None:
    (work / "work.py").write_text(WORK.replace("Jobs(AsyncJobs)", f"Jobs({base})"))
    server = Server(tmp_path / "valkey", *VOLATILE)
    (work / "channels.yaml").write_text(CHANNELS.replace("sqlite:///channels.db", server.url))
    with running(server):
        worker = start("runworker", **in_django(work, ""))
        run("send", "jobs", '{"type": "join"}')
        wait_until(lambda: "joined\n" in worker.lines, "what the group passes on")
        run("send", "jobs", '{"type": "slow"}')
        wait_until((work / "begun").exists, "the handler")
        server.kill()
        # The other channel of the worker has noticed it twice; by then the private channel's reader has, too.
        wait_until(lambda: worker.errors.count("cannot take events") >= 2, "the loss of the layer")
        (work / "release").touch()
        server.start()
        wait_until(lambda: "slow\n" in worker.lines, "the end of the handler")
        run("send", "results", '{"type": "result", "id": 2}')
        wait_until(lambda: "result 2\n" in worker.lines, "the next event")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert run("dead", "list").output == ""
    assert "Exception inside application" not in worker.errors
