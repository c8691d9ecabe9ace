"""An event that one schema accepts and another refuses: looked for, never guessed."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from itertools import chain, islice
from typing import Any

from channelmap.check.compare.normal import canonical
from channelmap.check.compare.samples import ORDINARY, mined, names, samples
from channelmap.validation import Schema

#: Events that are tried: near what differs, then anywhere; more where no rule says that there is something to find.
_NEAR_TRIES = 500
_FAR_TRIES = 1_000
_MORE_TRIES = 8_000
#: Characters of the events that are tried each time: to judge one takes as long as it is.
_MOST_TEXT = 4_000_000
_SEEDS = 24
_VALUES_OF_A_NAME = 12

_UNDECLARED = "undeclared"

Test = Callable[[dict[str, Any]], bool]


class Search:
    """Looks for events near those that two schemas describe; the same ones in the same order each time.

    Args:
        event_type: what the `type` of every event says.
        schemas: both schemas in their form; their limits are where an event may change its side.
        examples: events to begin with.

    """

    def __init__(self, event_type: str, schemas: tuple[Schema, Schema], examples: Iterable[Any]) -> None:
        made = (sample for schema in schemas for sample in islice(samples(schema), _SEEDS))
        self._seeds = [{**seed, "type": event_type} for seed in (*examples, *made) if isinstance(seed, dict)]
        self._values = _unique([*ORDINARY, *(value for schema in schemas for value in mined(schema))])
        self._names: dict[str, list[Any]] = {_UNDECLARED: [1, "a"]}
        spoken_of = [names(schema) for schema in schemas]
        self._different = {_UNDECLARED} | {
            name for name in {*spoken_of[0], *spoken_of[1]} if spoken_of[0].get(name) != spoken_of[1].get(name)
        }
        for found in spoken_of:
            for name, children in found.items():
                likely = [value for child in children for value in islice(samples(child), _VALUES_OF_A_NAME)]
                self._names[name] = _unique([*self._names.get(name, ()), *likely, 1, "a", None])

    def events(self, accepted: Test, refused: Test, *, thorough: bool = False) -> Iterator[dict[str, Any]]:
        """Find events that are accepted by the one side and refused by the other, small changes first.

        Args:
            accepted: asks the one side.
            refused: asks the other.
            thorough: look for longer.

        """
        seen: set[str] = set()
        # Around what is accepted there is more that is.
        seeds = sorted(self._seeds, key=lambda seed: not accepted(seed))
        for focus, tries in (
            (self._different, _NEAR_TRIES),
            (self._names.keys(), _MORE_TRIES if thorough else _FAR_TRIES),
        ):
            waiting = deque(seeds)
            candidates = chain(seeds, self._around(waiting, focus))
            length = 0
            for event in islice(candidates, tries):
                text = canonical(event)
                length += len(text)
                if length > _MOST_TEXT:
                    break
                if text in seen:
                    continue
                seen.add(text)
                if not accepted(event):
                    continue
                if refused(event):
                    yield event
                elif event not in self._seeds:
                    waiting.append(event)

    def _around(self, waiting: deque[dict[str, Any]], focus: AbstractSet[str]) -> Iterator[dict[str, Any]]:
        """Change each event that waits, in one place, in each way; more may come to wait meanwhile."""
        while waiting:
            event = waiting.popleft()
            inside = {name: value for name, value in event.items() if name != "type"}
            for changed in self._changed(inside, focus):
                yield {**changed, "type": event["type"]}

    def _changed(self, value: Any, focus: AbstractSet[str]) -> Iterator[Any]:
        if isinstance(value, dict):
            yield from ({key: item for key, item in value.items() if key != name} for name in value)
            for name in sorted(focus - value.keys()):
                yield from ({**value, name: item} for item in self._names[name])
            for name in sorted(value.keys() & focus):
                others = (*self._changed(value[name], focus), *self._values)
                yield from ({**value, name: other} for other in others)
        elif isinstance(value, list):
            yield value[:-1]
            yield from ([*value, item] for item in (*value[:1], *self._values))
            for index, item in enumerate(value[:3]):
                others = (*self._changed(item, focus), *self._values)
                yield from ([*value[:index], other, *value[index + 1 :]] for other in others)


def _unique(values: list[Any]) -> list[Any]:
    return list({canonical(value): value for value in values}.values())
