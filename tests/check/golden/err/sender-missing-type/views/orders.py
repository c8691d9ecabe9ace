def pay(layer, order):
    layer.send_sync("orders", {"id": order.id})
