"""Judges a run from its records alone: where is each acknowledged event? It shares no code with the product."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from storm.history import Record

Promise = Literal["at-least-once", "at-most-once"]
_Ids = dict[str, set[str]]


def _ids() -> _Ids:
    return defaultdict(set)


@dataclass
class Remaining:
    """The ids that lie in the layer when a run is over, by channel."""

    waiting: _Ids = field(default_factory=_ids)
    leased: _Ids = field(default_factory=_ids)
    dead: _Ids = field(default_factory=_ids)

    def places(self, channel: str) -> tuple[set[str], set[str], set[str]]:
        """The ids of a channel, for each place in the layer."""
        return self.waiting[channel], self.leased[channel], self.dead[channel]


@dataclass
class Verdict:
    """What became of the events of one channel.

    Attributes:
        promise: how the channel delivers.
        acknowledged: how many sends have returned.
        handled: how many events a handler has finished.
        lost: acknowledged ids that are neither handled nor in the layer.
        doubled: ids in two places of the layer at once.
        unknown: ids that nobody has sent.
        twice: how often an event was begun after it had been begun, by id.
        twice_without_kill: ids that were begun again while the process that had begun them first was still there.
        take_over: seconds from the end of a process that had begun an event to the event's next begin.

    """

    promise: Promise
    acknowledged: int = 0
    handled: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    twice: dict[str, int] = field(default_factory=dict)
    twice_without_kill: list[str] = field(default_factory=list)
    take_over: list[float] = field(default_factory=list)

    def faults(self, kills: int, *, may_lose: bool = False) -> list[str]:
        """Say what the channel's promise forbids.

        Args:
            kills: how many processes were killed; each may cost what its promise allows.
            may_lose: the layer has replicas, and a replica that takes over may lack the last writes: an event that was
                acknowledged, or that an event was taken. Then losses are allowed, and so are redeliveries without a
                kill; at-least-once, redeliveries stay bounded by the kills.

        """
        found = []
        if self.unknown:
            found.append(f"nobody has sent {_some(self.unknown)}")
        if self.doubled:
            found.append(f"in two places: {_some(self.doubled)}")
        if self.twice_without_kill and not may_lose:
            found.append(f"handled twice though nobody was killed: {_some(self.twice_without_kill)}")
        again = sum(self.twice.values())
        at_most_once = self.promise == "at-most-once"
        most_again, most_lost = (0, max(0, kills - 1)) if at_most_once else (1.5 * kills, 0)
        if again > most_again and not (may_lose and at_most_once):
            found.append(f"handled twice by {kills} kills: {_some(list(self.twice))}")
        if len(self.lost) > most_lost and not may_lose:
            found.append(f"lost by {kills} kills: {_some(self.lost)}")
        return found


def _some(ids: list[str]) -> str:
    return f"{len(ids)} events, such as {', '.join(ids[:3])}"


class _Channel:
    """The records of one channel."""

    def __init__(self) -> None:
        self.ids: _Ids = _ids()
        self.begins: dict[str, list[Record]] = defaultdict(list)

    def add(self, record: Record) -> None:
        self.ids[record.what].add(record.id)
        if record.what == "begin":
            self.begins[record.id].append(record)


def judge(
    records: Iterable[Record], remaining: Remaining, promises: Mapping[str, Promise], ends: Mapping[int, float]
) -> dict[str, Verdict]:
    """Judge each channel.

    Args:
        records: what all processes have written.
        remaining: what lies in the layer.
        promises: the channels, and how each delivers.
        ends: when a process ended, by its id, where it has.

    """
    channels: dict[str, _Channel] = defaultdict(_Channel)
    for record in records:
        channels[record.channel].add(record)
    return {name: _verdict(promise, channels[name], remaining.places(name), ends) for name, promise in promises.items()}


def _verdict(promise: Promise, channel: _Channel, places: tuple[set[str], ...], ends: Mapping[int, float]) -> Verdict:
    ids, left = channel.ids, set[str]().union(*places)
    # At-least-once, an event is done when a handler has finished it; at-most-once, when one has begun it.
    done = ids["end"] if promise == "at-least-once" else ids["begin"]
    verdict = Verdict(
        promise,
        acknowledged=len(ids["acknowledged"]),
        handled=len(ids["end"]),
        lost=sorted(ids["acknowledged"] - done - left),
        doubled=sorted(id_ for id_ in left if sum(id_ in place for place in places) > 1),
        unknown=sorted((ids["begin"] | left) - ids["try"]),
    )
    for id_, begins in channel.begins.items():
        begins.sort(key=lambda record: record.at)
        if len(begins) > 1:
            verdict.twice[id_] = len(begins) - 1
        for first, second in pairwise(begins):
            end = ends.get(first.pid)
            if end is None or second.at < end:
                verdict.twice_without_kill.append(id_)
            else:
                verdict.take_over.append(second.at - end)
    return verdict
