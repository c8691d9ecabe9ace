"""Database connections of handlers are closed as those of requests are, whatever class the consumer has."""

from collections import Counter

import pytest

from .projects import Project

CHANNELS = """\
version: 1
channels:
  orders:
    consumer: shop.consumers.Orders
    concurrency: {concurrency}
    validate: "off"
    events: {{paid: true, fails: true, idle: true}}
"""

#: Prints, for each event, the descriptors of the database file that are open, and whether this one opened another.
COMMON = """\
import os
from asgiref.sync import sync_to_async
from django.db import connection
from django.db.backends.signals import connection_created
from shop.models import Order

opened = []
connection_created.connect(lambda **_: opened.append(1), weak=False)

def descriptors():
    links = []
    for number in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            pass
    return sum(link.endswith("db.sqlite3") for link in links)

def note(event):
    os.write(1, f"{event['type']} {len(opened)} {descriptors()}\\n".encode())
"""

SYNC = (
    COMMON
    + """\
from MODULE import SyncConsumer

class Orders(SyncConsumer):
    def paid(self, event):
        Order.objects.count()
        note(event)

    def fails(self, event):
        Order.objects.count()
        note(event)
        raise KeyError

    def idle(self, event):
        note(event)
"""
)

ASYNC = (
    COMMON
    + """\
from MODULE import AsyncConsumer

class Orders(AsyncConsumer):
    async def paid(self, event):
        await Order.objects.acount()
        note(event)

    async def fails(self, event):
        await Order.objects.acount()
        note(event)
        raise KeyError

    async def idle(self, event):
        note(event)
"""
)

CONSUMERS = {
    "sync": SYNC.replace("MODULE", "channelmap"),
    "async": ASYNC.replace("MODULE", "channelmap"),
    "channels' sync": SYNC.replace("MODULE", "channels.consumer"),
    "channels' async": ASYNC.replace("MODULE", "channels.consumer"),
}
EACH_KIND = pytest.mark.parametrize("kind", CONSUMERS)


def handle(
    shop: Project, kind: str, types: list[str], *, max_age: int | None = 0, concurrency: int = 1
) -> list[list[int]]:
    """Handle events of these types; return how many connections each saw opened so far, and how many open."""
    shop.write({"shop/consumers.py": CONSUMERS[kind], "channels.yaml": CHANNELS.format(concurrency=concurrency)})
    shop.set(f"DATABASES['default']['CONN_MAX_AGE'] = {max_age}")
    shop.send("orders", *[{"type": kind} for kind in types])
    process = shop.start("runworker", "--burst")
    assert process.wait(60) == 0, process.errors
    lines = [line.split() for line in process.lines]
    assert Counter(line[0] for line in lines) == Counter(types)
    return [[int(number) for number in line[1:]] for line in lines]


@EACH_KIND
def test_a_connection_is_closed_after_each_event_by_default(shop: Project, kind: str) -> None:
    assert handle(shop, kind, ["paid"] * 5) == [[number, 1] for number in range(1, 6)]


@EACH_KIND
def test_a_connection_that_may_live_on_is_used_again(shop: Project, kind: str) -> None:
    assert handle(shop, kind, ["paid"] * 5, max_age=600) == [[1, 1]] * 5


@EACH_KIND
def test_an_event_that_uses_no_database_opens_no_connection_and_sees_none(shop: Project, kind: str) -> None:
    assert handle(shop, kind, ["idle", "paid", "idle", "idle"]) == [[0, 0], [1, 1], [1, 0], [1, 0]]


@EACH_KIND
@pytest.mark.parametrize("max_age", [0, 600])
def test_connections_of_failed_events_do_not_pile_up(shop: Project, kind: str, max_age: int) -> None:
    types = ["paid", "fails", "paid"] * 40
    found = handle(shop, kind, types, max_age=max_age, concurrency=4)
    assert max(open_now for _, open_now in found) <= 4
