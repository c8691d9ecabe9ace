"""Routers speak Channels' words; the gate admits what the contract declares and hands back the rest."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from channelmap import ChannelNameRouter, ProtocolTypeRouter, UnknownChannel, load_router
from channelmap.asgi import Event, Receive, Scope, Send, offer
from channelmap.errors import ContractError
from channelmap.routing import application_of


async def nothing(*_: Any) -> Any:
    raise AssertionError("not to be called")


async def answers(scope: Scope, receive: Receive, send: Send) -> Any:
    return scope, receive, send


@pytest.mark.parametrize(
    ("router", "scope", "error", "message"),
    [
        (ProtocolTypeRouter({}), {"type": "channel"}, ValueError, "No application configured for scope type 'channel'"),
        (ProtocolTypeRouter({}), {}, KeyError, "'type'"),
        (
            ChannelNameRouter({}),
            {"type": "channel", "channel": "x"},
            ValueError,
            "No application configured for channel name 'x'",
        ),
        (
            ChannelNameRouter({}),
            {"type": "channel"},
            ValueError,
            (
                "ChannelNameRouter got a scope without a 'channel' key. "
                "Did you make sure it's only being used for 'channel' type messages?"
            ),
        ),
    ],
)
def test_a_router_without_an_application_for_the_scope_says_so(
    router: Any, scope: Scope, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        asyncio.run(router(scope, nothing, nothing))

    assert str(caught.value) == message


def test_routers_pass_the_same_scope_on_and_return_what_the_application_returns() -> None:
    router = ProtocolTypeRouter({"channel": ChannelNameRouter({"x": answers})})
    scope = {"type": "channel", "channel": "x"}

    result = asyncio.run(router(scope, nothing, nothing))

    assert result[0] is scope
    assert result[1:] == (nothing, nothing)


CONSUMERS = """
    class Jobs(AsyncConsumer):
        seen = []

        async def job(self, event):
            self.seen.append((event, dict(self.scope)))

        async def other(self, event):
            self.seen.append((event, dict(self.scope)))
    """


def drive(router: Any, events: list[Event], *, extensions: dict[str, Any]) -> list[Event]:
    """Run the router on `jobs` as a server with these extensions; return what it handed back."""
    handed_back: list[Event] = []
    waiting = list(events)

    async def receive() -> Event:
        if not waiting:
            raise asyncio.CancelledError
        return waiting.pop(0)

    async def send(event: Event) -> None:
        handed_back.append(event)

    async def main() -> None:
        scope = {"type": "channel", "channel": "jobs", "extensions": extensions}
        with suppress(asyncio.CancelledError):
            await router(scope, receive, send)

    asyncio.run(main())
    return handed_back


@pytest.fixture
def consumers(consumer_module: Callable[[str], ModuleType]) -> ModuleType:
    return consumer_module(CONSUMERS)


GOOD, BAD, UNKNOWN = {"type": "job", "id": 1}, {"type": "job", "id": "secret"}, {"type": "other", "id": 1}


def test_the_gate_admits_what_is_declared_and_hands_back_the_rest(
    consumers: ModuleType, contract_file: Callable[..., Path]
) -> None:
    router = load_router(contract_file(f"{consumers.__name__}.Jobs"))

    handed_back = drive(router, [BAD, GOOD, UNKNOWN], extensions={"channel.reject": {}})

    assert consumers.Jobs.seen == [(GOOD, {"type": "channel", "channel": "jobs"})]
    assert [(event["type"], event["event"], event["code"]) for event in handed_back] == [
        ("channel.reject", BAD, "schema-mismatch"),
        ("channel.reject", UNKNOWN, "unknown-type"),
    ]
    assert [violation.path for violation in handed_back[0]["violations"]] == ["$.id"]


def test_under_a_server_that_takes_nothing_back_the_gate_logs_without_the_payload(
    consumers: ModuleType, contract_file: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    router = load_router(contract_file(f"{consumers.__name__}.Jobs"))

    assert drive(router, [BAD, GOOD], extensions={}) == []

    assert [event for event, _ in consumers.Jobs.seen] == [GOOD]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "channel 'jobs' rejected 'job' [schema-mismatch]: $.id" in record.getMessage()
    assert "secret" not in record.getMessage()


def test_with_validate_warn_everything_is_delivered_and_said(
    consumers: ModuleType, contract_file: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    router = load_router(contract_file(f"{consumers.__name__}.Jobs", options="validate: warn"))

    drive(router, [BAD, UNKNOWN, GOOD], extensions={"channel.reject": {}})

    assert [event for event, _ in consumers.Jobs.seen] == [BAD, UNKNOWN, GOOD]
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


@pytest.mark.parametrize("mode", ["warn", "enforce"])
def test_behind_a_gate_a_thread_goes_on_with_what_is_at_hand_and_all_is_said(
    mode: str,
    consumer_module: Callable[[str], ModuleType],
    contract_file: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    module = consumer_module(
        """
        class Jobs(SyncConsumer):
            seen = []

            def job(self, event):
                self.seen.append(event)
        """
    )
    router = load_router(contract_file(f"{module.__name__}.Jobs", options=f"validate: {mode}"))
    waiting: list[Event] = [GOOD, GOOD, BAD, GOOD]
    awaited = 0

    async def main() -> None:
        async def receive() -> Event:
            nonlocal awaited
            awaited += 1
            if not waiting:
                raise asyncio.CancelledError
            return waiting.pop(0)

        offered = offer(receive, lambda: waiting.pop(0) if waiting else None)
        with suppress(asyncio.CancelledError):
            await router({"type": "channel", "channel": "jobs"}, offered, nothing)

    asyncio.run(main())

    # What is refused is handed back in the event loop, and then the thread has to be asked anew.
    expected = ([GOOD, GOOD, BAD, GOOD], 2) if mode == "warn" else ([GOOD] * 3, 3)
    assert (module.Jobs.seen, awaited) == expected
    assert len(caplog.records) == 1


def test_with_validate_off_nothing_is_judged(
    consumers: ModuleType, contract_file: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    router = load_router(contract_file(f"{consumers.__name__}.Jobs", options="validate: 'off'"))

    drive(router, [BAD, UNKNOWN], extensions={"channel.reject": {}})

    assert [event for event, _ in consumers.Jobs.seen] == [BAD, UNKNOWN]
    assert caplog.records == []


def test_any_asgi_application_may_be_a_consumer(
    consumer_module: Callable[[str], ModuleType], contract_file: Callable[..., Path]
) -> None:
    module = consumer_module(
        """
        seen = []

        async def application(scope, receive, send):
            while True:
                seen.append(await receive())
        """
    )

    drive(load_router(contract_file(f"{module.__name__}.application")), [BAD, GOOD], extensions={"channel.reject": {}})

    assert module.seen == [GOOD]


def test_a_class_with_as_asgi_makes_the_application_and_anything_else_is_one(
    consumers: ModuleType, consumer_module: Callable[[str], ModuleType]
) -> None:
    module = consumer_module(
        """
        class Plain:
            pass

        plain = Plain()
        plain.as_asgi = None
        """
    )

    jobs: Any = application_of(f"{consumers.__name__}.Jobs")
    assert jobs.consumer_class is consumers.Jobs
    assert application_of(f"{module.__name__}.Plain") is module.Plain
    assert application_of(f"{module.__name__}.plain") is module.plain


def test_without_a_file_the_router_is_that_of_the_working_directory(
    consumers: ModuleType, contract_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(contract_file(f"{consumers.__name__}.Jobs").parent)

    assert list(load_router().application_mapping) == ["jobs"]


def test_an_empty_path_is_not_the_contract_of_the_working_directory(
    consumers: ModuleType, contract_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(contract_file(f"{consumers.__name__}.Jobs").parent)

    with pytest.raises(ContractError):
        load_router("")


def test_the_contract_of_a_router_may_be_passed_by_its_name_or_by_the_former_one(
    consumers: ModuleType, contract_file: Callable[..., Path]
) -> None:
    path = contract_file(f"{consumers.__name__}.Jobs")

    assert list(load_router(contract=path).application_mapping) == ["jobs"]
    assert list(load_router(config=path).application_mapping) == ["jobs"]
    with pytest.raises(TypeError, match=r"load_router\(\) got both 'contract' and 'config'"):
        load_router(path, config=path)


def test_a_router_may_be_built_for_some_channels_only(
    consumers: ModuleType, contract_file: Callable[..., Path]
) -> None:
    path = contract_file(f"{consumers.__name__}.Jobs")

    assert list(load_router(path, ["jobs"]).application_mapping) == ["jobs"]
    with pytest.raises(UnknownChannel, match="no channel 'job'; the contract declares 'jobs'; did you mean 'jobs'?"):
        load_router(path, ["job"])
