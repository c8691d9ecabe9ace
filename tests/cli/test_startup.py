"""The start of a process: as the first one of a container, and beside modules with the names of libraries."""

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from channelmap import get_channel_layer
from channelmap.imports import LIBRARIES
from tests.cli.commands import Start, Wait, write_site

CHANNELS = """\
version: 1
layer: sqlite:///channels.db
channels:
  jobs:
    consumer: work.Jobs
    events: {job: {schema: {type: object}, accepts: [{type: job}]}}
"""

WORK = """\
from channelmap import AsyncConsumer

class Jobs(AsyncConsumer):
    async def job(self, event):
        print("handled", flush=True)
"""

#: Replaces this process by another command.
EXEC = "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"
#: Modules of Python and of libraries that channelmap or its libraries import, at any time.
NAMES = [
    "queue", "types", "json", "sqlite3", "asyncio", "traceback", "yaml", "click", "msgpack", "uvloop", "redis",
    "hiredis", "jsonschema", "jsonschema_rs", "asgiref", "rich", "django",
]  # fmt: skip


#: Where the commands are installed.
COMMANDS = Path(sys.executable).parent


def write_modules(directory: Path, names: list[str]) -> None:
    for name in names:
        (directory / f"{name}.py").write_text(f"raise RuntimeError('this is the {name} of the project')\n")


@pytest.fixture
def served(tmp_path: Path) -> Path:
    write_site(tmp_path, CHANNELS, WORK)
    return tmp_path


def first_of_a_container(command: list[str]) -> list[str]:
    """Return a command that runs as process 1 of a namespace; if that is not permitted, with a faked process id."""
    prefix = ["unshare", *([] if os.getuid() == 0 else ["--map-root-user"]), "--pid", "--fork"]
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode == 0:
        return [*prefix, sys.executable, "-m", *command]
    believes = "import os, runpy, sys; os.getpid = lambda: 1; runpy.run_module(sys.argv[0], run_name='__main__')"
    return [sys.executable, "-c", f"import sys; sys.argv = sys.argv[1:]; {believes}", *command]


def child_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else pid


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("command", [["runworker"], ["check"]])
def test_the_first_process_of_a_container_can_be_stopped_while_it_imports(
    served: Path, start: Start, wait_until: Wait, signum: signal.Signals, command: list[str]
) -> None:
    (served / "work.py").write_text("import pathlib, time\npathlib.Path('importing').touch()\ntime.sleep(3_600)\n")
    process = start(*first_of_a_container(["channelmap", *command]), command=("-c", EXEC))
    wait_until((served / "importing").exists, "the import")

    os.kill(child_of(process.popen.pid), signum)

    assert process.wait() == 128 + signum, process.errors


def test_the_first_process_of_a_container_still_drains(served: Path, start: Start, wait_until: Wait) -> None:
    process = start(*first_of_a_container(["channelmap", "runworker"]), command=("-c", EXEC))
    wait_until(lambda: "; ready" in process.errors, "the worker")

    os.kill(child_of(process.popen.pid), signal.SIGTERM)

    assert process.wait() == 0, process.errors
    assert "INFO channelmap.worker: stopped" in process.errors


@pytest.mark.parametrize("arguments", [(), ("--processes", "2")])
def test_modules_of_the_project_never_replace_modules_that_channelmap_imports(
    served: Path, run: Start, arguments: tuple[str, ...]
) -> None:
    get_channel_layer(served / "channels.yaml").send_sync("jobs", {"type": "job"})
    write_modules(served, NAMES)

    worker = run(str(COMMANDS / "runworker"), "--burst", *arguments, command=("-P", "-c", EXEC))

    assert (worker.popen.returncode, worker.output) == (0, "handled\n"), worker.errors


def test_modules_of_the_project_never_replace_modules_that_a_third_party_layer_imports(
    served: Path, start: Start, wait_until: Wait
) -> None:
    write_modules(served, NAMES)

    worker = start(str(COMMANDS / "runworker"), "--layer", "redis://127.0.0.1:1", command=("-P", "-c", EXEC))
    wait_until(lambda: "cannot start yet" in worker.errors, "the first try")
    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0, worker.errors


@pytest.mark.parametrize("variables", [{}, {"PYTHONPATH": "."}])
def test_the_working_directory_is_not_searched_first_even_if_python_puts_it_first(
    served: Path, run: Start, variables: dict[str, str]
) -> None:
    get_channel_layer(served / "channels.yaml").send_sync("jobs", {"type": "job"})
    write_modules(served, ["yaml", "click", "msgpack", "jsonschema_rs", "asgiref"])

    worker = run("runworker", "--burst", "--processes", "2", **variables)

    assert (worker.popen.returncode, worker.output) == (0, "handled\n"), worker.errors


def test_check_imports_its_own_libraries_too(served: Path, run: Start) -> None:
    write_modules(served, NAMES)

    checked = run(str(COMMANDS / "channelmap"), "check", "--layer", command=("-P", "-c", EXEC))

    assert checked.popen.returncode == 0, checked.output + checked.errors


@pytest.mark.parametrize("name", ["queue", "click"])
@pytest.mark.parametrize("work", ["from {0} import Jobs\n", "import {0}\nJobs = {0}.Jobs\n"])
def test_a_module_that_cannot_be_imported_because_of_its_name_is_named_with_its_file(
    served: Path, run: Start, name: str, work: str
) -> None:
    (served / f"{name}.py").write_text(WORK)
    (served / "work.py").write_text(work.format(name))

    worker = run("runworker", "--processes", "2")

    assert worker.popen.returncode == 1
    assert f"'{served / name}.py' is hidden by the module in " in worker.output
    assert "which has the same name: rename it" in worker.output


@pytest.mark.parametrize("consumer", ["queue.Jobs", "queue.Queue", "queue.jobs.Jobs", "click.Jobs", "time.Jobs"])
def test_a_consumer_that_cannot_be_imported_because_of_its_name_is_named_with_its_file(
    served: Path, run: Start, consumer: str
) -> None:
    name = consumer.partition(".")[0]
    (served / f"{name}.py").write_text(WORK)
    (served / "channels.yaml").write_text((served / "channels.yaml").read_text().replace("work.Jobs", consumer))

    checked = run("check")

    assert checked.popen.returncode == 1
    assert f"'{served / name}.py' is hidden by " in checked.output


def test_a_module_of_the_project_comes_before_an_installed_one(served: Path, run: Start) -> None:
    (served / "pytest.py").write_text("class Helper: ...\n")
    (served / "work.py").write_text("from pytest import Helper\n" + WORK)

    assert run("runworker", "--burst").popen.returncode == 0


def test_a_module_that_cannot_be_used_as_uvloop_is_named_and_the_worker_runs_without_it(
    served: Path, run: Start
) -> None:
    first = served / "first"
    first.mkdir()
    (first / "uvloop.py").write_text("answer = 42\n")
    get_channel_layer(served / "channels.yaml").send_sync("jobs", {"type": "job"})

    worker = run("runworker", "--burst", PYTHONPATH=str(first))

    assert f"uvloop ({first / 'uvloop.py'}) cannot be used: " in worker.errors
    assert (worker.popen.returncode, worker.output) == (0, "handled\n"), worker.errors


def test_all_dependencies_of_channelmap_are_listed_as_its_libraries() -> None:
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (libraries,) = [contract for contract in contracts if contract["name"].startswith("Each library")]

    # Libraries of the user are imported from the path of the user.
    assert set(libraries["forbidden_modules"]) - {"channels", "django", "watchfiles"} <= LIBRARIES
