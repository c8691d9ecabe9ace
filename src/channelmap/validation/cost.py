"""Estimate whether the engine may take too long to judge one event.

The engine follows each reference again, even to a schema that it has already compared with the same value. So the cost
doubles with each definition that has two alternatives, both of which refer to the next definition. The engine
remembers its verdicts only for recursive definitions.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from channelmap.validation.keywords import IN_PLACE, LISTS, MAPS, SINGLES
from channelmap.validation.parts import Part, Parts

#: The engine needs about a millisecond for this number of visits.
_MAX_VISITS = 50_000
#: With so few subschemas and references there are at most 3 ** (28 / 3) paths: at worst, three branches a level.
_MAX_SMALL = 28

#: Keywords whose subschemas apply to one property or item each, which the keyword names.
_OF_ONE_CHILD = frozenset({"properties", "prefixItems"})
_SAME_VALUE = IN_PLACE | {"$ref"}
#: Keywords that contain subschemas or refer to a schema.
_FOLLOWED = LISTS | MAPS | SINGLES | {"$ref"}
_ANY: str | int = -1


def is_small(schema: Any, others: Mapping[str, Any]) -> bool:
    """Whether a schema and those that it may refer to are too small to be costly; quicker than `is_too_costly`."""
    left = _MAX_SMALL
    waiting = [schema, *others.values()]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            left -= 1 + ("$ref" in value)
            if str(value.get("$ref")).startswith("http"):
                # This may be the metaschema, which is not among the others.
                return False
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        elif value is True or value is False:
            left -= 1
        if left < 0:
            return False
    return True


def is_too_costly(parts: Parts) -> bool:
    """Whether the engine may compare one value with one part of a schema more than `_MAX_VISITS` times."""
    try:
        return _VisitCounter(parts).visits(parts.root).most > _MAX_VISITS
    except (LookupError, RecursionError):
        # A reference cannot be followed: leave the schema to the engine.
        return False


@dataclass(slots=True)
class _Visits:
    """Visit counts for one application of a schema to a value.

    Attributes:
        here: visits of the value itself.
        inside: maximum number of visits of any value inside each property or item, by name or index, or by `_ANY`.

    """

    here: int = 1
    inside: dict[str | int, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def most(self) -> int:
        """The largest number of visits of any single value."""
        if not self.inside:
            return self.here
        anything = self.inside.get(_ANY, 0)
        return max(self.here, anything + max((count for step, count in self.inside.items() if step != _ANY), default=0))


_ONE_VISIT = _Visits()


class _VisitCounter:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._known: dict[int, _Visits] = {}

    def visits(self, part: Part) -> _Visits:
        """Return the visits that one application of a part to a value causes."""
        if not isinstance(part.schema, dict) or _FOLLOWED.isdisjoint(part.schema):
            return _ONE_VISIT
        if id(part.schema) not in self._known:
            # The engine remembers its verdicts for recursive schemas.
            self._known[id(part.schema)] = _ONE_VISIT
            children = list(self._children(part))
            found = _Visits() if children else _ONE_VISIT
            for keyword, step, child in children:
                visits = self.visits(child)
                if keyword in _SAME_VALUE:
                    found.here += visits.here
                    for inner, count in visits.inside.items():
                        found.inside[inner] += count
                else:
                    found.inside[step if keyword in _OF_ONE_CHILD else _ANY] += visits.most
            self._known[id(part.schema)] = found
        return self._known[id(part.schema)]

    def _children(self, part: Part) -> Iterator[tuple[str, str | int, Part]]:
        schema = part.schema
        for keyword in self._parts.keywords(schema):
            value = schema[keyword]
            if keyword == "$ref":
                yield keyword, "", self._parts.resolve(part, value)
            elif keyword in LISTS and isinstance(value, list):
                yield from ((keyword, index, part.child(keyword, index)) for index in range(len(value)))
            elif keyword in MAPS:
                yield from ((keyword, name, part.child(keyword, name)) for name in value)
            elif keyword in SINGLES:
                yield keyword, "", part.child(keyword)
        yield from (
            (branch, "", part.child(branch)) for branch in ("then", "else") if "if" in schema and branch in schema
        )
