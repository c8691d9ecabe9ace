"""What a handler sets for itself does not reach the next event: language, time zone, context variables, settings."""

import pytest

from .projects import Project

CHANNELS = """\
version: 1
channels:
  orders:
    consumer: shop.consumers.Orders
    validate: "off"
    events: {changes: true, shows: true}
"""

CONSUMERS = """\
from contextvars import ContextVar
from django.conf import settings
from django.test import override_settings
from django.utils import timezone, translation
from channelmap import {base}

variable = ContextVar("variable", default="unset")

def state():
    return translation.get_language(), timezone.get_current_timezone_name(), variable.get(), settings.LANGUAGE_CODE

class Orders({base}):
    {keyword} changes(self, event):
        with override_settings(LANGUAGE_CODE="fr"):
            translation.activate("de")
            timezone.activate("Asia/Tokyo")
            variable.set("set")
            print(*state(), flush=True)
            if event.get("fails"):
                raise KeyError

    {keyword} shows(self, event):
        print(*state(), flush=True)
"""


@pytest.mark.parametrize(("base", "keyword"), [("SyncConsumer", "def"), ("AsyncConsumer", "async def")])
@pytest.mark.parametrize("fails", [False, True])
def test_each_event_starts_with_the_defaults(shop: Project, base: str, keyword: str, *, fails: bool) -> None:
    shop.write({"channels.yaml": CHANNELS, "shop/consumers.py": CONSUMERS.format(base=base, keyword=keyword)})
    for _ in range(2):
        shop.send("orders", {"type": "changes", "fails": fails}, {"type": "shows"})
    process = shop.start("runworker", "--burst")
    assert process.wait(60) == 0
    assert process.lines == ["de Asia/Tokyo set fr\n", "en-us America/Chicago unset en-us\n"] * 2
