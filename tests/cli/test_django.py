"""The commands in a small, real Django project, as real processes."""

import sys
from pathlib import Path

import pytest

from tests.cli.commands import Run

CHANNELS = """\
version: 1
layer: {backend: shop.layers.Layer, config: {url: sqlite:///channels.db}}
channels:
  orders:
    consumer: shop.consumers.Orders
    events:
      paid: {schema: {type: object, properties: {id: {type: integer}}, required: [id]}}
"""

FILES = {
    "channels.yaml": CHANNELS,
    "settings.py": "INSTALLED_APPS = ['shop']\n",
    "shop/__init__.py": "",
    "shop/models.py": """\
from django.db import models

class Order(models.Model):
    class Meta:
        app_label = "shop"
""",
    # Defining a model raises AppRegistryNotReady unless Django is set up.
    "shop/layers.py": """\
from channelmap.layers.sqlite import SQLiteChannelLayer
from shop.models import Order

class Layer(SQLiteChannelLayer):
    model = Order
""",
    "shop/consumers.py": """\
from channelmap import SyncConsumer
from shop.models import Order

class Orders(SyncConsumer):
    def paid(self, event):
        print("paid", event["id"], Order.__name__, flush=True)
""",
}
#: Unlike `python -m`, the installed command does not have the working directory on its import path.
COMMAND = (str(Path(sys.executable).parent / "channelmap"),)
EVENT = '{"type": "paid", "id": 1}'


@pytest.fixture
def shop(project: Path) -> Path:
    for name, text in FILES.items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(text)
    return project


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["send", "orders", EVENT], ""),
        (["dead", "list"], ""),
        (["dead", "replay", "--all"], ""),
        (["dead", "drop", "--all"], ""),
        (["check", "--layer", "--fail-on", "info"], ""),
        (["check", "--layer", "--fail-on", "info", "--no-import"], ""),
        (["runworker", "--burst"], "paid 1 Order\n"),
    ],
)
def test_every_command_that_opens_a_layer_of_the_django_project_sets_django_up(
    shop: Path, run: Run, arguments: list[str], output: str
) -> None:
    run("send", "orders", EVENT, command=COMMAND, DJANGO_SETTINGS_MODULE="settings")

    process = run(*arguments, command=COMMAND, DJANGO_SETTINGS_MODULE="settings")

    assert (process.popen.returncode, process.output) == (0, output), process.errors


def test_a_layer_of_the_project_needs_no_django(shop: Path, run: Run) -> None:
    (shop / "shop" / "layers.py").write_text("from channelmap.layers.sqlite import SQLiteChannelLayer as Layer\n")

    process = run("send", "orders", EVENT, command=COMMAND)

    assert (process.popen.returncode, process.errors) == (0, "sent 1 of 1 events to 'orders'\n")


@pytest.mark.parametrize("layer", [[], ["--layer", "sqlite:///other.db"]])
@pytest.mark.parametrize("arguments", [["send", "orders", EVENT], ["dead", "list"]])
def test_a_layer_of_channelmap_is_opened_without_django(
    shop: Path, run: Run, arguments: list[str], layer: list[str]
) -> None:
    if not layer:
        (shop / "channels.yaml").write_text("version: 1\n" + CHANNELS.partition("}}\n")[2])

    assert run(*arguments, *layer, command=COMMAND, DJANGO_SETTINGS_MODULE="no_such_settings").popen.returncode == 0


@pytest.mark.parametrize(
    "arguments", [["send", "orders", EVENT], ["dead", "list"], ["check", "--no-import", "--layer"]]
)
def test_broken_settings_that_the_layer_needs_get_an_error_message(shop: Path, run: Run, arguments: list[str]) -> None:
    (shop / "settings.py").write_text("1 / 0\n")

    process = run(*arguments, command=COMMAND, DJANGO_SETTINGS_MODULE="settings")

    assert process.popen.returncode == 2
    assert "DJANGO_SETTINGS_MODULE is 'settings', and setting Django up raised ZeroDivisionError" in process.errors
    assert "Traceback" not in process.errors


def test_an_error_of_the_settings_in_several_lines_is_printed_in_one(shop: Path, run: Run) -> None:
    (shop / "settings.py").write_text("raise ValueError('no secret key:\\n  set one')\n")

    process = run("dead", "list", command=COMMAND, DJANGO_SETTINGS_MODULE="settings")

    assert "setting Django up raised ValueError: no secret key: set one at " in process.errors
