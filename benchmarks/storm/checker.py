"""Judges a run from its records alone: where is each acknowledged event? It shares no code with the product."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from storm.history import Record

Promise = Literal["at-least-once", "at-most-once"]

#: The code of the dead letter of an event that its handler gave up.
GIVEN_UP = "rejected-by-handler"
#: By how much an event may be early: the layers add a delay to a time that they know to a microsecond.
EARLY_SECS = 0.001
#: Seconds after which no handler starts on a paused channel. Workers obey a pause within 2 s and return within 0.1 s
#: what they have prefetched; the rest is for a machine that is busy.
PAUSE_SECS = 2.5


def _ids() -> dict[str, list[str]]:
    return defaultdict(list)


@dataclass
class Remaining:
    """What lies in the layer when a run is over, by channel: ids, and of a dead letter its event's id and its code."""

    waiting: dict[str, list[str]] = field(default_factory=_ids)
    leased: dict[str, list[str]] = field(default_factory=_ids)
    scheduled: dict[str, list[str]] = field(default_factory=_ids)
    dead: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))

    def unhandled(self, channel: str) -> list[str]:
        """The ids of a channel that a worker is still to handle."""
        return self.waiting[channel] + self.leased[channel] + self.scheduled[channel]


@dataclass
class Verdict:
    """What became of the events of one channel.

    Attributes:
        promise: how the channel delivers.
        acknowledged: how many sends have returned.
        handled: how many events a handler has finished.
        delayed: how many acknowledged events were sent with a delay.
        rejected: how many events a handler has given up.
        pauses: how often the channel was paused.
        lost: acknowledged ids that are neither handled nor in the layer.
        doubled: ids in two places at once: of the layer, or in the layer and handled.
        buried_twice: ids that have two dead letters of the same code.
        unknown: ids that nobody has sent.
        early: ids that a handler has begun before their time: that of a delay, or that of a retry.
        misburied: ids that a handler has given up and whose dead letter has another code, and the other way round.
        in_pause: ids that a handler has begun while the channel was paused, and had been for `PAUSE_SECS`.
        twice: how often an event was begun after it had been begun, by id, apart from the retries that handlers asked
            for. An event that its handler had given up counts too: it must not come again after its dead letter.
        twice_without_kill: ids that were begun again while the process that had begun them first was still there.
        take_over: seconds from the end of a process that had begun an event to the event's next begin.

    """

    promise: Promise
    acknowledged: int = 0
    handled: int = 0
    delayed: int = 0
    rejected: int = 0
    pauses: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    buried_twice: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    misburied: list[str] = field(default_factory=list)
    in_pause: list[str] = field(default_factory=list)
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
        if self.early:
            found.append(f"handled before their time: {_some(self.early)}")
        if self.misburied:
            found.append(f"dead letters with a wrong code: {_some(self.misburied)}")
        if self.in_pause and not may_lose:
            found.append(f"handled while the channel was paused: {_some(self.in_pause)}")
        if self.twice_without_kill and not may_lose:
            found.append(f"handled twice though nobody was killed: {_some(self.twice_without_kill)}")
        again = sum(self.twice.values())
        at_most_once = self.promise == "at-most-once"
        most_again, most_lost = (0, max(0, kills - 1)) if at_most_once else (1.5 * kills, 0)
        if again > most_again and not (may_lose and at_most_once):
            found.append(f"handled twice by {kills} kills: {_some(list(self.twice))}")
        if len(self.lost) > most_lost and not may_lose:
            found.append(f"lost by {kills} kills: {_some(self.lost)}")
        # At-most-once, no lease tells the layer that it has a letter already, when the worker writes it again because
        # the connection was lost with the reply.
        if len(self.buried_twice) > most_lost:
            found.append(f"buried twice by {kills} kills: {_some(self.buried_twice)}")
        return found


def _some(ids: list[str]) -> str:
    return f"{len(ids)} events, such as {', '.join(ids[:3])}"


class _Channel:
    """The records of one channel."""

    def __init__(self) -> None:
        self.ids: dict[str, set[str]] = defaultdict(set)
        #: When an event may be begun, by its id, if it was sent with a delay.
        self.due: dict[str, float] = {}
        #: What handlers have done with an event, by its id.
        self.handling: dict[str, list[Record]] = defaultdict(list)
        self.pauses: list[Record] = []

    def add(self, record: Record) -> None:
        self.ids[record.what].add(record.id)
        if record.what == "try" and record.seconds:
            self.due[record.id] = record.at + record.seconds
        elif record.what in {"begin", "retry"}:
            self.handling[record.id].append(record)
        elif record.what in {"pause", "resume"}:
            self.pauses.append(record)


def judge(
    records: Iterable[Record], remaining: Remaining, promises: Mapping[str, Promise], ends: Mapping[int, float]
) -> dict[str, Verdict]:
    """Judge each channel.

    Args:
        records: what all processes have written.
        remaining: what lies in the layer.
        promises: the channels, and how each delivers.
        ends: when a process ended, by its id, where it has.

    Raises:
        ValueError: something lies in the layer under another channel's name.

    """
    channels: dict[str, _Channel] = defaultdict(_Channel)
    places = (remaining.waiting, remaining.leased, remaining.scheduled, remaining.dead)
    if strangers := {name for place in places for name in place} - promises.keys():
        raise ValueError(f"the layer holds events of channels that the run does not have: {', '.join(strangers)}")
    for record in records:
        channels[record.channel].add(record)
    return {name: _verdict(promise, name, channels[name], remaining, ends) for name, promise in promises.items()}


def _verdict(
    promise: Promise, name: str, channel: _Channel, remaining: Remaining, ends: Mapping[int, float]
) -> Verdict:
    ids, letters = channel.ids, Counter(remaining.dead[name])
    dead = [id_ for id_, _ in letters]
    places = Counter(remaining.unhandled(name) + dead)
    # At-least-once, an event is done when a handler has finished it. At-most-once, when one has begun it, unless its
    # handler gives it up: then there must be a dead letter.
    done = ids["end"] if promise == "at-least-once" else ids["begin"] - ids["reject"]
    # At-least-once, an event that was handled is delivered again when its worker ended before it was settled.
    left_the_layer = set[str]() if promise == "at-least-once" else ids["begin"]
    both = (ids["end"] & {*dead}) | (left_the_layer & {*remaining.unhandled(name)})
    verdict = Verdict(
        promise,
        acknowledged=len(ids["acknowledged"]),
        handled=len(ids["end"]),
        delayed=len(ids["acknowledged"] & channel.due.keys()),
        rejected=len(ids["reject"]),
        pauses=sum(record.what == "pause" for record in channel.pauses),
        lost=sorted(ids["acknowledged"] - done - places.keys()),
        doubled=sorted({id_ for id_, count in places.items() if count > 1} | both),
        unknown=sorted((ids["begin"] | places.keys()) - ids["try"]),
        buried_twice=sorted(id_ for (id_, _), count in letters.items() if count > 1),
        misburied=sorted({id_ for id_, code in letters if (code == GIVEN_UP) != (id_ in ids["reject"])}),
        in_pause=_begun_in_pause(channel),
    )
    for id_, handling in channel.handling.items():
        handling.sort(key=lambda record: record.at)
        if _is_early(handling, channel.due.get(id_, 0.0)):
            verdict.early.append(id_)
        for first, second in pairwise(handling):
            if first.what == "retry" or second.what == "retry":
                continue
            verdict.twice[id_] = verdict.twice.get(id_, 0) + 1
            end = ends.get(first.pid)
            if end is None or second.at < end:
                verdict.twice_without_kill.append(id_)
            else:
                verdict.take_over.append(second.at - end)
    return verdict


def _is_early(handling: Sequence[Record], due: float) -> bool:
    """Whether an event was begun before it was due, where a retry makes it due later."""
    for record in handling:
        if record.what == "retry":
            due = record.at + record.seconds
        elif record.at < due - EARLY_SECS:
            return True
    return False


def _begun_in_pause(channel: _Channel) -> list[str]:
    begins = [record for handling in channel.handling.values() for record in handling if record.what == "begin"]
    found = set[str]()
    channel.pauses.sort(key=lambda record: record.at)
    for pause, end in pairwise([*channel.pauses, Record("resume", "", "", 0, float("inf"))]):
        if pause.what == "pause":
            found |= {record.id for record in begins if pause.at + PAUSE_SECS < record.at < end.at}
    return sorted(found)
