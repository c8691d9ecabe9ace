"""A worker tells the layer every five seconds that it is alive, and what has happened on its channels."""

from channelmap.handling import Reject
from channelmap.limits import Service
from tests.worker.scripted import LEASED, Stage, away, job, jobs, play

SERVICES = {"a": LEASED, "b": Service()}


def totals(on: Stage) -> dict[str, dict[str, int]]:
    """Add up what the layer was told, as a layer does: each number once."""
    found: dict[str, dict[str, int]] = {}
    for increments in {number: increments for _, increments, number, _ in on.layer.heartbeats}.values():
        for channel, counts in increments.items():
            for name, count in counts.items():
                found.setdefault(channel, {})[name] = found.get(channel, {}).get(name, 0) + count
    return found


def beating(on: Stage) -> None:
    on.layer.has_heartbeats = True  # type: ignore[misc]  # of this layer only


def test_a_worker_says_who_it_is_at_once_and_every_five_seconds() -> None:
    async def scene(on: Stage) -> None:
        beating(on)
        on.layer.fill("a", [job(0, takes=7)])
        await on.start(SERVICES, contract="abc")
        await on.turn(12)
        assert [call.time for call in on.layer.of("heartbeat")] == [0, 5, 10]
        infos = [info for info, *_ in on.layer.heartbeats]
        assert len({info.id for info in infos}) == 1
        assert [info.in_flight for info in infos[1:]] == [{"a": 1}, {}]
        assert (infos[0].channels, infos[0].contract) == (("a", "b"), "abc")
        assert [number for _, _, number, _ in on.layer.heartbeats] == [1, 2, 3]

    play(scene)


def test_a_layer_without_heartbeats_gets_none() -> None:
    async def scene(on: Stage) -> None:
        await on.start(SERVICES)
        await on.turn(12)
        await on.end()
        assert on.layer.of("heartbeat") == []

    play(scene)


def test_the_totals_of_a_worker_that_stopped_are_exact() -> None:
    async def scene(on: Stage) -> None:
        beating(on)
        on.layer.fill("a", [*jobs(20), job(20, fails="no"), job(21, rejected="wrong"), *jobs(3, first=22)])
        on.layer.fill("b", [*jobs(20), job(20, fails="no"), job(21, rejected="wrong"), *jobs(3, first=22)])
        await on.start(SERVICES)
        await on.turn(100)
        on.layer.fill("a", jobs(2))
        await on.turn(1)
        await on.end()
        last = on.layer.heartbeats[-1]
        assert last[-1]
        assert last[1] == {"a": {"handled": 2}}
        assert totals(on) == {
            "a": {
                "handled": 25, "failed": 3, "retried": 2, "redelivered": 2, "rejected:schema-mismatch": 1,
                "dead:invalid": 1, "dead:failed": 1,
            },
            "b": {"handled": 23, "failed": 1, "rejected:schema-mismatch": 1, "dead:invalid": 1, "dead:failed": 1},
        }  # fmt: skip

    play(scene)


def test_a_handler_that_is_cut_off_at_the_end_has_failed() -> None:
    async def scene(on: Stage) -> None:
        beating(on)
        on.layer.fill("b", [*jobs(20), job(20, hangs=True)])
        await on.start(SERVICES)
        await on.end(deadline=1)
        assert totals(on) == {"b": {"handled": 20, "failed": 1, "dead:failed": 1}}

    play(scene)


def test_events_that_were_given_up_or_lost_have_totals_of_their_own() -> None:
    async def scene(on: Stage) -> None:
        beating(on)
        on.layer.fill("a", [job(0, fails=Reject("gone")), job(1)])
        on.layer.fill("b", [*jobs(7), job(7, takes=1), *jobs(7, first=8)])
        on.layer.hang("settle", "give_back")
        await on.start(SERVICES)
        await on.end()
        assert totals(on) == {
            "a": {"given-up": 1, "dead:rejected-by-handler": 1, "handled": 1},
            "b": {"handled": 8, "lost": 7},
        }

    play(scene)


def test_a_heartbeat_whose_outcome_is_unknown_is_repeated_as_it_was() -> None:
    async def scene(on: Stage) -> None:
        beating(on)
        await on.start(SERVICES)
        on.layer.fail("heartbeat", away())
        on.layer.fill("b", jobs(3))
        await on.turn(6)
        on.layer.fill("b", jobs(4))
        await on.turn(6)
        on.layer.heal("heartbeat")
        await on.turn(11)
        told = [(increments, number) for _, increments, number, _ in on.layer.heartbeats]
        assert told[:3] == [({}, 1), ({"b": {"handled": 3}}, 2), ({"b": {"handled": 4}}, 3)]
        numbers = [call.amount for call in on.layer.of("heartbeat")]
        assert numbers == sorted(numbers)  # type: ignore[type-var]  # numbers, in these calls
        assert numbers.count(2) == 9  # once a second

    play(scene)


def test_the_last_heartbeat_follows_one_whose_outcome_is_unknown() -> None:
    async def scene(on: Stage) -> None:
        beating(on)
        await on.start(SERVICES)
        on.layer.fill("b", jobs(3))
        on.layer.fail("heartbeat", away(), times=1)
        await on.turn(5.5)
        on.layer.fill("b", jobs(4))
        await on.turn(0.1)
        await on.end()
        assert [(increments, number, last) for _, increments, number, last in on.layer.heartbeats] == [
            ({}, 1, False), ({"b": {"handled": 3}}, 2, False), ({"b": {"handled": 4}}, 3, True),
        ]  # fmt: skip

    play(scene)


def test_a_layer_that_hangs_delays_no_event_and_the_end_only_by_the_grace() -> None:
    async def scene(on: Stage) -> None:
        beating(on)
        on.layer.hang("heartbeat")
        on.layer.fill("b", jobs(3))
        await on.start(SERVICES)
        await on.turn(60)
        assert on.application.seen == [0, 1, 2]
        assert await on.end() == 4

    play(scene)
