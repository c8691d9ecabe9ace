"""A small, real Django project, whose commands run as real processes."""

import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from channelmap import get_channel_layer

MANAGE = """\
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""

SETTINGS = """\
from pathlib import Path
BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "x" * 50
DEBUG = False
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = ["channelmap.django", "channels", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
CHANNELMAP = {"CONFIG": BASE_DIR / "channels.yaml"}
"""

CHANNELS = """\
version: 1
channels:
  orders:
    consumer: shop.consumers.Orders
    events:
      paid: {schema: {type: object, properties: {id: {type: integer}}, required: [id]}}
"""

FILES = {
    "manage.py": MANAGE,
    "channels.yaml": CHANNELS,
    "shop/__init__.py": "",
    "shop/settings.py": SETTINGS,
    "shop/urls.py": "urlpatterns = []\n",
    "shop/models.py": """\
from django.db import models

class Order(models.Model):
    paid = models.BooleanField(default=False)
""",
    "shop/migrations/__init__.py": "",
    "shop/migrations/0001_initial.py": """\
from django.db import migrations, models

class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            name="Order", fields=[("id", models.BigAutoField(primary_key=True)), ("paid", models.BooleanField())]
        )
    ]
""",
    "shop/consumers.py": """\
from channelmap import SyncConsumer
from shop.models import Order

class Orders(SyncConsumer):
    def paid(self, event):
        Order.objects.update_or_create(id=event["id"], defaults={"paid": True})
        print("paid", event["id"], flush=True)
""",
}


@functools.cache
def _migrated_database() -> bytes:
    """Return the database of the project after `manage.py migrate`."""
    with tempfile.TemporaryDirectory() as name:
        for path, text in FILES.items():
            (Path(name) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(name) / path).write_text(text)
        subprocess.run([sys.executable, "manage.py", "migrate", "-v", "0"], cwd=name, check=True)
        return (Path(name) / "db.sqlite3").read_bytes()


class Project:
    """A Django project in a directory, with its database.

    Args:
        directory: where its files are written.
        start: the fixture that starts a process.

    """

    def __init__(self, directory: Path, start: Callable[..., Any]) -> None:
        self.directory = directory
        self._start = start
        self.write(FILES)
        (directory / "db.sqlite3").write_bytes(_migrated_database())

    def write(self, files: dict[str, str]) -> None:
        """Write files, over those that exist."""
        for name, text in files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def set(self, lines: str) -> None:
        """Add lines to the settings."""
        path = self.directory / "shop/settings.py"
        path.write_text(f"{path.read_text()}\n{lines}\n")

    def start(self, *arguments: str, **environment: str) -> Any:
        """Start `manage.py` with arguments."""
        return self.run_python(str(self.directory / "manage.py"), *arguments, **environment)

    def run_python(self, *arguments: str, **environment: str) -> Any:
        """Start Python with arguments."""
        return self._start(*arguments, command=(), **environment)

    def manage(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Run `manage.py` to its end; return its exit code, stdout and stderr."""
        process = self.start(*arguments, **environment)
        process.wait(60)
        assert "Traceback" not in process.errors, process.errors
        return process.popen.returncode, process.output, process.errors

    def send(self, channel: str, *events: dict[str, Any]) -> None:
        """Send events from this process, which has no Django, to the layer of the contract."""
        layer = get_channel_layer(self.directory / "channels.yaml")
        for event in events:
            layer.send_sync(channel, event)

    def shell(self, code: str) -> Any:
        """Run code in the project; return what it has assigned to `result`, by JSON."""
        process = self.start("shell", "-c", f"{code}\nimport json\nprint('result:' + json.dumps(result))")
        process.wait(60)
        assert process.popen.returncode == 0, process.errors
        (line,) = [line for line in process.output.splitlines() if line.startswith("result:")]
        return json.loads(line.removeprefix("result:"))
