"""A panic of the schema engine rejects one event or is one finding, but never ends in a traceback."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import jsonschema_rs
import pytest

from channelmap import EventRejected, Violation, Worker, get_channel_layer, load, load_router
from channelmap.cli import channelmap
from channelmap.cli.exits import Exit
from channelmap.cli.exits import run as cli_run
from channelmap.layers.memory import MemoryChannelLayer
from channelmap.loader import schemas
from channelmap.validation import algebra

GOOD = {"type": "job", "id": 1}
CONSUMERS = "from channelmap import AsyncConsumer\n\nclass Jobs(AsyncConsumer):\n    async def job(self, event): ...\n"
VIOLATION = Violation("$", "schema", "cannot be judged: the schema engine gives up on it")


class PanicException(BaseException):
    """A stand-in for the exception of a native library, which is not an `Exception`."""


class Panicking:
    """A validator of the engine that always panics."""

    def is_valid(self, instance: Any) -> bool:
        raise PanicException("index out of bounds")

    iter_errors = is_valid


@pytest.fixture
def nothing_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Isolate the cache of compiled schemas from other tests."""
    monkeypatch.setattr(schemas, "_in_use", WeakValueDictionary())


@pytest.fixture
def panics_while_judging(nothing_compiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    make = jsonschema_rs.validator_for

    def validator_for(schema: Any, **options: Any) -> Any:
        return Panicking() if "$schema" not in str(schema) else make(schema, **options)

    monkeypatch.setattr(jsonschema_rs, "validator_for", validator_for)


@pytest.fixture
def panics_while_compiling(nothing_compiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    make = jsonschema_rs.validator_for

    def validator_for(schema: Any, **options: Any) -> Any:
        if "id" in str(schema) and "$schema" not in str(schema):
            raise PanicException("index out of bounds")
        return make(schema, **options)

    monkeypatch.setattr(jsonschema_rs, "validator_for", validator_for)


@pytest.mark.usefixtures("panics_while_judging")
def test_a_sender_gets_a_rejection_if_the_engine_panics(contract_file: Callable[..., Path]) -> None:
    layer = get_channel_layer(contract_file())
    with pytest.raises(EventRejected) as caught:
        layer.send_sync("jobs", GOOD)
    assert caught.value.violations == (VIOLATION,)


@pytest.mark.usefixtures("panics_while_judging")
def test_a_worker_buries_the_event_and_continues_if_the_engine_panics(
    contract_file: Callable[..., Path], project: Path
) -> None:
    (project / "panic_work.py").write_text(CONSUMERS)
    layer = MemoryChannelLayer()

    async def main() -> list[str]:
        await layer.send_many("jobs", [GOOD, GOOD])
        worker = Worker(load_router(contract_file("panic_work.Jobs")), ["jobs"], layer, burst=True)
        await asyncio.wait_for(worker.serve(), 20)
        assert not worker.broken
        return [letter.code for letter in await layer.dead_letters()]

    assert asyncio.run(main()) == ["invalid", "invalid"]


@pytest.mark.usefixtures("panics_while_compiling")
def test_a_panic_during_compilation_is_a_finding(
    contract_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli_run(channelmap, "channelmap", ["check", str(contract_file())]) == Exit.FINDINGS
    captured = capsys.readouterr()
    assert "job.json:1:1: error[schema-invalid] the schema cannot be used: " in captured.out
    assert "index out of bounds" in captured.out
    assert "Traceback" not in captured.err


def test_a_comparison_is_undecided_if_the_engine_panics(monkeypatch: pytest.MonkeyPatch) -> None:
    def canonicalize(schema: Any, **options: Any) -> Any:
        raise PanicException("index out of bounds")

    monkeypatch.setattr(jsonschema_rs, "canonicalize", canonicalize)
    assert algebra.covers({}, {"type": "object"}) == "unknown"
    assert algebra.satisfiability({"type": "object"}) == "unknown"


def test_a_panic_outside_of_the_engine_is_reported_as_a_bug_in_channelmap(
    monkeypatch: pytest.MonkeyPatch, contract_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = contract_file()

    def panic(*_: Any, **__: Any) -> Any:
        raise PanicException("index out of bounds")

    monkeypatch.setattr("channelmap.cli.check.load", panic)
    assert cli_run(channelmap, "channelmap", ["check", str(path)]) == Exit.INTERNAL
    assert "this is a bug in channelmap" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_deliberate_exit_is_not_a_panic(
    monkeypatch: pytest.MonkeyPatch, contract_file: Callable[..., Path], error: type[BaseException]
) -> None:
    contract = load(contract_file())
    event_type = contract.channel("jobs").events["job"]
    assert event_type.validator is not None

    def interrupted(instance: Any) -> bool:
        raise error

    monkeypatch.setattr(event_type.validator, "accepts", interrupted)
    with pytest.raises(error):
        contract.channel("jobs").judge(GOOD)
