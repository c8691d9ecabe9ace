"""The hint for consumers that need Django's settings if DJANGO_SETTINGS_MODULE is not set."""

import os
from pathlib import Path

import pytest

from tests.cli.commands import Run

CHANNELS = """\
version: 1
channels:
  jobs:
    consumer: work.Jobs
    events: {job: true}
"""
WORK = """\
from channelmap import AsyncConsumer
from shop.models import Order

class Jobs(AsyncConsumer):
    async def job(self, event):
        print(Order.__name__, flush=True)
"""
FILES = {
    "shop/__init__.py": "",
    "shop/models.py": "from django.db import models\n\n\nclass Order(models.Model):\n    pass\n",
    "shop/settings.py": "INSTALLED_APPS = ['shop']\nDEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'\n",
    "app/channels.yaml": CHANNELS,
    "app/work.py": WORK,
}
MANAGE = 'import os\n\n\ndef main():\n    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")\n'

PROBLEM = "importing 'work' raised ImproperlyConfigured: Django's settings are not configured at"


@pytest.fixture
def site(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Django project; the contract and its consumers are in the directory `app` of it."""
    for name, text in FILES.items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(text)
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    return project


@pytest.mark.parametrize("command", ["runworker --burst", "check"])
@pytest.mark.parametrize(
    "manage",
    [
        MANAGE,
        "import os\nos.environ['DJANGO_SETTINGS_MODULE'] = 'shop.settings'\n",
        '# os.environ["DJANGO_SETTINGS_MODULE"] = "old"\n' + MANAGE.replace('", "', '",\n        "'),
    ],
    ids=["setdefault", "assignment", "comment"],
)
def test_the_hint_names_the_settings_of_manage_py(site: Path, run: Run, command: str, manage: str) -> None:
    (site / "manage.py").write_text(manage)

    process = run(*command.split(), CHANNELMAP_CONFIG="app/channels.yaml")

    assert process.popen.returncode == 1
    location = "app/channels.yaml:4:15: error[consumer-import-failed]"
    hint = "set DJANGO_SETTINGS_MODULE to 'shop.settings', as 'manage.py' does"
    assert process.lines[0] == f"{location} {PROBLEM} shop/models.py:4; {hint}\n"
    assert "Traceback" not in process.errors


def test_the_worker_starts_with_the_settings_of_the_hint(site: Path, run: Run) -> None:
    environment = {"CHANNELMAP_CONFIG": "app/channels.yaml", "DJANGO_SETTINGS_MODULE": "shop.settings"}
    run("send", "jobs", '{"type": "job"}', **environment)

    process = run("runworker", "--burst", **environment)

    assert (process.popen.returncode, process.output) == (0, "Order\n"), process.errors


def test_a_manage_py_above_the_working_directory_is_named_with_its_path(site: Path, start: Run) -> None:
    (site / "manage.py").write_text(MANAGE)
    code = "import os, runpy; os.chdir('app'); runpy.run_module('channelmap', run_name='__main__', alter_sys=True)"

    process = start("check", command=("-c", code), PYTHONPATH=str(site))

    assert process.wait() == 1
    hint = f"set DJANGO_SETTINGS_MODULE to 'shop.settings', as '{site}/manage.py' does, and PYTHONPATH to its directory"
    assert hint in process.output


@pytest.mark.parametrize("manage", [None, "print('settings')\n", "os.environ['DJANGO_SETTINGS_MODULE'] = name\n"])
def test_without_settings_in_manage_py_the_hint_names_only_the_variable(
    site: Path, run: Run, manage: str | None
) -> None:
    if manage is not None:
        (site / "manage.py").write_text(manage)

    process = run("check", "app/channels.yaml")

    hint = "set DJANGO_SETTINGS_MODULE to the dotted path of the settings, such as 'mysite.settings'"
    assert f"{PROBLEM} shop/models.py:4; {hint}\n" in process.output


def test_a_layer_of_the_project_that_needs_settings_gets_the_same_hint(site: Path, run: Run) -> None:
    (site / "manage.py").write_text(MANAGE)
    (site / "app/work.py").write_text("from django.conf import settings\nsettings.DEBUG\n")
    contract = CHANNELS.replace("channels:", "layer: {backend: work.Layer, config: {}}\nchannels:", 1)
    (site / "app/channels.yaml").write_text(contract)

    process = run("send", "jobs", '{"type": "job"}', "--config", "app/channels.yaml")

    assert process.popen.returncode == 2
    assert f"{PROBLEM} {site}{os.sep}app/work.py:2; set DJANGO_SETTINGS_MODULE to 'shop.settings'" in process.errors


def test_another_error_of_the_settings_is_shown_with_djangos_message(site: Path, run: Run) -> None:
    (site / "manage.py").write_text(MANAGE)
    (site / "shop/models.py").write_text("from django.conf import settings\nprint(settings.SECRET_KEY)\nOrder = 1\n")

    process = run("check", "app/channels.yaml", DJANGO_SETTINGS_MODULE="shop.settings", PYTHONPATH=".")

    assert "raised ImproperlyConfigured: The SECRET_KEY setting must not be empty" in process.errors
    assert "manage.py" not in process.errors
