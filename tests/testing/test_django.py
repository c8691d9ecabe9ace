"""Tests of a Django site: with Django's own runner, and with pytest-django."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.site.projects import Project

VIEWS = """\
from channelmap import get_channel_layer
from django.db import transaction
from django.http import HttpResponse
from shop.models import Order


def pay(number):
    with transaction.atomic():
        Order.objects.create(id=number, paid=False)
        get_channel_layer().send_on_commit("orders", {"type": "paid", "id": number})
"""
CONSUMERS = """\
from channelmap import AsyncConsumer, {base}
from shop.models import Order

class Orders({base}):
{handler}
"""
HANDLERS = {
    "SyncConsumer": (
        '    def paid(self, event):\n        assert Order.objects.filter(id=event["id"]).update(paid=True)\n'
    ),
    "AsyncConsumer": (
        "    async def paid(self, event):\n"
        '        assert await Order.objects.filter(id=event["id"]).aupdate(paid=True)\n'
    ),
}
CASES = """\
from django.test import TestCase, TransactionTestCase
from channelmap.testing import MemoryLayerMixin, adrain, drain, sent_events
from shop.models import Order
from shop.views import pay


class InOneTransaction(MemoryLayerMixin, TestCase):
    def test_paid(self):
        with self.captureOnCommitCallbacks(execute=True):
            pay(1)
        self.assertEqual(sent_events(), [{"type": "paid", "id": 1}])
        drain()
        self.assertTrue(Order.objects.get(id=1).paid)

    def test_not_committed(self):
        pay(1)
        self.assertEqual(sent_events(), [])

    async def test_async(self):
        await Order.objects.acreate(id=2, paid=False)
        await self.channel_layer.send("orders", {"type": "paid", "id": 2})
        await adrain()
        self.assertTrue((await Order.objects.aget(id=2)).paid)

    def test_channels(self):
        from asgiref.sync import async_to_sync
        from channels.layers import get_channel_layer

        async_to_sync(get_channel_layer().send)("orders", {"type": "paid", "id": 3})
        self.assertEqual(sent_events(), [{"type": "paid", "id": 3}])


class Committed(MemoryLayerMixin, TransactionTestCase):
    def test_paid(self):
        pay(1)
        self.assertEqual(drain(), [{"type": "paid", "id": 1}])
        self.assertTrue(Order.objects.get(id=1).paid)
"""
WITH_PYTEST = """\
import pytest
from channelmap.testing import sent_events
from shop.models import Order
from shop.views import pay


@pytest.mark.django_db
def test_in_one_transaction(channelmap_layer, channelmap_worker, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        pay(1)
    assert sent_events() == [{"type": "paid", "id": 1}]
    channelmap_worker.drain()
    assert Order.objects.get(id=1).paid


@pytest.mark.django_db(transaction=True)
def test_committed(channelmap_layer, channelmap_worker):
    pay(1)
    channelmap_worker.drain()
    assert Order.objects.get(id=1).paid
"""
INI = "[pytest]\naddopts = -p no:cacheprovider -p no:hypothesispytest --color=no -q\nchannelmap_fuzz = orders\n"


@pytest.fixture(params=HANDLERS)
def site(project: Path, start: Callable[..., Any], request: pytest.FixtureRequest) -> Project:
    """A project whose layer cannot be reached."""
    shop = Project(project, start)
    consumers = CONSUMERS.format(base=request.param, handler=HANDLERS[request.param])
    shop.write({"shop/consumers.py": consumers, "shop/views.py": VIEWS, "pytest.ini": INI, "tests/__init__.py": ""})
    shop.set(
        "CHANNEL_LAYERS = {'default': {'BACKEND': 'channelmap.django.ChannelLayer',"
        " 'CONFIG': {'url': 'redis://127.0.0.1:1'}}}"
    )
    return shop


def test_the_test_cases_of_django(site: Project) -> None:
    site.write({"shop/tests.py": CASES})
    code, _, errors = site.manage("test", "shop")
    assert code == 0, errors
    assert "Ran 5 tests" in errors


def test_pytest_django(site: Project) -> None:
    site.write({"tests/test_shop.py": WITH_PYTEST})
    process = site.run_python("-m", "pytest", "tests", DJANGO_SETTINGS_MODULE="shop.settings")
    assert process.wait(60) == 0, process.output
    assert "2 passed" in process.output


def test_fuzzing_rolls_back_each_event_in_the_database_of_pytest_django(site: Project) -> None:
    handler = (
        "    def paid(self, event):\n"
        "        assert not Order.objects.exists()\n"
        "        Order.objects.create(id=1, paid=True)\n"
    )
    site.write({"shop/consumers.py": CONSUMERS.format(base="SyncConsumer", handler=handler)})
    process = site.run_python("-m", "pytest", "--channelmap-fuzz", DJANGO_SETTINGS_MODULE="shop.settings")
    assert process.wait(60) == 0, process.output
    assert "1 passed" in process.output
    process = site.run_python(
        "-m", "pytest", "--channelmap-fuzz", "-p", "no:django", DJANGO_SETTINGS_MODULE="shop.settings"
    )
    assert process.wait(60) == 1
    assert "--channelmap-fuzz needs pytest-django in a Django project" in process.output
