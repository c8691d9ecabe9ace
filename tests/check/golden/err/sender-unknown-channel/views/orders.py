from channelmap import get_channel_layer

layer = get_channel_layer()


async def pay(request, order):
    await layer.send("order", {"type": "paid", "id": order.id})
