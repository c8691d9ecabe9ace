"""Encrypted events expire, letters of another key are listed, and a stream ends with its last letter."""

import time

import pytest

from channelmap.errors import LayerError
from channelmap.layer import letter_for
from channelmap.layers.redis import RedisChannelLayer
from channelmap.limits import Limits

from .conformance import event
from .redis_drill import run
from .redis_servers import Server


def test_an_encrypted_event_lives_as_long_as_its_channel_says(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"jobs": Limits(100, 3_600.0, 10)}
    now = time.time()

    async def main() -> None:
        layer = RedisChannelLayer([server.url], expiry=1, symmetric_encryption_keys=["key"], limits=limits)
        monkeypatch.setattr(time, "time", lambda: now - 600)
        await layer.send("jobs", event(1))
        monkeypatch.setattr(time, "time", lambda: now)
        assert [taken.event for taken in await layer.take("jobs", 5, wait=False)] == [event(1)]
        await layer.close()

    run(main())


def test_a_letter_of_another_key_is_listed_and_can_be_dropped(server: Server) -> None:
    async def main() -> None:
        ours, theirs = (RedisChannelLayer([server.url], symmetric_encryption_keys=[key]) for key in ("ours", "theirs"))
        for layer, channel in ((ours, "mine"), (theirs, "foreign")):
            await layer.send(channel, event(1))
            (delivery,) = await layer.take(channel, 1)
            await layer.bury(delivery, letter_for(delivery, "failed", "reason"))

        mine, foreign = sorted(await ours.dead_letters(), key=lambda letter: letter.channel, reverse=True)
        assert (mine.channel, mine.event) == ("mine", event(1))
        assert (foreign.channel, foreign.code, foreign.reason, foreign.event) == (
            "foreign", "unreadable", "cannot be read: another key", None,
        )  # fmt: skip
        assert abs(foreign.died - time.time()) < 60
        with pytest.raises(LayerError, match="cannot be read: another key"):
            await ours.replay(foreign.id)
        assert await ours.dead_letters("foreign") == [foreign]
        await ours.drop(foreign.id)
        assert await ours.dead_letters() == [mine]
        assert await theirs.dead_letters("foreign") == []
        # Nor is it ours when its key begins as ours do.
        other = RedisChannelLayer([server.url], prefix="asgi:other:", symmetric_encryption_keys=["theirs"])
        await other.send("foreign", event(1))
        (delivery,) = await other.take("foreign", 1)
        await other.bury(delivery, letter_for(delivery, "failed", "reason"))
        assert await ours.dead_letters() == [mine]
        for layer in (ours, theirs, other):
            await layer.close()

    run(main())


def test_the_last_dead_letter_leaves_no_key_behind_when_it_is_dropped_or_replayed(server: Server) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        for number in range(3):
            await layer.send("jobs", event(number))
        for delivery in await layer.take("jobs", 3):
            await layer.bury(delivery, letter_for(delivery, "failed", "reason"))
        first, second, third = await layer.dead_letters()
        await layer.drop(first.id)
        await layer.replay(second.id)
        assert server.client.exists("asgi:jobs$dead", "asgijobs$dead") == 1
        await layer.drop(third.id)
        assert not server.client.keys("*$dead")
        with pytest.raises(KeyError):
            await layer.drop(third.id)
        await layer.send("jobs", event(4))
        for delivery in await layer.take("jobs", 1):
            await layer.bury(delivery, letter_for(delivery, "failed", "reason"))
        (letter,) = await layer.dead_letters()
        await layer.replay(letter.id)
        assert not server.client.keys("*$dead")
        await layer.close()

    run(main())
