def pay(layer, order)
    layer.send_sync("orders", {"type": "paid", "id": order.id})
