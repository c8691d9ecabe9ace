from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer


def pay(request, order):
    async_to_sync(get_channel_layer().send)("orders", {"type": "payed", "id": order.id})
