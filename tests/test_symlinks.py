"""A contract that is reached through a symbolic link: its directory is that of the link, whoever reads it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from channelmap import get_channel_layer
from channelmap.cli import channelmap
from channelmap.cli.exits import Exit
from channelmap.cli.exits import run as run_command
from channelmap.errors import ContractError
from channelmap.loader import load

CONTRACT = """\
version: 1
channels:
  jobs:
    consumer: work_beside_link.Jobs
    events: {job: job.json}
"""
WORK = """\
from channelmap import AsyncConsumer

class Jobs(AsyncConsumer):
    async def job(self, event):
        print(event["id"], flush=True)
"""


@pytest.fixture
def link(project: Path) -> Path:
    """`app/channels.yaml`, a link to `shared/contract.yaml`; schema and consumers lie beside the link."""
    app, shared = project / "app", project / "shared"
    app.mkdir()
    shared.mkdir()
    (shared / "contract.yaml").write_text(CONTRACT)
    (app / "channels.yaml").symlink_to("../shared/contract.yaml")
    (app / "job.json").write_text(json.dumps({"required": ["id"]}))
    (app / "work_beside_link.py").write_text(WORK)
    return app / "channels.yaml"


def test_sender_worker_and_check_share_the_directory_of_the_link(
    link: Path, run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    layer = get_channel_layer(link)
    layer.send_sync("jobs", {"type": "job", "id": 7})
    assert layer.contract.root == link.parent
    assert (link.parent / "channels.db").exists()

    assert run_command(channelmap, "channelmap", ["check", str(link)]) == Exit.FINE
    worker = run("runworker", "--burst", "--config", "app/channels.yaml")

    assert (worker.popen.returncode, worker.output) == (Exit.FINE, "7\n")
    assert list((link.parent.parent / "shared").iterdir()) == [link.parent.parent / "shared" / "contract.yaml"]
    assert "2 warnings" not in capsys.readouterr().out


def test_the_file_that_a_link_leads_to_is_a_contract_of_its_own(link: Path) -> None:
    with pytest.raises(ContractError, match=r"shared/contract.yaml:5:19: error\[schema-missing\]"):
        get_channel_layer(link.resolve())


def test_a_layer_is_the_same_however_the_directory_is_named(link: Path, project: Path) -> None:
    (project / "current").symlink_to("app")
    assert get_channel_layer("app/channels.yaml") is get_channel_layer(link)
    assert get_channel_layer("app/../app/channels.yaml") is get_channel_layer(link)
    assert get_channel_layer("current/channels.yaml") is get_channel_layer(link)


def test_links_within_the_directory_are_files_of_it_and_links_out_of_it_are_not(link: Path, project: Path) -> None:
    (link.parent / "real.json").write_text(json.dumps({"required": ["number"]}))
    (link.parent / "job.json").unlink()
    (link.parent / "job.json").symlink_to("real.json")
    assert load(link).channels["jobs"].judge({"type": "job"})
    (link.parent / "job.json").unlink()
    (project / "outside.json").write_text("{}")
    (link.parent / "job.json").symlink_to("../outside.json")
    with pytest.raises(ContractError, match="is outside the directory of the contract"):
        load(link)
