"""What changed in a schema, keyword by keyword: where a proof points to, and what is said without one.

The rules look at one direction: what `source` lets through and `target` may not. Asked with both exchanged,
they find the other direction. They read text, so they may be wrong; a proof always goes before them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from channelmap.check.compare.limits import LIMITS, narrows
from channelmap.check.compare.normal import canonical
from channelmap.pointers import Pointer
from channelmap.validation import Schema


@dataclass(frozen=True, slots=True)
class Change:
    """One keyword by which a schema lets less through than another.

    Attributes:
        keyword: which; empty where it is the schema as a whole, ``properties`` where a property came or went.
        pointer: the way to it, in either schema as far as it is there.
        subject: what in the event it judges, such as ``size.width``; empty for the event itself.
        source: what the keyword said in the wider schema, as JSON; empty where it was not there.
        target: what it says in the narrower one.
        lost: the events that are concerned, in words.
        name: the property, where it is about one.

    """

    keyword: str
    pointer: Pointer
    subject: str
    source: str
    target: str
    lost: str
    name: str = ""


def narrowings(source: Schema, target: Schema, *, strict: bool = False) -> tuple[Change, ...]:
    """Find where `target` may refuse what `source` lets through, as schemas of whole events.

    Args:
        source: a schema in its form.
        target: another.
        strict: what `source` accepts counts, not only what it describes.

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
        for rule in (self._keywords, self._required, self._properties, self._extras, self._lists, self._branches):
            yield from rule(wide, narrow, at, subject)
        for name in wide.get("$defs", {}).keys() & narrow.get("$defs", {}).keys():
            yield from self.compare(wide["$defs"][name], narrow["$defs"][name], (*at, "$defs", name), subject)

    def _keywords(self, source: dict[str, Any], target: dict[str, Any], at: Pointer, subject: str) -> Iterator[Change]:
        for keyword, lost in LIMITS.items():
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
                place = (*at, keyword, name)
                inner = below(subject, name)
                if name in was and name in now:
                    yield from self.compare(was[name], now[name], place, inner)
                elif name in now:
                    yield from self._declared(self._meant(source), now[name], place, inner)
                elif _rest(target) is False:
                    yield Change("properties", place, inner, canonical(was[name]), "", "events with it", name)
                else:
                    yield from self.compare(was[name], _rest(target), place, inner)

    def _declared(self, rest: Schema | None, target: Schema, at: Pointer, subject: str) -> Iterator[Change]:
        """Judge a property that was not named before: only what may have been there under its name can be lost."""
        if rest is None:
            return
        name = str(at[-1])
        if any(self.compare(rest, target, at, subject)):
            yield Change("properties", at, subject, "", canonical(target), "events with another value of it", name)

    def _extras(self, source: dict[str, Any], target: dict[str, Any], at: Pointer, subject: str) -> Iterator[Change]:
        was, now = self._meant(source), _rest(target)
        if was is None or was is False or was == now:
            return
        keyword = "unevaluatedProperties" if "unevaluatedProperties" in target else "additionalProperties"
        if now is False:
            yield Change(keyword, (*at, keyword), subject, canonical(was), "false", "events with undeclared properties")
        else:
            yield from self.compare(was, now, (*at, keyword), below(subject, "*"))

    def _meant(self, schema: dict[str, Any]) -> Schema | None:
        """Return what properties that are not named may hold; `None` where the schema means to have none."""
        describes = bool(set(schema.get("properties", ())) - {"type"})
        is_open = all(schema.get(keyword, True) is True for keyword in _EXTRAS)
        return None if describes and not self._strict and is_open else _rest(schema)

    def _lists(self, source: dict[str, Any], target: dict[str, Any], at: Pointer, subject: str) -> Iterator[Change]:
        was, now = source.get("prefixItems", []), target.get("prefixItems", [])
        rests = source.get("items", True), target.get("items", True)
        if isinstance(rests[0], list) or isinstance(rests[1], list):
            if rests[0] != rests[1]:
                yield Change("items", (*at, "items"), subject, canonical(rests[0]), canonical(rests[1]), "some events")
            return
        for index in range(max(len(was), len(now))):
            pair = (was[index] if index < len(was) else rests[0], now[index] if index < len(now) else rests[1])
            place = (*at, "prefixItems", index) if index < len(now) else (*at, "items")
            yield from self.compare(*pair, place, f"{subject}[{index}]")
        yield from self.compare(*rests, (*at, "items"), f"{subject}[]")

    def _branches(self, source: dict[str, Any], target: dict[str, Any], at: Pointer, subject: str) -> Iterator[Change]:
        for keyword in ("allOf", "anyOf", "oneOf"):
            yield from self._alternatives(keyword, source, target, at, subject)
        yield from self._conditions(source, target, at, subject)
        if "not" in target and source.get("not") != target["not"]:
            # What a `not` loses, what is in it gains.
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
    """Name a property of a value as people do."""
    return f"{subject}.{name}" if subject else name


def _rest(schema: dict[str, Any]) -> Schema:
    """Return the schema of properties that are not named."""
    rest: Schema = schema.get("additionalProperties", schema.get("unevaluatedProperties", True))
    return rest
