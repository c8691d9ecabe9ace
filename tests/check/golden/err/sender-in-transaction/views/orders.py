from functools import partial

from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction
from django.db.transaction import atomic

from channelmap import get_channel_layer

layer = get_channel_layer()
PAID = {"type": "paid"}


def in_a_block():
    with transaction.atomic():
        layer.send_sync("orders", PAID)
        for number in range(3):
            async_to_sync(layer.send)("orders", {"type": "paid", "number": number})


@transaction.atomic(using="other")
def in_a_decorated_function():
    if True:
        layer.send_sync("orders", PAID, delay=5)


@atomic
def helper():
    notify()


def notify():
    layer.send_sync("orders", PAID)


def after_the_commit():
    with atomic():
        layer.send_on_commit("orders", PAID)
        transaction.on_commit(lambda: layer.send_sync("orders", PAID))
        transaction.on_commit(partial(layer.send_sync, "orders", PAID))

        def later():
            layer.send_sync("orders", PAID)

        transaction.on_commit(later)
    layer.send_sync("orders", PAID)


async def in_async_code():
    with transaction.atomic():
        await sync_to_async(layer.send_on_commit)("orders", PAID)
    await layer.send("orders", PAID)


def judged_all_the_same():
    layer.send_on_commit("orders", {"type": "refunded"})
    layer.send_sync("orders", {"type": "refunded"}, delay=5)
