def pay(layer, orders):
    layer.send_many("orders", [{"type": "paid", "note": "überfällig"}, {"type": "paid", "id": 0}])
    layer.send_sync("orders", {"type": "paid", "id": 0, "note": orders[0].note})
    layer.send_sync("orders", {"type": "paid", **orders[0].fields})
