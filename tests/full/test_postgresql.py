"""Handlers with a real PostgreSQL: what a restart of the server costs, and how many connections there are.

With `pytest -rP`, the tests show their numbers.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from channelmap.layers import open_layer
from tests.full.postgresql import USER, PostgreSQL, Waiting, running
from tests.site.projects import Project

pytestmark = pytest.mark.full

CONCURRENCY = 8
#: While the server ends the process of a connection, the next one may be open already.
ENDING = 4

CHANNELS = """\
version: 1
channels:
  orders:
    consumer: shop.consumers.Orders
    concurrency: {concurrency}
    validate: "off"
    {options}
    events: {{paid: true, looks: true, fails: true, breaks: true}}
"""
CONSUMER = """\
from {module} import {base}
from shop.models import Order

class Orders({base}):
    {define} paid(self, event):
        {call}Order.objects.{a}update_or_create(id=event["id"], defaults={{"paid": True}})
        print(f"{{event['id']}}\\n", end="", flush=True)  # in one piece, as other threads print, too

    {define} looks(self, event):
        {call}Order.objects.{a}exists()
        print(f"{{event['id']}}\\n", end="", flush=True)  # in one piece, as other threads print, too

    {define} fails(self, event):
        {call}Order.objects.{a}exists()
        raise KeyError

    {define} breaks(self, event):
        {call}Order.objects.{a}create(id=2**63)  # the server says that it is out of range
"""
SYNC = {"base": "SyncConsumer", "define": "def", "call": "", "a": ""}
ASYNC = {"base": "AsyncConsumer", "define": "async def", "call": "await ", "a": "a"}
CONSUMERS = {
    "sync": CONSUMER.format(module="channelmap", **SYNC),
    "async": CONSUMER.format(module="channelmap", **ASYNC),
    "channels' sync": CONSUMER.format(module="channels.consumer", **SYNC),
    "channels' async": CONSUMER.format(module="channels.consumer", **ASYNC),
}
#: What the settings say of connections.
CONNECTIONS: dict[str, dict[str, Any]] = {
    "closed": {"CONN_MAX_AGE": 0},
    "kept": {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True},
    "pool": {"OPTIONS": {"pool": True}, "CONN_HEALTH_CHECKS": True},
}
EACH_CONSUMER = pytest.mark.parametrize("consumer", CONSUMERS)
EACH_SETTING = pytest.mark.parametrize("setting", CONNECTIONS)

Wait = Callable[..., None]
_numbers = count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with running() as server:
        yield server


class Site:
    """A Django project with a database of its own in a server."""

    def __init__(self, project: Project, server: PostgreSQL) -> None:
        self.project = project
        self.server = server
        self.database = f"shop_{next(_numbers)}"
        server.create_database(self.database)

    def configure(self, consumer: str, setting: str, options: str = "", port: int | None = None) -> None:
        """Write the consumer, the contract and the settings, and create the tables."""
        channels = CHANNELS.format(concurrency=CONCURRENCY, options=options)
        self.project.write({"channels.yaml": channels, "shop/consumers.py": CONSUMERS[consumer]})
        database = {"ENGINE": "django.db.backends.postgresql", "NAME": self.database, "USER": USER,
                    "HOST": "127.0.0.1", "PORT": port or self.server.port, **CONNECTIONS[setting]}  # fmt: skip
        self.project.set(f"DATABASES = {{'default': {database}}}")
        assert self.project.manage("migrate", "-v", "0")[0] == 0

    def send(self, types: list[str]) -> None:
        """Send one event of each of these types; their ids count from 0."""
        self._layer("send_many", "orders", [{"type": name, "id": number} for number, name in enumerate(types)])

    def failed(self) -> list[int]:
        """Return the ids of the events that have failed."""
        return [letter.event["id"] for letter in self._layer("dead_letters", "orders")]

    def _layer(self, method: str, *arguments: object) -> Any:
        """Call a method of the layer that the worker has, too."""

        async def call() -> Any:
            layer = open_layer(f"sqlite:///{self.project.directory / 'channels.db'}")
            try:
                return await getattr(layer, method)(*arguments)
            finally:
                await layer.close()

        return asyncio.run(call())


@pytest.fixture
def site(server: PostgreSQL, project: Path, start: Callable[..., Any]) -> Site:
    return Site(Project(project, start), server)


@pytest.fixture
def relay(server: PostgreSQL) -> Iterator[Waiting]:
    with Waiting(server).running() as relay:
        yield relay


def show(*numbers: object) -> None:
    sys.stdout.write(f"{' '.join(map(str, numbers))}\n")


@EACH_CONSUMER
@EACH_SETTING
def test_a_restart_of_the_server_costs_each_slot_at_most_one_event(
    site: Site, relay: Waiting, wait_until: Wait, consumer: str, setting: str
) -> None:
    total = 1_000
    site.configure(consumer, setting, port=relay.port)
    site.send(["paid"] * total)
    worker = site.project.start("runworker")
    wait_until(lambda: len(worker.lines) > 300, "some events", timeout=60)

    relay.is_open = False
    site.server.crash()
    handled_before = len(worker.lines)
    site.server.start()
    relay.is_open = True

    def all_handled() -> bool:
        handled = len(worker.lines)
        return handled >= total - CONCURRENCY and handled + len(site.failed()) == total

    wait_until(all_handled, "the other events", timeout=120)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    handled, failed = {int(line) for line in worker.lines}, site.failed()
    show(consumer, setting, handled_before, "before the restart,", len(handled), "in all,", len(failed), "failed")
    assert handled_before < total - CONCURRENCY
    assert len(failed) <= CONCURRENCY
    assert sorted([*handled, *failed]) == [*range(total)]
    with site.server.counting(site.database) as connections:
        wait_until(lambda: connections.count() == 0, "the end of all connections")


@EACH_CONSUMER
@EACH_SETTING
def test_a_restart_while_slots_wait_for_events_costs_none(
    site: Site, wait_until: Wait, consumer: str, setting: str
) -> None:
    site.configure(consumer, setting)
    worker = site.project.start("runworker")
    for total in (200, 400):
        site.send(["looks"] * 200)
        wait_until(lambda total=total: len(worker.lines) + len(site.failed()) == total, "the events", timeout=60)
        site.server.crash()
        site.server.start()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert site.failed() == []


@pytest.mark.parametrize("setting", ["closed", "kept"])  # a pool waits for the server
def test_with_retries_a_restart_costs_no_event_however_long_it_takes(
    site: Site, wait_until: Wait, setting: str
) -> None:
    total = 1_000
    site.configure("sync", setting, "delivery: at-least-once\n    retry: {attempts: 50, delay: 0.1, max_delay: 0.5}")
    site.send(["paid"] * total)
    worker = site.project.start("runworker")
    wait_until(lambda: len(worker.lines) > 300, "some events", timeout=60)

    site.server.crash()
    wait_until(lambda: worker.errors.count("OperationalError") >= 2 * CONCURRENCY, "failures")
    site.server.start()

    wait_until(lambda: len({*worker.lines}) == total, "all events", timeout=120)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert site.failed() == []


@EACH_CONSUMER
@EACH_SETTING
def test_there_are_never_more_connections_than_slots_and_none_when_the_worker_has_stopped(
    site: Site, wait_until: Wait, consumer: str, setting: str
) -> None:
    types = ["looks", "looks", "fails", "looks", "breaks"] * (400 if "channels" in consumer else 2_000)
    site.configure(consumer, setting)
    site.send(types)
    worker = site.project.start("runworker", "--burst", "--log-level", "error")

    def has_ended() -> bool:
        connections.count()
        return worker.popen.poll() is not None

    with site.server.counting(site.database) as connections:
        wait_until(has_ended, "the worker", timeout=300)
        assert worker.wait() == 0
        wait_until(lambda: connections.count() == 0, "the end of all connections")
    show(consumer, setting, "connections at most:", connections.most)
    assert len(worker.lines) == types.count("looks")
    assert 0 < connections.most <= CONCURRENCY + ENDING
