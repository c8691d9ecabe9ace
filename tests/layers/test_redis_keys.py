"""A wrong key of the encryption costs no event: what cannot be decrypted stays as it is, until a key fits."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from channelmap import AsyncConsumer, Worker
from channelmap.asgi import Event
from channelmap.errors import LayerError
from channelmap.layer import DeadLetter, Delivery, letter_for
from channelmap.layers.redis import RedisChannelLayer
from channelmap.limits import RetryPolicy, Service
from channelmap.worker import inbox

from .conformance import event
from .redis_servers import Server

Until = Callable[..., Awaitable[None]]
T = TypeVar("T")

BOTH = pytest.mark.parametrize("service", [Service(), Service(retry=RetryPolicy(attempts=2))], ids=["most", "least"])
FORMATS = pytest.mark.parametrize("serializer", ["msgpack", "json"])


class Site:
    """A server, layers of several keys on it, and a consumer that notes what it handles."""

    def __init__(self, url: str, until: Until, caplog: pytest.LogCaptureFixture) -> None:
        self._url = url
        self._layers: list[RedisChannelLayer] = []
        self._caplog = caplog
        self.until = until
        self.handled: list[int] = []

        class Jobs(AsyncConsumer):
            async def job(_, event: Event) -> None:  # noqa: N805
                self.handled.append(event["id"])

        self.application = Jobs.as_asgi()

    @property
    def log(self) -> str:
        return self._caplog.text

    def layer(self, *keys: str, **options: Any) -> RedisChannelLayer:
        """Open a layer with these keys."""
        keyed = list(keys) or None
        self._layers.append(RedisChannelLayer([self._url], symmetric_encryption_keys=keyed, expiry=None, **options))
        return self._layers[-1]

    async def burst(self, layer: RedisChannelLayer, service: Service) -> Worker:
        """Let a worker handle what waits."""
        worker = Worker(self.application, {"jobs": service}, layer, burst=True)
        await asyncio.wait_for(worker.serve(), 20)
        return worker

    @asynccontextmanager
    async def serving(self, layer: RedisChannelLayer, service: Service) -> AsyncIterator[None]:
        """Let a worker serve while the block runs."""
        worker = Worker(self.application, {"jobs": service}, layer)
        serving = asyncio.ensure_future(worker.serve())
        try:
            yield
        finally:
            worker.stop(20)
            await serving

    def run(self, scenario: Callable[[], Awaitable[T]]) -> T:
        async def main() -> T:
            try:
                return await scenario()
            finally:
                for layer in self._layers:
                    await layer.close()

        return asyncio.run(main())


@pytest.fixture
def site(server: Server, until: Until, caplog: pytest.LogCaptureFixture) -> Site:
    return Site(server.url, until, caplog)


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "MAX_DELAY", 0.01)


@BOTH
@FORMATS
@pytest.mark.parametrize("wrong", [("wrong",), ()], ids=["another key", "no key"])
def test_a_worker_with_the_wrong_key_says_so_and_leaves_every_event_as_it_was(
    site: Site, service: Service, serializer: str, wrong: tuple[str, ...]
) -> None:
    async def scenario() -> list[DeadLetter]:
        ours = site.layer("right", serializer_format=serializer)
        theirs = site.layer(*wrong, serializer_format=serializer)
        await ours.send_many("jobs", [event(number) for number in range(40)])
        async with site.serving(theirs, service):
            await site.until(lambda: site.log.count("no key of the layer fits any of the 40 waiting events") >= 2)
        assert await ours.waiting("jobs") == 40
        assert not (await site.burst(ours, service)).gave_up
        return await ours.dead_letters()

    assert site.run(scenario) == []
    assert site.handled == list(range(40))


@BOTH
def test_a_burst_with_the_wrong_key_ends_and_has_given_up(site: Site, service: Service) -> None:
    async def scenario() -> int:
        ours, theirs = site.layer("right"), site.layer("wrong")
        await ours.send_many("jobs", [event(1), event(2)])
        assert (await site.burst(theirs, service)).gave_up
        return await ours.waiting("jobs") or 0

    assert site.run(scenario) == 2
    assert site.log.count("no key of the layer fits any of the 2 waiting events") == 1


@BOTH
@pytest.mark.parametrize("before", [0, 1, 5])
def test_a_single_event_of_another_key_becomes_a_dead_letter_that_its_key_can_replay(
    site: Site, service: Service, before: int
) -> None:
    async def scenario() -> None:
        ours, theirs, both = site.layer("right"), site.layer("wrong"), site.layer("right", "wrong")
        for number in range(before):
            await ours.send("jobs", event(number))
        await theirs.send("jobs", event(99))
        for number in range(before, 6):
            await ours.send("jobs", event(number))
        assert not (await site.burst(ours, service)).gave_up

        (letter,) = await ours.dead_letters()
        assert (letter.code, letter.event) == ("unreadable", None)
        assert letter.reason == "the bytes are encrypted with another key"
        with pytest.raises(LayerError, match="no key of the layer fits; add its key to symmetric_encryption_keys"):
            await ours.replay(letter.id)
        for layer in (theirs, both):
            (readable,) = await layer.dead_letters()
            assert readable.event == event(99)
        await both.replay(letter.id)
        await site.burst(ours, service)

    site.run(scenario)
    assert site.handled == [*range(6), 99]


@BOTH
def test_a_worker_goes_on_when_an_event_comes_that_its_key_fits(site: Site, service: Service) -> None:
    async def scenario() -> list[DeadLetter]:
        ours, theirs = site.layer("right"), site.layer("wrong")
        await theirs.send_many("jobs", [event(number) for number in range(30)])
        async with site.serving(ours, service):
            await site.until(lambda: "no key of the layer fits any" in site.log)
            await ours.send("jobs", event(99))
            await site.until(lambda: site.handled == [99])
        return await theirs.dead_letters()

    assert [letter.event for letter in site.run(scenario)] == [event(number) for number in range(30)]
    assert "channel 'jobs': taking events again" in site.log


def test_few_events_of_another_key_do_not_hold_up_a_worker_whose_key_has_fitted(site: Site) -> None:
    async def scenario() -> None:
        ours, theirs = site.layer("right"), site.layer("wrong")
        async with site.serving(ours, Service()):
            await ours.send("jobs", event(1))
            await site.until(lambda: site.handled == [1])
            await theirs.send("jobs", event(2))
            await site.until(lambda: "kept as a dead letter" in site.log)

    site.run(scenario)
    assert "no key of the layer fits" not in site.log


def test_a_letter_that_an_older_version_wrote_under_a_wrong_key_can_be_replayed_with_both_keys(site: Site) -> None:
    async def scenario() -> Event | None:
        ours, theirs, both = site.layer("right"), site.layer("wrong"), site.layer("wrong", "right")
        await ours.send("jobs", event(1))
        (delivery,) = await theirs.take("jobs", 1)
        # It did not say that the body is still encrypted.
        old = Delivery("jobs", None, delivery.body, delivery.sent)
        await theirs.bury(old, letter_for(old, "unreadable", "the bytes cannot be decrypted: another key"))
        (letter,) = await both.dead_letters()
        assert letter.event == event(1)
        await both.replay(letter.id)
        (again,) = await both.take("jobs", 1)
        return again.event

    assert site.run(scenario) == event(1)


def test_a_receiver_of_channels_kind_passes_over_an_event_of_another_key_and_keeps_it(site: Site) -> None:
    async def scenario() -> None:
        ours, theirs = site.layer("right"), site.layer("wrong")
        await theirs.send("jobs", event(1))
        await ours.send("jobs", event(2))
        assert await ours.receive("jobs") == event(2)
        (letter,) = await theirs.dead_letters()
        assert letter.event == event(1)

    site.run(scenario)
