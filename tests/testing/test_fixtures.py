"""The fixtures of pytest and the class for unittest, as real runs of pytest and unittest in a project of their own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CONTRACT = """\
version: 1
layer: sqlite:///channels.db
channels:
  jobs:
    consumer: jobs.Jobs
    events: {job: {schema: {type: object, properties: {id: {type: integer}}, required: [id]}}}
"""
JOBS = """\
from channelmap import SyncConsumer, get_channel_layer

layer = get_channel_layer()
done = []


def request(number):
    layer.send_sync("jobs", {"type": "job", "id": number})


class Jobs(SyncConsumer):
    def job(self, event):
        done.append(event["id"])
"""
WITH_PYTEST = """\
import pytest
from channelmap.testing import sent_events
import jobs


@pytest.mark.parametrize("number", range(4))
def test_jobs(channelmap_layer, channelmap_worker, number):
    jobs.request(number)
    assert sent_events() == [{"type": "job", "id": number}]
    assert channelmap_worker.drain() == [{"type": "job", "id": number}]
    assert jobs.done[-1] == number


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.anyio
async def test_async(channelmap_layer, channelmap_worker):
    await channelmap_layer.send("jobs", {"type": "job", "id": 9})
    assert await channelmap_worker.adrain("jobs") == [{"type": "job", "id": 9}]
    assert jobs.done[-1] == 9
"""
WITH_UNITTEST = """\
import unittest
from channelmap.testing import MemoryLayerMixin, adrain, drain, sent_events
import jobs


class JobTests(MemoryLayerMixin, unittest.TestCase):
    def test_jobs(self):
        self.assertEqual(sent_events(), [])
        jobs.request(1)
        self.assertEqual(sent_events("jobs"), [{"type": "job", "id": 1}])
        drain()
        self.assertEqual(jobs.done, [1])

    def test_nothing_is_left_of_another_test(self):
        self.assertEqual(sent_events(), [])
        self.channel_layer.send_sync("jobs", {"type": "job", "id": 2})


class AsyncTests(MemoryLayerMixin, unittest.IsolatedAsyncioTestCase):
    channelmap_contract = "events.yaml"

    async def test_jobs(self):
        await self.channel_layer.send("tasks", {"type": "task"})
        self.assertEqual(sent_events(), [{"type": "task"}])
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run Python with arguments in a project; it must succeed, and leave no database."""
    (tmp_path / "channels.yaml").write_text(CONTRACT)
    (tmp_path / "events.yaml").write_text(
        CONTRACT.replace("jobs:", "tasks:").replace("job:", "task:").replace("[id]", "[]")
    )
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider --color=no\nfilterwarnings = error\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CHANNELMAP", "DJANGO"))}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert not (tmp_path / "channels.db").exists()
        return done

    return call


@pytest.mark.parametrize("options", [[], ["-n", "2"]], ids=["one process", "pytest-xdist"])
def test_the_fixtures_of_pytest(run: Run, tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "test_jobs.py").write_text(WITH_PYTEST)
    done = run("pytest", "-q", *options)
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


def test_a_fixture_of_the_project_names_the_contract(run: Run, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import pytest\n@pytest.fixture(scope='session')\ndef channelmap_contract(): return 'events.yaml'\n"
    )
    (tmp_path / "test_tasks.py").write_text(
        "def test_task(channelmap_layer): channelmap_layer.send_sync('tasks', {'type': 'task'})\n"
    )
    done = run("pytest", "-q")
    assert done.returncode == 0, done.stdout


def test_a_contract_that_is_missing_fails_in_words(run: Run, tmp_path: Path) -> None:
    (tmp_path / "channels.yaml").unlink()
    (tmp_path / "test_tasks.py").write_text("def test_task(channelmap_layer): ...\n")
    done = run("pytest", "-q")
    assert done.returncode == 1
    assert "ContractError: " in done.stdout
    assert "channelmap init" in done.stdout


def test_the_class_for_unittest(run: Run, tmp_path: Path) -> None:
    (tmp_path / "test_jobs.py").write_text(WITH_UNITTEST)
    done = run("unittest", "-q")
    assert done.returncode == 0, done.stderr
    assert "Ran 3 tests" in done.stderr
    done = run("pytest", "-q")
    assert "3 passed" in done.stdout, done.stdout
