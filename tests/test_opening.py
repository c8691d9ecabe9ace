"""How `get_channel_layer` opens a layer: once for all threads, safely beside a fork, later if the file is missing."""

import asyncio
import copy
import inspect
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Self, TypeVar

import pytest

import channelmap
from channelmap import ChannelLayer, ContractError, get_channel_layer, load, load_router
from channelmap.sending import ContractLayer

T = TypeVar("T")

PACKAGE = str(Path(channelmap.__file__).parent)

GOOD = {"type": "job", "id": 1}
HINT = "point $CHANNELMAP_CONFIG to the contract file, or write a first one with 'channelmap init'"


def in_threads(call: Callable[[], T], count: int = 16) -> list[T]:
    """Call a function in threads that all start at the same moment; return what they return."""
    barrier = threading.Barrier(count)
    results: list[T] = []

    def run() -> None:
        barrier.wait(20)
        results.append(call())

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(results) == count
    return results


# Threads that come first together.


def test_threads_that_ask_first_at_the_same_moment_get_one_layer(contract_file: Callable[..., Path]) -> None:
    path = contract_file()

    layers = in_threads(lambda: get_channel_layer(path))

    assert len(set(map(id, layers))) == 1
    assert len({id(layer.layer) for layer in layers}) == 1


def test_a_thread_that_stops_anywhere_in_an_opening_gets_the_layer_of_the_one_that_overtakes_it(
    project: Path, contract_file: Callable[..., Path]
) -> None:
    text = contract_file().read_text()
    get_channel_layer()  # What is imported lazily is imported here: Python's own locks of modules are not tested.
    points = 0
    while True:
        path = project / f"{points}.yaml"
        path.write_text(text)
        with Stopped(lambda path=path: get_channel_layer(path), points) as stopped:  # type: ignore[misc]
            if not stopped.is_stopped:
                break
            overtaking = get_channel_layer(path)
            inner = overtaking.layer
        assert stopped.result is overtaking is get_channel_layer(path), stopped.point
        assert overtaking.layer is inner, stopped.point
        points += 1
    assert points > 50


class Stopped:
    """A thread that makes a call, and stops where it enters a function of channelmap's for the nth time."""

    def __init__(self, call: Callable[[], Any], number: int) -> None:
        self.is_stopped = False
        self.result: Any = None
        self.point = ""
        self._call = call
        self._left = number
        self._ready, self._goes_on = threading.Event(), threading.Event()
        self._seen: set[CodeType] = set()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._goes_on.set()
        self._thread.join(20)

    def _run(self) -> None:
        sys.setprofile(self._profile)
        self.result = self._call()
        sys.setprofile(None)
        self._ready.set()

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(PACKAGE) or code in self._seen:
            return
        self._seen.add(code)
        self._left -= 1
        if self._left < 0 and not self.is_stopped:
            self.is_stopped, self.point = True, code.co_qualname
            self._ready.set()
            self._goes_on.wait(20)


def test_threads_that_use_first_at_the_same_moment_what_was_missing_send_to_one_layer(
    project: Path, contract_file: Callable[..., Path]
) -> None:
    layer = get_channel_layer()
    contract_file()

    in_threads(lambda: layer.send_sync("jobs", GOOD))

    assert asyncio.run(layer.waiting("jobs")) == 16


#: Stops a thread that opens a contract at each function of channelmap that it enters, and forks a child there, which
#: opens the same contract. Lazy imports are done before: Python's own locks of modules are not tested here.
FORKS = """
import os, queue, signal, sys, threading
from channelmap import get_channel_layer
get_channel_layer("warm/channels.yaml")
entered, goes_on, seen = queue.Queue(), threading.Semaphore(0), set()
def profile(frame, event, _):
    code = frame.f_code
    if event == "call" and "channelmap" in code.co_filename and code not in seen:
        seen.add(code)
        entered.put(code.co_qualname)
        goes_on.acquire()
def work():
    sys.setprofile(profile)
    get_channel_layer("channels.yaml")
    sys.setprofile(None)
    entered.put(None)
threading.Thread(target=work, daemon=True).start()
stuck, forks = [], 0
while not stuck and (name := entered.get(timeout=20)):
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        get_channel_layer("channels.yaml")
        os._exit(0)
    forks += 1
    if os.waitpid(pid, 0)[1]:
        stuck.append(name)
    goes_on.release()
print(forks > 50, stuck)
"""


def test_a_child_that_is_forked_at_any_point_of_an_opening_opens_the_layer_itself(
    project: Path, contract_file: Callable[..., Path], run: Callable[..., Any]
) -> None:
    (project / "warm").mkdir()
    for file in (contract_file(), project / "job.json"):
        (project / "warm" / file.name).write_bytes(file.read_bytes())

    process = run(command=("-W", "ignore::DeprecationWarning", "-c", FORKS))

    assert (process.output, process.errors) == ("True []\n", "")


# A file that is missing.

USES: dict[str, Callable[[ContractLayer], Any]] = {
    "send": lambda layer: asyncio.run(layer.send("jobs", GOOD)),
    "send_many": lambda layer: asyncio.run(layer.send_many("jobs", [GOOD])),
    "send_sync": lambda layer: layer.send_sync("jobs", GOOD),
    "receive": lambda layer: asyncio.run(layer.receive("jobs")),
    "group_send": lambda layer: asyncio.run(layer.group_send("group", GOOD)),
    "dead_letters": lambda layer: asyncio.run(layer.dead_letters()),
    "contract": lambda layer: layer.contract,
    "load": lambda _: load(),
    "load_router": lambda _: load_router(),
}


@pytest.mark.parametrize("use", USES)
def test_the_layer_of_a_missing_file_says_at_first_use_where_the_file_was_looked_for(use: str, project: Path) -> None:
    layer = get_channel_layer()

    with pytest.raises(ContractError) as caught:
        USES[use](layer)

    expected = f"{project}/channels.yaml: error[file-missing] there is no such file; {HINT}"
    assert list(map(str, caught.value.diagnostics)) == [expected]


@pytest.mark.parametrize(
    "command",
    ["runworker", "runworker --processes 2", "check", "lock 1.0", "dead list", "send jobs {}"],
)
def test_commands_say_the_same_of_a_missing_file(command: str, project: Path, run: Callable[..., Any]) -> None:
    process = run(*command.split())

    assert process.popen.returncode == 2
    assert process.output == f"{project}/channels.yaml: error[file-missing] there is no such file; {HINT}\n"


def test_a_module_of_a_process_in_another_directory_can_hold_a_layer(
    project: Path, contract_file: Callable[..., Path], run: Callable[..., Any]
) -> None:
    contract_file()
    (project / "shop.py").write_text("from channelmap import get_channel_layer\nlayer = get_channel_layer()\n")
    started = "import os, sys; sys.path.append(os.getcwd()); os.chdir('/'); import shop; print('started', flush=True)"

    process = run(command=("-c", f"{started}; shop.layer.send_sync('jobs', {{}})"))

    assert process.output == "started\n"
    assert f"/channels.yaml: error[file-missing] there is no such file; {HINT}" in process.errors


def test_a_layer_works_once_its_file_is_there(project: Path, contract_file: Callable[..., Path]) -> None:
    layer = get_channel_layer()
    with pytest.raises(ContractError):
        layer.send_sync("jobs", GOOD)
    contract_file()

    layer.send_sync("jobs", GOOD)

    assert asyncio.run(layer.receive("jobs")) == GOOD
    assert get_channel_layer() is layer


def test_a_file_that_appears_broken_fails_in_the_layer_and_in_the_next_call(project: Path) -> None:
    layer = get_channel_layer()
    (project / "channels.yaml").write_text("version: 7\n")

    with pytest.raises(ContractError, match=r"channels\.yaml:1:10: error"):
        layer.send_sync("jobs", GOOD)
    with pytest.raises(ContractError, match=r"channels\.yaml:1:10: error"):
        get_channel_layer()


def test_a_layer_that_was_never_used_can_be_closed_without_its_file(project: Path) -> None:
    asyncio.run(get_channel_layer().close())


def test_a_missing_file_with_a_neighbour_of_almost_the_same_name_names_the_neighbour(project: Path) -> None:
    (project / "chanels.yaml").touch()

    with pytest.raises(ContractError, match=r"; did you mean 'chanels\.yaml'\? If not, point \$CHANNELMAP_CONFIG"):
        get_channel_layer().send_sync("jobs", GOOD)


# The layer as an object.


def held(contract_file: Callable[..., Path], how: str) -> ContractLayer:
    if how == "missing":
        return get_channel_layer("missing.yaml")
    layer = get_channel_layer(contract_file())
    return layer if how == "file" else ContractLayer(layer.contract)


@pytest.mark.parametrize("how", ["file", "missing", "given"])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_layer_is_the_layer(
    how: str, copied: Callable[[ContractLayer], ContractLayer], contract_file: Callable[..., Path]
) -> None:
    layer = held(contract_file, how)

    assert copied(layer) is layer


@pytest.mark.parametrize("how", ["file", "missing", "given"])
def test_a_layer_cannot_be_pickled_and_says_what_to_do_instead(how: str, contract_file: Callable[..., Path]) -> None:
    with pytest.raises(TypeError, match=r"^cannot pickle a channel layer: .*call channelmap\.get_channel_layer\(\) in"):
        pickle.dumps(held(contract_file, how))


@pytest.mark.parametrize("how", ["file", "missing", "given"])
def test_an_attribute_that_a_layer_does_not_have_is_an_attribute_error(
    how: str, contract_file: Callable[..., Path]
) -> None:
    layer: Any = held(contract_file, how)

    with pytest.raises(AttributeError, match="'grup_send'"):
        layer.grup_send("group", GOOD)
    with pytest.raises(AttributeError, match="'contract'|'_loaded'"):
        _ = object.__new__(type(layer)).contract


def test_a_contract_layer_has_every_public_method_of_a_layer_with_the_same_arguments() -> None:
    for name, member in inspect.getmembers(ChannelLayer):
        if not name.startswith("_") and callable(member):
            own = getattr(ContractLayer, name)
            assert inspect.signature(own) == inspect.signature(member), name
            assert inspect.iscoroutinefunction(own) == inspect.iscoroutinefunction(member), name


SAMPLE = """\
from channelmap import get_channel_layer

layer = get_channel_layer()


async def right() -> None:
    await layer.group_send("group", {"type": "job"})
    await layer.dead_letters()
    print(layer.capacity, layer.contract.channels, await layer.waiting("jobs"))


async def misspelt() -> None:
    await layer.grup_send("group", {"type": "job"})


async def wrong() -> None:
    await layer.group_add("group", 7)


from channelmap import get_chanel_layer
"""


def test_a_type_checker_sees_a_misspelt_method_and_a_wrong_argument(tmp_path: Path) -> None:
    (tmp_path / "sample.py").write_text(SAMPLE)

    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir=cache", "sample.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    # Without suggestions, which depend on the version of mypy.
    assert [re.sub(";.*  ", "  ", line) for line in done.stdout.splitlines()] == [
        'sample.py:13: error: "ContractLayer" has no attribute "grup_send"  [attr-defined]',
        'sample.py:17: error: Argument 2 to "group_add" of "ContractLayer" has incompatible type "int"  [arg-type]',
        'sample.py:20: error: Module "channelmap" has no attribute "get_chanel_layer"  [attr-defined]',
    ]


@pytest.fixture
def deleted_directory(tmp_path_factory: pytest.TempPathFactory, project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that was deleted, as that of the last release is; the project is elsewhere."""
    directory = tmp_path_factory.mktemp("release")
    monkeypatch.chdir(directory)
    directory.rmdir()
    return directory


@pytest.mark.usefixtures("deleted_directory")
def test_a_contract_with_an_absolute_path_needs_no_working_directory(contract_file: Callable[..., Path]) -> None:
    layer = get_channel_layer(contract_file())
    layer.send_sync("jobs", GOOD)
    assert asyncio.run(layer.receive("jobs")) == GOOD


@pytest.mark.usefixtures("deleted_directory")
@pytest.mark.parametrize("call", [get_channel_layer, load, load_router])
def test_a_relative_path_below_a_deleted_working_directory_is_explained(call: Callable[[str], object]) -> None:
    with pytest.raises(ContractError) as caught:
        call("app/channels.yaml")
    (finding,) = caught.value.diagnostics
    assert str(finding) == (
        "app/channels.yaml: error[file-missing] the working directory no longer exists; "
        "name the file by its absolute path, or change to a directory that exists"
    )
