"""`send_on_commit` sends after the commit, and nothing after a rollback."""

import json

from .projects import Project

CODE = """
import json
from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction
from channelmap import EventRejected, LayerUnavailable, get_channel_layer

layer = get_channel_layer()
waiting = async_to_sync(layer.waiting)
result = {}

def paid(number):
    return {"type": "paid", "id": number}

layer.send_on_commit("orders", paid(0))
result["outside"] = waiting("orders")

with transaction.atomic():
    event = paid(1)
    layer.send_on_commit("orders", event)
    event["id"] = "changed later"
    with transaction.atomic():
        layer.send_on_commit("orders", paid(2))
        result["inside"] = waiting("orders")
result["committed"] = waiting("orders")

try:
    with transaction.atomic():
        layer.send_on_commit("orders", paid(3))
        with transaction.atomic():
            layer.send_on_commit("orders", paid(4))
        raise KeyError
except KeyError:
    pass
result["rolled back"] = waiting("orders")

with transaction.atomic():
    try:
        with transaction.atomic():
            layer.send_on_commit("orders", paid(5))
            raise KeyError
    except KeyError:
        pass
    layer.send_on_commit("orders", paid(6))
result["inner rolled back"] = waiting("orders")

with transaction.atomic(using="other"):
    layer.send_on_commit("orders", paid(7), using="other")
    layer.send_on_commit("orders", paid(8))
    result["other database"] = waiting("orders")
result["both"] = waiting("orders")

try:
    with transaction.atomic():
        layer.send_on_commit("orders", paid("nine"))
except EventRejected as error:
    result["rejected"] = str(error)

@transaction.atomic
def in_thread():
    layer.send_on_commit("orders", paid(10))

async def main():
    await sync_to_async(in_thread)()
    try:
        layer.send_on_commit("orders", paid(11))
    except RuntimeError as error:
        return str(error)

result["async"] = async_to_sync(main)()

async def show():
    return [delivery.event["id"] async for delivery in layer.peek("orders")]

result["ids"] = async_to_sync(show)()
"""

AWAY = """
from django.db import transaction
from channelmap import LayerUnavailable, get_channel_layer
from shop.models import Order

try:
    with transaction.atomic():
        Order.objects.create(id=1, paid=True)
        get_channel_layer().send_on_commit("orders", {"type": "paid", "id": 1})
except LayerUnavailable as error:
    result = [str(error), Order.objects.count()]
"""


def test_events_are_sent_after_the_outermost_commit_and_not_after_a_rollback(shop: Project) -> None:
    shop.set("DATABASES['other'] = {'ENGINE': 'django.db.backends.sqlite3', 'NAME': BASE_DIR / 'other.sqlite3'}")
    found = shop.shell(CODE)
    assert "$.id" in found.pop("rejected")
    assert "await sync_to_async(layer.send_on_commit)" in found.pop("async")
    assert found == {
        "outside": 1, "inside": 1, "committed": 3, "rolled back": 3, "inner rolled back": 4,
        "other database": 5, "both": 6, "ids": [0, 1, 2, 6, 8, 7, 10],
    }, json.dumps(found)  # fmt: skip


def test_a_layer_that_is_away_after_a_commit_is_logged_and_raised(shop: Project) -> None:
    shop.set("CHANNEL_LAYERS = {'default': {'BACKEND': 'channelmap.django.ChannelLayer',"
             " 'CONFIG': {'url': 'redis://127.0.0.1:1'}}}\n"
             "LOGGING = {'version': 1, 'handlers': {'out': {'class': 'logging.StreamHandler', 'stream': 'ext://sys.stdout'}},"
             " 'root': {'handlers': ['out']}}")  # fmt: skip
    process = shop.start("shell", "-c", f"{AWAY}\nprint(*result, sep='|')")
    assert process.wait(60) == 0, process.errors
    logged, printed = process.output.splitlines()[-2:]
    assert logged.startswith("channel 'orders': an event 'paid' was not sent after a commit: ")
    assert printed.startswith("redis://127.0.0.1:1")
    assert printed.endswith("|1")
