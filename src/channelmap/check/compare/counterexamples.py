"""Search for an event that one schema accepts and another rejects."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from itertools import chain, islice
from typing import Any

from channelmap.check.compare.normal_form import canonical
from channelmap.check.compare.samples import COMMON_VALUES, named_properties, samples, values_near_bounds
from channelmap.validation import Schema

#: Number of events to try: with changes in differing properties, in any property, and if no rule found a change.
_NEAR_TRIES = 500
_FAR_TRIES = 1_000
_MORE_TRIES = 8_000
#: Maximum total length of the events to try, because long events take long to validate.
_MAX_TEXT = 4_000_000
_SEEDS = 24
_VALUES_OF_A_NAME = 12

_UNDECLARED = "undeclared"

Test = Callable[[dict[str, Any]], bool]


class CounterexampleSearch:
    """Searches events near those that two schemas describe; deterministic.

    Args:
        event_type: the `type` of every event.
        schemas: both schemas, in normal form.
        examples: events from which the search starts.

    """

    def __init__(self, event_type: str, schemas: tuple[Schema, Schema], examples: Iterable[Any]) -> None:
        made = (sample for schema in schemas for sample in islice(samples(schema), _SEEDS))
        self._seeds = [{**seed, "type": event_type} for seed in (*examples, *made) if isinstance(seed, dict)]
        self._values = _unique([*COMMON_VALUES, *(value for schema in schemas for value in values_near_bounds(schema))])
        self._names: dict[str, list[Any]] = {_UNDECLARED: [1, "a"]}
        mentioned = [named_properties(schema) for schema in schemas]
        self._different = {_UNDECLARED} | {
            name for name in {*mentioned[0], *mentioned[1]} if mentioned[0].get(name) != mentioned[1].get(name)
        }
        for found in mentioned:
            for name, children in found.items():
                likely = [value for child in children for value in islice(samples(child), _VALUES_OF_A_NAME)]
                self._names[name] = _unique([*self._names.get(name, ()), *likely, 1, "a", None])

    def events(self, accepted: Test, rejected: Test, *, thorough: bool = False) -> Iterator[dict[str, Any]]:
        """Yield events that one schema accepts and the other rejects, those with small changes first.

        Args:
            accepted: returns whether the first schema accepts an event.
            rejected: returns whether the second schema rejects an event.
            thorough: try more events.

        """
        seen: set[str] = set()
        # Accepted events first: others near them are often accepted too.
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
                if length > _MAX_TEXT:
                    break
                if text in seen:
                    continue
                seen.add(text)
                if not accepted(event):
                    continue
                if rejected(event):
                    yield event
                elif event not in self._seeds:
                    waiting.append(event)

    def _around(self, waiting: deque[dict[str, Any]], focus: AbstractSet[str]) -> Iterator[dict[str, Any]]:
        """Yield each waiting event with one change, in every way; the caller may add waiting events meanwhile."""
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
