"""`pytest --channelmap-fuzz`, as a real process in a project of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CONTRACT = """\
version: 1
channels:
  orders:
    consumer: shop.Orders
    events:
      paid:
        schema:
          type: object
          properties: {id: {type: integer}, lines: {type: array, items: {type: integer}}}
          required: [id]
      refunded: {schema: {type: object, properties: {id: {type: integer}}, required: [id]}}
  mail:
    consumer: shop.Mail
    events: {sent: true}
"""
SHOP = """\
from channelmap import AsyncConsumer, Reject, Retry, SyncConsumer


class Orders(SyncConsumer):
    def paid(self, event):
        if event["id"] < 0:
            raise Reject("no order has such a number")
        if event["id"] == 0:
            raise Retry(after=5)
        max(event.get("lines", [1]))

    def refunded(self, event):
        event["id"]
        with open("refunded", "a") as file:
            print(event, file=file)


class Mail(AsyncConsumer):
    async def sent(self, event):
        open("mail", "w")
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run pytest with `--channelmap-fuzz` in a project, in which `orders` may be fuzzed."""
    (tmp_path / "channels.yaml").write_text(CONTRACT)
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\naddopts = -p no:cacheprovider --color=no\nfilterwarnings = error\nchannelmap_fuzz = orders\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CHANNELMAP", "DJANGO"))}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "pytest", "-q", "--channelmap-fuzz", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment | {"COLUMNS": "200"}, capture_output=True, text=True, check=False
        )
        assert "pytest_plugin.py" not in done.stdout
        return done

    return call


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_each_event_type_of_the_named_channels_is_a_test(run: Run, tmp_path: Path) -> None:
    done = run("--collect-only")
    assert done.stdout.splitlines()[:2] == [
        "channels.yaml::orders::paid[fuzz]", "channels.yaml::orders::refunded[fuzz]",
    ]  # fmt: skip
    done = run("--collect-only", "--channelmap")
    assert "5 tests collected" not in done.stdout
    assert "channels.yaml::mail::sent\n" in done.stdout
    assert "channels.yaml::mail::sent[fuzz]" not in done.stdout
    assert not (tmp_path / "refunded").exists()


def test_a_crash_is_told_with_the_simplest_event_and_what_the_handler_raised(run: Run) -> None:
    # Of 100 events, sometimes none is a valid one with an empty list.
    done = run("-k", "paid", "--channelmap-fuzz-examples", "1000")
    assert done.returncode == 1
    assert (
        "channel 'orders': the handler of 'paid' raised ValueError: max() arg is an empty sequence\n"
        'simplest event: {"type": "paid", "id": 1, "lines": []}\n'
    ) in done.stdout
    assert 'shop.py", line 10, in paid\n' in done.stdout
    assert (
        "FAILED channels.yaml::orders::paid[fuzz] - Failed: channel 'orders': the handler of 'paid' raised"
        in done.stdout
    )
    assert "hypothesis" not in done.stdout.lower()
    assert "draining.py" not in done.stdout


def test_a_handler_that_copes_with_all_events_passes(run: Run, tmp_path: Path) -> None:
    done = run("-k", "refunded", "--channelmap-fuzz-examples", "200")
    assert done.returncode == 0, done.stdout
    handled = (tmp_path / "refunded").read_text().splitlines()
    assert 100 <= len(handled) <= 200
    assert len(set(handled)) > 50
    assert not (tmp_path / "mail").exists()


def test_nearly_valid_events_reach_a_handler_whose_channel_does_not_enforce(run: Run, tmp_path: Path) -> None:
    edit(tmp_path / "channels.yaml", "    consumer: shop.Orders\n", "    consumer: shop.Orders\n    validate: warn\n")
    done = run("-k", "refunded")
    assert "the handler of 'refunded' raised KeyError: 'id'" in done.stdout
    assert 'simplest event: {"type": "refunded"}\n' in done.stdout


def test_an_invalid_event_that_a_handler_sends_is_a_crash(run: Run, tmp_path: Path) -> None:
    edit(
        tmp_path / "shop.py", "        event[",
        "        self.channel_layer.send_sync('orders', {'type': 'paid'})\n        event[",
    )  # fmt: skip
    done = run("-k", "refunded")
    assert "the handler of 'refunded' raised EventRejected: channel 'orders' rejected 'paid'" in done.stdout


def test_a_crash_that_depends_on_something_else_is_told_as_that(run: Run, tmp_path: Path) -> None:
    edit(
        tmp_path / "shop.py", "        event[",
        "        from pathlib import Path\n        if not Path('once').exists():\n"
        "            Path('once').touch()\n            raise OSError('once')\n        event[",
    )  # fmt: skip
    done = run("-k", "refunded")
    assert "raised OSError: once" in done.stdout
    assert "The handler did not raise when it got the same event again" in done.stdout


def test_a_fixture_of_the_project_is_in_effect(run: Run, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import pytest, shop\n"
        "@pytest.fixture(autouse=True)\n"
        "def no_lines(monkeypatch): monkeypatch.setattr(shop.Orders, 'paid', lambda self, event: None)\n"
    )
    done = run()
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_channels_must_be_named(run: Run, tmp_path: Path) -> None:
    edit(tmp_path / "pytest.ini", "channelmap_fuzz = orders\n", "")
    done = run()
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "write 'channelmap_fuzz = CHANNEL …' in the configuration of pytest" in done.stderr


def test_a_misspelt_channel_is_an_error(run: Run, tmp_path: Path) -> None:
    edit(tmp_path / "pytest.ini", "channelmap_fuzz = orders", "channelmap_fuzz = mail order")
    done = run()
    assert done.returncode != 0
    assert "the setting channelmap_fuzz: no channel 'order'; the contract declares 'mail', 'orders'" in done.stdout


def test_a_consumer_that_cannot_be_imported_fails_in_one_line(run: Run, tmp_path: Path) -> None:
    edit(tmp_path / "shop.py", "class Orders", "class Order")
    done = run("-k", "paid")
    assert (
        "FAILED channels.yaml::orders::paid[fuzz] - Failed: 'shop' has no 'Orders'; did you mean 'Order'?"
        in done.stdout
    )


def test_without_hypothesis_the_error_names_the_extra(run: Run, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("import sys\nsys.modules['hypothesis'] = None\n")
    done = run("-p", "no:hypothesispytest")
    assert "--channelmap-fuzz needs Hypothesis: pip install 'channelmap[testing]'" in done.stderr
