"""Workers say that they are alive; what they add to totals is added once, and stays."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from channelmap.errors import LayerError
from channelmap.layer import NUMBER_KEPT_SECS, WORKER_TIMEOUT_SECS, ChannelLayer, Counts, Purged, WorkerInfo

from .clocks import STEPS, wall_clock
from .suite import Suite, event, letter, numbers, until_blocked

WORKER = WorkerInfo(
    id="b" * 32,
    host="host.example",
    pid=4_711,
    started=1_795_000_000.25,
    version="1.0",
    contract="0123abcd",
    channels=("jobs", "mail"),
    in_flight={"jobs": 2},
)
OTHER = replace(WORKER, id="a" * 32, pid=4_712, started=WORKER.started + 1, in_flight={})


async def totals(layer: ChannelLayer, channel: str = "jobs") -> dict[str, int]:
    return dict((await layer.counts([channel]))[channel].totals)


async def listed(layer: ChannelLayer) -> list[str]:
    return [worker.id for worker in await layer.workers()]


async def bury(layer: ChannelLayer, *codes: str, channel: str = "jobs") -> None:
    """Leave dead letters with these codes."""
    await layer.send_many(channel, [event(number) for number, _ in enumerate(codes)])
    taken = await layer.take(channel, len(codes), lease=60)
    letters = [letter(channel, number, code=code) for number, code in enumerate(codes)]
    await layer.bury_many([*zip(taken, letters, strict=True)])


class Heartbeats(Suite):
    """Workers say that they are alive; what they add to totals is added once, and stays."""

    def test_a_worker_is_listed_as_it_describes_itself(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[WorkerInfo]:
            await layer.heartbeat(OTHER, {}, 1)
            await layer.heartbeat(WORKER, {}, 1)
            return await layer.workers()

        found = self.run(scenario)
        assert [replace(one, seen=0.0) for one in found] == [WORKER, OTHER]
        assert all(0 <= one.seen <= WORKER_TIMEOUT_SECS for one in found)

    def test_the_last_heartbeat_says_what_a_worker_does_now(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[WorkerInfo]:
            await layer.heartbeat(WORKER, {}, 1)
            await layer.heartbeat(replace(WORKER, in_flight={"mail": 7}), {}, 2)
            return await layer.workers()

        (found,) = self.run(scenario)
        assert found.in_flight == {"mail": 7}

    def test_without_heartbeats_there_are_no_workers_and_no_totals(self) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[list[WorkerInfo], dict[str, int]]:
            return await layer.workers(), await totals(layer)

        assert self.run(scenario) == ([], {})

    def test_a_worker_that_has_ended_is_gone_at_once_and_its_totals_stay(self) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[list[str], dict[str, int]]:
            await layer.heartbeat(WORKER, {"jobs": {"handled": 1}}, 1)
            await layer.heartbeat(OTHER, {}, 1)
            for _ in range(2):
                await layer.heartbeat(WORKER, {"jobs": {"handled": 2}}, 2, last=True)
            return await listed(layer), await totals(layer)

        assert self.run(scenario) == ([OTHER.id], {"handled": 3})

    def test_a_worker_that_is_not_heard_of_is_listed_for_fifteen_seconds(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[list[str]]:
            await layer.heartbeat(WORKER, {}, 1)
            await self.elapse(layer, WORKER_TIMEOUT_SECS - 5)
            (found,) = await layer.workers()
            assert 10 <= found.seen <= 15
            await layer.heartbeat(OTHER, {}, 1)
            await self.elapse(layer, 5)
            silent = await listed(layer)
            await layer.heartbeat(WORKER, {}, 2)
            return [silent, await listed(layer)]

        assert self.run(scenario) == [[OTHER.id], [WORKER.id, OTHER.id]]

    def test_a_worker_that_was_silent_for_long_is_listed_again_when_it_is_heard_of(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[str]:
            await layer.heartbeat(WORKER, {}, 1)
            await self.elapse(layer, 2 * WORKER_TIMEOUT_SECS)
            assert await listed(layer) == []
            await layer.heartbeat(WORKER, {}, 2)
            return await listed(layer)

        assert self.run(scenario) == [WORKER.id]

    @STEPS
    def test_a_worker_is_listed_whatever_its_clock_says(self, step: float) -> None:
        async def scenario(layer: ChannelLayer) -> list[float]:
            with wall_clock() as turn:
                await layer.heartbeat(WORKER, {}, 1)
                turn(step)
                return [one.seen for one in await layer.workers()]

        (seen,) = self.run(scenario)
        assert 0 <= seen <= WORKER_TIMEOUT_SECS

    def test_what_workers_add_is_summed_up_by_channel_and_name(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[dict[str, int]]:
            await layer.heartbeat(WORKER, {"jobs": {"handled": 2, "failed": 1}, "mail": {"handled": 5}}, 1)
            await layer.heartbeat(OTHER, {"jobs": {"handled": 3}}, 1)
            await layer.heartbeat(WORKER, {"jobs": {"handled": 4}}, 2)
            await layer.heartbeat(WORKER, {}, 3)
            return [await totals(layer, channel) for channel in ("jobs", "mail", "other")]

        assert self.run(scenario) == [{"handled": 9, "failed": 1}, {"handled": 5}, {}]

    def test_a_heartbeat_that_is_repeated_adds_nothing(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[dict[str, int]]:
            first, second = {"jobs": {"handled": 1}}, {"jobs": {"handled": 10}, "mail": {"handled": 10}}
            await layer.heartbeat(WORKER, first, 1)
            await layer.heartbeat(OTHER, first, 1)
            for number, added in ((1, first), (2, second), (2, second), (1, first), (2, second)):
                await layer.heartbeat(WORKER, added, number)
            return [await totals(layer, channel) for channel in ("jobs", "mail")]

        assert self.run(scenario) == [{"handled": 12}, {"handled": 10}]

    def test_many_repeated_heartbeats_at_once_add_once(self) -> None:
        async def scenario(layer: ChannelLayer) -> dict[str, int]:
            await asyncio.gather(*[layer.heartbeat(WORKER, {"jobs": {"handled": 1}}, 1) for _ in range(20)])
            return await totals(layer)

        assert self.run(scenario) == {"handled": 1}

    @pytest.mark.parametrize(("seconds", "handled"), [(NUMBER_KEPT_SECS - 60, 2), (NUMBER_KEPT_SECS + 60, 3)])
    def test_a_number_is_remembered_for_an_hour_and_then_forgotten(self, seconds: float, handled: int) -> None:
        async def scenario(layer: ChannelLayer) -> dict[str, int]:
            added = {"jobs": {"handled": 1}}
            await layer.heartbeat(WORKER, added, 1, last=True)
            await self.elapse(layer, seconds)
            await layer.heartbeat(OTHER, added, 1)
            await layer.heartbeat(WORKER, added, 1, last=True)
            return await totals(layer)

        assert self.run(scenario) == {"handled": handled}

    def test_names_and_channels_are_kept_as_they_are(self) -> None:
        names = ["schema-mismatch", "side:sender code.x", "t:w:", "n" * 100, "0"]

        async def scenario(layer: ChannelLayer) -> dict[str, int]:
            await layer.heartbeat(WORKER, {"jobs": dict.fromkeys(names, 2**40)}, 1)
            return await totals(layer)

        assert self.run(scenario) == dict.fromkeys(names, 2**40)

    def test_a_heartbeat_with_totals_of_thousands_of_channels_adds_each_once(self) -> None:
        channels = [f"channel-{number}" for number in range(2_000)]

        async def scenario(layer: ChannelLayer) -> set[tuple[tuple[str, int], ...]]:
            for _ in range(2):
                worker = replace(WORKER, channels=tuple(channels))
                await layer.heartbeat(worker, {channel: {"handled": 1, "failed": 2} for channel in channels}, 1)
            (found,) = await layer.workers()
            assert found.channels == tuple(channels)
            return {tuple(sorted(counts.totals.items())) for counts in (await layer.counts(channels)).values()}

        assert self.run(scenario) == {(("failed", 2), ("handled", 1))}

    def test_flushing_deletes_workers_and_totals(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Any]:
            await layer.heartbeat(WORKER, {"jobs": {"handled": 1}}, 1)
            await layer.flush()
            emptied = [await listed(layer), await totals(layer)]
            await layer.heartbeat(WORKER, {"jobs": {"handled": 1}}, 1)
            return [*emptied, await listed(layer), await totals(layer)]

        assert self.run(scenario) == [[], {}, [WORKER.id], {"handled": 1}]

    def test_events_and_letters_are_as_before_beside_heartbeats(self) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[list[int], list[Any]]:
            await layer.heartbeat(WORKER, {"jobs": {"handled": 1}, "dead": {"handled": 1}}, 1)
            await layer.send("jobs", event(1))
            shown = numbers([one async for one in layer.peek("jobs")])
            assert shown == numbers(await layer.take("jobs", 9, lease=60))
            return shown, await layer.dead_letters()

        assert self.run(scenario) == ([1], [])


class KeptHeartbeats(Suite):
    """What heartbeats have added outlives the process."""

    def test_totals_and_numbers_survive_a_restart(self) -> None:
        async def add(layer: ChannelLayer) -> dict[str, int]:
            await layer.heartbeat(WORKER, {"jobs": {"handled": 1}}, 1)
            return await totals(layer)

        assert [self.run(add), self.run(add)] == [{"handled": 1}] * 2
        assert self.run(listed) == [WORKER.id]


class States(Suite):
    """The state of a channel is told at once: how old, how paused, how dead."""

    async def state(self, layer: ChannelLayer, channel: str = "jobs") -> Counts:
        return (await layer.counts([channel]))[channel]

    def test_the_age_is_that_of_the_first_waiting_event(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[float | None]:
            ages = [(await self.state(layer)).oldest]
            await layer.send_many("jobs", [event(1), event(2)])
            await self.elapse(layer, 100)
            await layer.send("jobs", event(3))
            ages.append((await self.state(layer)).oldest)
            await layer.take("jobs", 2, lease=60)
            ages.append((await self.state(layer)).oldest)
            await layer.take("jobs", 1)
            return [*ages, (await self.state(layer)).oldest]

        none, first, third, empty = self.run(scenario, expiry=None)
        assert (none, empty) == (None, None)
        assert first is not None
        assert third is not None
        assert 100 <= first < 120
        assert 0 <= third < 20

    def test_the_age_of_a_delayed_event_counts_from_when_it_was_due(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[float | None]:
            await layer.send("jobs", event(2), delay=100)
            scheduled = (await self.state(layer)).oldest
            await layer.send("jobs", event(1))
            await self.elapse(layer, 130)
            assert numbers(await layer.take("jobs", 1, lease=60)) == [1]
            return [scheduled, (await self.state(layer)).oldest]

        scheduled, due = self.run(scenario, expiry=None)
        assert scheduled is None
        assert due is not None
        assert 30 <= due < 50

    @STEPS
    def test_the_age_does_not_follow_a_clock_that_was_set(self, step: float) -> None:
        async def scenario(layer: ChannelLayer) -> float | None:
            with wall_clock() as turn:
                await layer.send("jobs", event(1))
                turn(step)
                return (await self.state(layer)).oldest

        oldest = self.run(scenario)
        assert oldest is not None
        assert 0 <= oldest < 20

    def test_a_pause_is_told(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[bool]:
            await layer.pause("jobs")
            before = [(await self.state(layer, channel)).paused for channel in ("jobs", "other")]
            await layer.resume("jobs")
            return [*before, (await self.state(layer)).paused]

        assert self.run(scenario) == [True, False, False]

    def test_dead_letters_are_counted_by_code_whichever_way_they_go(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Any]:
            await bury(layer, "failed", "invalid", "failed", "made-up", "rejected-by-handler")
            await bury(layer, "invalid", channel="other")
            found = [(await self.state(layer)).dead, (await self.state(layer, "other")).dead]
            ids: dict[str, str] = {one.code: one.id for one in await layer.dead_letters("jobs")}
            await layer.drop(ids["made-up"])
            await layer.replay(ids["invalid"])
            found.append((await self.state(layer)).dead)
            # Five are kept: the two failed ones are the oldest.
            await bury(layer, "unreadable", "unroutable", "unroutable")
            found.append((await self.state(layer)).dead)
            for one in await layer.dead_letters("jobs"):
                await layer.drop(one.id)
            return [*found, (await self.state(layer)).dead]

        assert self.run(scenario, dead_letters=5) == [
            {"failed": 2, "invalid": 1, "made-up": 1, "rejected-by-handler": 1},
            {"invalid": 1},
            {"failed": 2, "rejected-by-handler": 1},
            {"failed": 1, "rejected-by-handler": 1, "unreadable": 1, "unroutable": 2},
            {},
        ]

    def test_thousands_of_channels_are_told_at_once(self) -> None:
        channels = [f"channel-{number}" for number in range(2_000)]

        async def scenario(layer: ChannelLayer) -> list[str]:
            await layer.send(channels[-1], event(1))
            found = await layer.counts(channels)
            assert list(found) == channels
            return [name for name, counts in found.items() if counts.waiting]

        assert self.run(scenario) == channels[-1:]


class Purges(Suite):
    """What waits on a channel can be deleted."""

    def test_purging_deletes_what_waits_and_what_is_scheduled_and_nothing_else(self) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[Purged, Counts, list[int]]:
            await layer.send_many("jobs", [event(number) for number in range(7)])
            leased, retried, dead = await layer.take("jobs", 3, lease=60)
            await layer.retry(retried, 60)
            await layer.bury(dead, letter("jobs", 2))
            await layer.send_many("jobs", [event(7), event(8)], delay=60)
            await layer.send("other", event(9))
            await layer.heartbeat(WORKER, {"jobs": {"handled": 1}}, 1)
            await layer.pause("jobs")
            purged = await layer.purge("jobs")
            left = (await layer.counts(["jobs"]))["jobs"]
            await layer.resume("jobs")
            # It is still the worker's.
            await layer.retry(leased, 0)
            taken = await layer.take("jobs", 9, lease=60, wait=False)
            assert await layer.waiting("other") == 1
            return purged, left, numbers(taken)

        assert self.run(scenario) == (
            Purged(waiting=4, scheduled=3),
            Counts(0, 0, 1, {"failed": 1}, paused=True, totals={"handled": 1}),
            [0],
        )

    def test_a_purged_channel_has_room_again(self) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[Purged, Purged, list[int]]:
            await layer.send("jobs", event(1), delay=60)
            await layer.send("jobs", event(2))
            purged = await layer.purge("jobs")
            await layer.send_many("jobs", [event(3), event(4)])
            return purged, await layer.purge("empty"), numbers(await layer.take("jobs", 9))

        assert self.run(scenario, capacity=2) == (Purged(1, 1), Purged(0, 0), [3, 4])

    def test_a_take_that_waits_goes_on_waiting_after_a_purge(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.send("jobs", event(1), delay=60)
            taking = asyncio.create_task(layer.take("jobs", 1))
            await until_blocked()
            await layer.purge("jobs")
            await layer.send("jobs", event(2))
            return numbers(await taking)

        assert self.run(scenario) == [2]

    def test_a_private_channel_cannot_be_purged(self) -> None:
        async def scenario(layer: ChannelLayer) -> Any:
            name = await layer.new_channel()
            await layer.send(name, event(1))
            with pytest.raises(LayerError, match="cannot purge '.*!.*': it is the private channel of one process"):
                await layer.purge(name)
            return await layer.receive(name)

        assert self.run(scenario) == event(1)

    def test_a_name_that_is_no_channels_cannot_be_purged(self) -> None:
        with pytest.raises(TypeError):
            self.run(lambda layer: layer.purge("no channel"))
