"""Events in a layer are checked by the contract that is to be deployed."""

import asyncio
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from channelmap.check.stored_events import check_stored_events
from channelmap.diagnostics import Diagnostic
from channelmap.errors import LayerError
from channelmap.layer import ChannelLayer, Delivery, letter_for
from channelmap.layers.packing import pack
from channelmap.loader import load
from channelmap.sending import open_contract_layer
from tests.layers.redis_servers import VOLATILE, Server, running

T = TypeVar("T")

GOOD, BAD = {"type": "job", "id": 1}, {"type": "job", "id": "secret"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("waiting") / "server", *VOLATILE)
    with running(server):
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, project: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{project}/events.db"
    server: Server = request.getfixturevalue("server")
    server.client.flushall()
    return server.url


@pytest.fixture
def check(url: str, contract_file: Callable[..., Path]) -> Callable[..., list[Diagnostic]]:
    """Fill a real layer, and check its events by a contract with further lines."""

    def run(fill: Callable[[ChannelLayer], Awaitable[Any]], options: str = "") -> list[Diagnostic]:
        contract = load(contract_file(layer=url, options=options))

        async def main() -> list[Diagnostic]:
            layer = open_contract_layer(contract)
            try:
                await fill(layer)
                return list(await check_stored_events(contract, layer))
            finally:
                await layer.close()

        return asyncio.run(main())

    return run


def sending(*events: Any) -> Callable[[ChannelLayer], Awaitable[object]]:
    return lambda layer: layer.send_many("jobs", events)


async def bury(layer: ChannelLayer, event: Any, code: Any = "failed") -> None:
    await layer.send("jobs", event)
    (delivery,) = await layer.take("jobs", 1)
    await layer.bury(delivery, letter_for(delivery, code, "it broke"))


def lines(findings: Sequence[Diagnostic]) -> list[str]:
    """Return line, severity and message of each finding."""
    return [f"{finding.location.line}: {finding.severity} {finding.message}" for finding in findings]


def test_valid_stored_events_give_no_findings(check: Callable[..., list[Diagnostic]]) -> None:
    assert check(sending(GOOD, GOOD)) == []


def test_rejected_waiting_events_are_counted_by_type_and_reason(
    check: Callable[..., list[Diagnostic]],
) -> None:
    extra = {**GOOD, "more": 1}
    findings = check(sending(BAD, GOOD, BAD, extra, {"type": "job", "id": "x", "more": 1}, BAD))

    assert lines(findings) == [
        "6: error 1 waiting event of 'job' would be refused: $ does not allow 'more'",
        "6: error 1 waiting event of 'job' would be refused: $.id expected integer, got string (and 1 more)",
        "6: error 3 waiting events of 'job' would be refused: $.id expected integer, got string",
    ]
    assert {(f.code, f.channel, f.event_type) for f in findings} == {("waiting-refused", "jobs", "job")}


def test_events_of_unknown_types_are_reported_at_the_channel(check: Callable[..., list[Diagnostic]]) -> None:
    async def fill(layer: ChannelLayer) -> None:
        unreadable = Delivery("jobs", None, b"\xc1", 0.0)
        await layer.bury(unreadable, letter_for(unreadable, "unreadable", "not msgpack"))
        (planted,) = await layer.dead_letters()
        await layer.replay(planted.id)
        await layer.send_many("jobs", [{"id": 1}, {"type": 2}, {"type": "jobb"}, {"type": "\x1b[2J"}])

    findings = check(fill)

    assert lines(findings) == [
        "4: error 1 waiting event of '\\x1b[2J' would be refused: the channel does not declare this type",
        "4: error 1 waiting event of 'jobb' would be refused: the channel does not declare this type",
        "4: error 1 waiting event would be refused: the bytes are not msgpack (FormatError)",
        "4: error 2 waiting events would be refused: the event has no type",
    ]
    assert [(f.channel, f.event_type) for f in findings] == [
        ("jobs", "\\x1b[2J"), ("jobs", "jobb"), ("jobs", ""), ("jobs", "")
    ]  # fmt: skip
    assert findings[1].hint == "did you mean 'job'?"


def test_leased_events_are_checked_too_and_nothing_is_taken(check: Callable[..., list[Diagnostic]]) -> None:
    async def fill(layer: ChannelLayer) -> None:
        await layer.send_many("jobs", [BAD, BAD])
        await layer.take("jobs", 1, lease=60)

    before, after = check(fill), check(lambda layer: layer.waiting("jobs"))

    assert lines(before) == lines(after)
    assert lines(after) == ["6: error 2 waiting events of 'job' would be refused: $.id expected integer, got string"]


def test_validate_warn_gives_warnings_and_validate_off_gives_none(
    check: Callable[..., list[Diagnostic]],
) -> None:
    async def fill(layer: ChannelLayer) -> None:
        await bury(layer, BAD)
        await layer.send("jobs", BAD)

    assert [(finding.code, finding.severity) for finding in check(fill, "validate: warn")] == [
        ("dead-letter-refused", "warning"), ("waiting-refused", "warning")
    ]  # fmt: skip
    assert check(fill, "validate: off") == []


def test_dead_letters_that_could_not_be_replayed_are_warnings(check: Callable[..., list[Diagnostic]]) -> None:
    async def fill(layer: ChannelLayer) -> None:
        for event, code in ((BAD, "failed"), (BAD, "failed"), (GOOD, "failed"), (BAD, "invalid")):
            await bury(layer, event, code)

    (finding,) = check(fill)

    assert (finding.code, finding.severity, finding.channel, finding.event_type) == (
        "dead-letter-refused", "warning", "jobs", "job"
    )  # fmt: skip
    assert lines([finding]) == [
        "6: warning 2 dead letters of 'job' would be refused: $.id expected integer, got string"
    ]


@pytest.mark.parametrize(
    ("secs", "age"),
    [
        (-900, " "),
        (90, " "),
        (150, ", up to 2 min old, "),
        (7_000, ", up to 116 min old, "),
        (9_000, ", up to 2 h old, "),
        (200_000, ", up to 2 days old, "),
    ],
)
def test_the_message_has_the_age_of_the_oldest_event(secs: float, age: str, contract_file: Callable[..., Path]) -> None:
    contract = load(contract_file())

    async def main() -> list[Diagnostic]:
        layer = open_contract_layer(contract)
        now = time.time()
        await layer.give_back([Delivery("jobs", BAD, pack("jobs", BAD), sent) for sent in (now - secs, now + 999)])
        return list(await check_stored_events(contract, layer))

    (finding,) = asyncio.run(main())
    assert f"2 waiting events of 'job'{age}would be refused" in finding.message


def test_the_number_of_different_reasons_is_limited(check: Callable[..., list[Diagnostic]]) -> None:
    findings = check(sending(*[{"type": f"t{number}"} for number in range(60)]))

    assert len(findings) == 21
    assert sum(int(finding.message.split()[0]) for finding in findings) == 60
    assert "4: error 40 waiting events would be refused: further reasons" in lines(findings)


def test_checking_ten_thousand_events_does_not_keep_them_in_memory(
    project: Path, contract_file: Callable[..., Path]
) -> None:
    url = f"sqlite:///{project}/events.db"
    contract = load(contract_file(layer=url, options="capacity: 10000"))

    async def main() -> tuple[str, int]:
        layer = open_contract_layer(contract)
        await layer.send_many("jobs", [BAD] * 10_000)
        tracemalloc.start()
        (finding,) = await check_stored_events(contract, layer)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        await layer.close()
        return finding.message, peak

    message, peak = asyncio.run(main())
    assert message.startswith("10,000 waiting events of 'job'")
    assert peak < 1_000_000


def test_a_layer_that_cannot_show_its_events_is_an_error(contract_file: Callable[..., Path]) -> None:
    layer = "{backend: channels.layers.InMemoryChannelLayer}"
    contract = load(contract_file(layer=layer))

    with pytest.raises(LayerError, match="a Channels layer cannot show waiting events"):
        asyncio.run(check_stored_events(contract, open_contract_layer(contract)))
