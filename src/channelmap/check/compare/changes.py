"""Find the keywords by which a schema accepts less than another one.

The rules look for events that `source` accepts and `target` may reject; exchange both for the other direction. Rules
compare text, so they may be wrong, and a proof always takes precedence.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from channelmap.check.compare.narrowing import LOST_BY_KEYWORD, narrows
from channelmap.check.compare.normal_form import canonical
from channelmap.pointers import Pointer
from channelmap.validation import Schema


@dataclass(frozen=True, slots=True)
class Change:
    """One keyword by which a schema accepts less than another.

    Attributes:
        keyword: its name; empty for the schema as a whole, ``properties`` if a property was added or removed.
        pointer: the pointer to it; one of the two schemas may lack its end.
        subject: the part of an event that it judges, such as ``size.width``; empty for the event itself.
        source: its value in the wider schema, as JSON; empty if that schema does not have it.
        target: its value in the narrower schema, in the same way.
        lost: a description of the events that are no longer accepted.
        name: the property, if the change is about one.

    """

    keyword: str
    pointer: Pointer
    subject: str
    source: str
    target: str
    lost: str
    name: str = ""


def narrowings(source: Schema, target: Schema, *, strict: bool = False) -> tuple[Change, ...]:
    """Find the keywords by which `target` may reject events that `source` accepts.

    Args:
        source: the schema of whole events, in normal form.
        target: another one.
        strict: compare all events that `source` accepts, not only those that it describes.

    """
    wide = {"type": "object", **source} if isinstance(source, dict) else {"type": "object"} if source else source
    return tuple(dict.fromkeys(_Rules(strict=strict).compare(wide, target, (), "")))


_EXTRAS = frozenset({"additionalProperties", "unevaluatedProperties"})


def _text(schema: Mapping[str, Any], keyword: str) -> str:
    return canonical(schema[keyword]) if keyword in schema else ""


class _Rules:
    def __init__(self, *, strict: bool) -> None:
        self._strict = strict

    def compare(self, source: Schema, target: Schema, at: Pointer, subject: str) -> Iterator[Change]:
        if source == target or source is False:
            return
        if target is False:
            yield Change("", at, subject, canonical(source), "false", "events with it")
            return
        wide: dict[str, Any] = source if isinstance(source, dict) else {}
        narrow: dict[str, Any] = target if isinstance(target, dict) else {}
        for rule in (
            self._keywords,
            self._required,
            self._properties,
            self._undeclared_properties,
            self._lists,
            self._branches,
        ):
            yield from rule(wide, narrow, at, subject)
        for name in wide.get("$defs", {}).keys() & narrow.get("$defs", {}).keys():
            yield from self.compare(wide["$defs"][name], narrow["$defs"][name], (*at, "$defs", name), subject)

    def _keywords(self, source: dict[str, Any], target: dict[str, Any], at: Pointer, subject: str) -> Iterator[Change]:
        for keyword, lost in LOST_BY_KEYWORD.items():
            if keyword in target and narrows(keyword, source, target):
                texts = _text(source, keyword), _text(target, keyword)
                yield Change(keyword, (*at, keyword), subject, *texts, lost)
        for keyword in ("propertyNames", "contains", "unevaluatedItems"):
            if keyword in target:
                inner = (source.get(keyword, True), target[keyword], (*at, keyword), subject)
                yield from self.compare(*inner)

    def _required(self, source: dict[str, Any], target: dict[str, Any], at: Pointer, subject: str) -> Iterator[Change]:
        before = source.get("required", [])
        for name in target.get("required", ()):
            if name not in before:
                texts = _text(source, "required"), _text(target, "required")
                yield Change("required", (*at, "required"), below(subject, name), *texts, "events without it", name)
        there = source.get("dependentRequired", {})
        for name, needed in target.get("dependentRequired", {}).items():
            if set(needed) - set(there.get(name, ())):
                texts = canonical(there[name]) if name in there else "", canonical(needed)
                yield Change(
                    "dependentRequired",
                    (*at, "dependentRequired", name),
                    below(subject, name),
                    *texts,
                    "events with it alone",
                )
        for name, needed in target.get("dependentSchemas", {}).items():
            was = source.get("dependentSchemas", {}).get(name, True)
            yield from self.compare(was, needed, (*at, "dependentSchemas", name), subject)

    def _properties(
        self, source: dict[str, Any], target: dict[str, Any], at: Pointer, subject: str
    ) -> Iterator[Change]:
        for keyword in ("properties", "patternProperties"):
            was, now = source.get(keyword, {}), target.get(keyword, {})
            for name in sorted(was.keys() | now.keys()):
                pointer = (*at, keyword, name)
                inner = below(subject, name)
                if name in was and name in now:
                    yield from self.compare(was[name], now[name], pointer, inner)
                elif name in now:
                    yield from self._declared(self._undeclared(source), now[name], pointer, inner)
                elif _additional(target) is False:
                    yield Change("properties", pointer, inner, canonical(was[name]), "", "events with it", name)
                else:
                    yield from self.compare(was[name], _additional(target), pointer, inner)

    def _declared(self, rest: Schema | None, target: Schema, at: Pointer, subject: str) -> Iterator[Change]:
        """Compare a property that only `target` declares with `rest`, the schema of other properties in `source`."""
        if rest is None:
            return
        name = str(at[-1])
        if any(self.compare(rest, target, at, subject)):
            yield Change("properties", at, subject, "", canonical(target), "events with another value of it", name)

    def _undeclared_properties(
        self, source: dict[str, Any], target: dict[str, Any], at: Pointer, subject: str
    ) -> Iterator[Change]:
        was, now = self._undeclared(source), _additional(target)
        if was is None or was is False or was == now:
            return
        keyword = "unevaluatedProperties" if "unevaluatedProperties" in target else "additionalProperties"
        if now is False:
            yield Change(keyword, (*at, keyword), subject, canonical(was), "false", "events with undeclared properties")
        else:
            yield from self.compare(was, now, (*at, keyword), below(subject, "*"))

    def _undeclared(self, schema: dict[str, Any]) -> Schema | None:
        """Return the schema of undeclared properties; `None` if the schema describes events that have none."""
        describes = bool(set(schema.get("properties", ())) - {"type"})
        is_open = all(schema.get(keyword, True) is True for keyword in _EXTRAS)
        return None if describes and not self._strict and is_open else _additional(schema)

    def _lists(self, source: dict[str, Any], target: dict[str, Any], at: Pointer, subject: str) -> Iterator[Change]:
        was, now = source.get("prefixItems", []), target.get("prefixItems", [])
        rests = source.get("items", True), target.get("items", True)
        if isinstance(rests[0], list) or isinstance(rests[1], list):
            if rests[0] != rests[1]:
                yield Change("items", (*at, "items"), subject, canonical(rests[0]), canonical(rests[1]), "some events")
            return
        for index in range(max(len(was), len(now))):
            pair = (was[index] if index < len(was) else rests[0], now[index] if index < len(now) else rests[1])
            pointer = (*at, "prefixItems", index) if index < len(now) else (*at, "items")
            yield from self.compare(*pair, pointer, f"{subject}[{index}]")
        yield from self.compare(*rests, (*at, "items"), f"{subject}[]")

    def _branches(self, source: dict[str, Any], target: dict[str, Any], at: Pointer, subject: str) -> Iterator[Change]:
        for keyword in ("allOf", "anyOf", "oneOf"):
            yield from self._alternatives(keyword, source, target, at, subject)
        yield from self._conditions(source, target, at, subject)
        if "not" in target and source.get("not") != target["not"]:
            # `not` accepts less if the schema in it accepts more.
            inside = [*self.compare(target["not"], source.get("not", False), (*at, "not"), subject)]
            if inside:
                texts = _text(source, "not"), _text(target, "not")
                yield Change("not", (*at, "not"), subject, *texts, "events that match it")

    def _conditions(
        self, source: dict[str, Any], target: dict[str, Any], at: Pointer, subject: str
    ) -> Iterator[Change]:
        if "if" in target and source.get("if") == target["if"]:
            for keyword in ("then", "else"):
                yield from self.compare(source.get(keyword, True), target.get(keyword, True), (*at, keyword), subject)
        elif "if" in target and {"then", "else"} & target.keys():
            texts = _text(source, "if"), _text(target, "if")
            yield Change("if", (*at, "if"), subject, *texts, "events that break its 'then' or 'else'")

    def _alternatives(
        self, keyword: str, source: dict[str, Any], target: dict[str, Any], at: Pointer, subject: str
    ) -> Iterator[Change]:
        was, now = source.get(keyword, []), target.get(keyword, [])
        gone = [branch for branch in was if branch not in now]
        new = [index for index, branch in enumerate(now) if branch not in was]
        if not now:
            return
        for branch, index in zip(gone, new, strict=False):
            yield from self.compare(branch, now[index], (*at, keyword, index), subject)
        if keyword == "allOf":
            for index in new[len(gone) :]:
                yield from self.compare(True, now[index], (*at, keyword, index), subject)  # noqa: FBT003
            return
        texts = f"{len(was)} alternatives" if was else "", f"{len(now)} alternatives"
        if not was or len(gone) > len(new) or (keyword == "oneOf" and len(new) > len(gone)):
            lost = "events that match more than one" if len(now) > len(was) > 0 else "events that match none of them"
            yield Change(keyword, (*at, keyword), subject, *texts, lost)


def below(subject: str, name: str) -> str:
    """Return the dotted name of a property."""
    return f"{subject}.{name}" if subject else name


def _additional(schema: dict[str, Any]) -> Schema:
    """Return the schema of properties that are not declared."""
    rest: Schema = schema.get("additionalProperties", schema.get("unevaluatedProperties", True))
    return rest
