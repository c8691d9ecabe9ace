"""`manage.py runworker` and `manage.py channelmap`: the contract of the settings, in any directory."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from .projects import Project

Wait = Callable[..., None]


def test_the_worker_handles_what_the_site_sends_and_writes_to_its_database(shop: Project) -> None:
    shop.send("orders", {"type": "paid", "id": 7})
    code, out, _ = shop.manage("runworker", "--burst")
    assert (code, out) == (0, "paid 7\n")
    assert shop.shell("from shop.models import Order\nresult = [*Order.objects.values_list('id', 'paid')]") == [
        [7, True]
    ]


def test_several_processes_are_started_by_manage_py_in_any_directory(
    shop: Project, tmp_path_factory: pytest.TempPathFactory, wait_until: Wait
) -> None:
    elsewhere, manage = str(tmp_path_factory.mktemp("elsewhere")), str(shop.directory / "manage.py")
    change = "import os, sys; os.chdir(sys.argv[1]); os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    worker = shop.run_python("-c", change, elsewhere, manage, "runworker", "--processes", "2")
    wait_until(lambda: worker.errors.count("; ready") == 2, "two workers")
    shop.send("orders", *[{"type": "paid", "id": number} for number in range(2)])
    wait_until(lambda: len(worker.lines) == 2, "the events")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_arguments_of_channels_own_worker_work_too(shop: Project) -> None:
    shop.set(
        "OURS = {'BACKEND': 'channelmap.django.ChannelLayer'}\n"
        "CHANNEL_LAYERS = {'default': OURS, 'other': OURS | {'CONFIG': {'url': 'sqlite:///other.db'}}}"
    )
    code, _, errors = shop.manage("runworker", "orders", "--layer", "other", "--burst")
    assert code == 0
    assert "other.db" in errors
    code, _, errors = shop.manage("runworker", "orders", "--layer", "defualt", "--burst")
    assert code == 2
    assert "'defualt' is not in CHANNEL_LAYERS; did you mean 'default'?" in errors


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["channelmap", "check"], 0, "channels.yaml"),
        (["channelmap", "dead", "list"], 0, ""),
        (["channelmap", "status"], 0, "orders"),
        (["channelmap", "pause", "orders"], 0, ""),
        (["runworker", "--help"], 0, "manage.py runworker [OPTIONS]"),
        (["channelmap", "--help"], 0, "manage.py channelmap [OPTIONS]"),
        (["channelmap", "chek"], 2, "check"),
        (["runworker", "ordres"], 2, "did you mean 'orders'?"),
        (["runworker", "--proceses", "2"], 2, "--processes"),
    ],
)
def test_each_command_says_what_channelmap_says(shop: Project, arguments: list[str], code: int, said: str) -> None:
    found, out, errors = shop.manage(*arguments)
    assert found == code, out + errors
    assert said in out + errors


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("del CHANNELMAP", "the setting CHANNELMAP is missing"),
        ("CHANNELMAP = 'channels.yaml'", "CHANNELMAP: expected a dict, got str"),
        ("CHANNELMAP = {'CONFG': 'channels.yaml'}", "unknown key 'CONFG'; did you mean 'CONFIG'?"),
        ("CHANNELMAP = {'CONFIG': None}", "CHANNELMAP['CONFIG']: expected a path"),
        ("CHANNELMAP = {'CONFIG': BASE_DIR / 'nowhere.yaml'}", "nowhere.yaml"),
    ],
)
def test_a_wrong_setting_is_an_error_with_a_hint(shop: Project, setting: str, said: str) -> None:
    shop.set(setting)
    for command in (["check"], ["runworker", "--burst"], ["channelmap", "status"]):
        code, out, errors = shop.manage(*command)
        assert code in {1, 2}
        assert said in out + errors


def test_a_worker_does_not_start_while_a_system_check_fails(shop: Project) -> None:
    shop.write({"shop/consumers.py": "from channelmap import SyncConsumer\n\nclass Orders(SyncConsumer): ...\n"})
    code, _, errors = shop.manage("runworker", "--burst")
    assert code == 1
    assert "channelmap.handler-missing" in errors
    code, out, errors = shop.manage("runworker", "--burst", "--skip-checks")
    assert code == 1
    assert "handler-missing" in out


def test_the_file_of_the_environment_comes_before_that_of_the_settings(shop: Project) -> None:
    (shop.directory / "other.yaml").write_text(
        (shop.directory / "channels.yaml").read_text().replace("orders", "others")
    )
    _, out, _ = shop.manage("channelmap", "status", CHANNELMAP_CONFIG=str(Path("other.yaml").absolute()))
    assert "others" in out
