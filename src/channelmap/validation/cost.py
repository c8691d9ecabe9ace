"""Whether the engine's verdict on one event may take forever: it follows each reference anew, whatever leads there.

A few definitions, each with two alternatives that refer to the next one, make it hold the same value against the last
one a million times. Only where definitions refer back to themselves, it remembers what it has seen.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from channelmap.validation.keywords import IN_PLACE, LISTS, MAPS, SINGLES
from channelmap.validation.parts import Part, Parts

#: So many take the engine about a millisecond.
_MOST = 50_000
#: Through so many steps from schema to schema lead at most 3 ** (28 / 3) ways: always three abreast.
_FEW = 28

#: Keywords whose schemas are held against one property or item, which they name.
_NAMING = frozenset({"properties", "prefixItems"})
_OF_SAME_VALUE = IN_PLACE | {"$ref"}
#: Keywords that hold schemas, or refer to one.
_FOLLOWED = LISTS | MAPS | SINGLES | {"$ref"}
_ANY: str | int = -1


def is_small(schema: Any, others: Mapping[str, Any]) -> bool:
    """Whether a schema, with those that it may refer to, has too few parts to grow: that is seen at a glance."""
    left = _FEW
    waiting = [schema, *others.values()]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            left -= 1 + ("$ref" in value)
            if str(value.get("$ref")).startswith("http"):
                # This may be the schema of all schemas, which is not among the others.
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
    """Whether the engine may hold one value against one part of a schema too often to wait for."""
    try:
        return _Counted(parts).below(parts.root).most > _MOST
    except (LookupError, RecursionError):
        # What cannot be followed is left to the engine.
        return False


@dataclass(slots=True)
class _Visits:
    """How often values are looked at, for each time that a schema is held against a value.

    Attributes:
        here: the value itself.
        inside: its properties and items and all in them, at most, by name or index; or by `_ANY`.

    """

    here: int = 1
    inside: dict[str | int, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def most(self) -> int:
        """How often any of them is looked at."""
        if not self.inside:
            return self.here
        anything = self.inside.get(_ANY, 0)
        return max(self.here, anything + max((count for step, count in self.inside.items() if step != _ANY), default=0))


_ONE_VISIT = _Visits()


class _Counted:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._known: dict[int, _Visits] = {}

    def below(self, part: Part) -> _Visits:
        """Count the visits that holding a part against a value brings about."""
        if not isinstance(part.schema, dict) or _FOLLOWED.isdisjoint(part.schema):
            return _ONE_VISIT
        if id(part.schema) not in self._known:
            # The engine remembers its verdict where a schema leads back to itself.
            self._known[id(part.schema)] = _ONE_VISIT
            children = list(self._children(part))
            found = _Visits() if children else _ONE_VISIT
            for keyword, step, child in children:
                visits = self.below(child)
                if keyword in _OF_SAME_VALUE:
                    found.here += visits.here
                    for inner, count in visits.inside.items():
                        found.inside[inner] += count
                else:
                    found.inside[step if keyword in _NAMING else _ANY] += visits.most
            self._known[id(part.schema)] = found
        return self._known[id(part.schema)]

    def _children(self, part: Part) -> Iterator[tuple[str, str | int, Part]]:
        schema = part.schema
        for keyword in self._parts.keywords(schema):
            value = schema[keyword]
            if keyword == "$ref":
                yield keyword, "", self._parts.referred(part, value)
            elif keyword in LISTS and isinstance(value, list):
                yield from ((keyword, index, part.child(keyword, index)) for index in range(len(value)))
            elif keyword in MAPS:
                yield from ((keyword, name, part.child(keyword, name)) for name in value)
            elif keyword in SINGLES:
                yield keyword, "", part.child(keyword)
        yield from (
            (branch, "", part.child(branch)) for branch in ("then", "else") if "if" in schema and branch in schema
        )
