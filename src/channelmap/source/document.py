"""What both languages are read into, and the bounds under which that happens."""

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from channelmap.codes import Code
from channelmap.diagnostics import Diagnostic, Location
from channelmap.environment import as_written
from channelmap.errors import ContractError, quoted
from channelmap.pointers import Pointer

"""The way from a document's root to one of its values: keys and list positions."""

#: Room for a contract of 10,000 event types with their schemas and examples in one file.
MAX_BYTES = 16 << 20
MAX_NODES = 500_000
#: Far beyond what people write, far below where a recursive reader or a JSON Schema engine ends the process.
MAX_DEPTH = 100
TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"
#: More than anybody reads; a file of nothing but aliases would make one for each.
MAX_FINDINGS = 100


class Text:
    """A file's text, where every offset has a place."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self._line_starts: list[int] = []

    def at(self, offset: int) -> Location:
        """Return the place of a code point, counted from 0; the end of the text is a place too."""
        # Not cached_property: it has a lock in Python 3.11, which a forked child may inherit while a thread holds it.
        if not self._line_starts:
            self._line_starts = [0, *(newline.end() for newline in re.finditer(r"\r\n?|\n", self.text))]
        line = bisect_right(self._line_starts, offset)
        return Location(self.path, line, offset - self._line_starts[line - 1] + 1)

    def error(self, offset: int, code: Code, message: str, hint: str = "") -> Diagnostic:
        """Return a diagnostic for that place."""
        return Diagnostic(self.at(offset), code, message, hint)


def decode(path: str, data: bytes) -> Text:
    """Read UTF-8, with or without a byte order mark; ContractError with the place of the first bad byte."""
    if len(data) > MAX_BYTES:
        message = f"the file is larger than {MAX_BYTES >> 20} MiB"
        raise ContractError([Diagnostic(Location(path), Code.FILE_TOO_LARGE, message)])
    try:
        return Text(path, data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        good = Text(path, error.object[: error.start].decode("utf-8"))
        message = f"byte 0x{error.object[error.start]:02x} is not UTF-8"
        raise ContractError([good.error(len(good.text), Code.NOT_UTF_8, message, "save the file as UTF-8")]) from None


class Place:
    """Where a value stands, where its key stands, and the places of what it contains.

    `written` is a scalar as it was written where a value of the environment was filled in; `key` is the key, a
    `Filled` where such a value is in it.
    """

    __slots__ = ("children", "key", "key_offset", "offset", "written")

    def __init__(self, offset: int, key_offset: int, key: str | int = "", written: str = "") -> None:
        self.offset = offset
        self.key_offset = key_offset
        self.key = key
        self.written = written
        self.children = _NO_CHILDREN


#: What a scalar has: most values are scalars.
_NO_CHILDREN: dict[str | int, Place] = {}


@dataclass(frozen=True)
class Document:
    """A file's data, and where each value of it stands.

    Attributes:
        path: the file, as messages call it.
        data: plain JSON values.
        find_places: finds where each value stands.
        variables: the values in which ``${NAME}`` was replaced, by the environment's value or by a default.

    """

    path: str
    data: Any = field(repr=False)
    text: Text
    find_places: Callable[[], Place] = field(repr=False)
    variables: tuple[Pointer, ...] = ()

    @property
    def root(self) -> Place:
        """The place of the whole document; its children are those of the values in it."""
        kept = vars(self)
        # Not cached_property, for the same reason as above.
        if "_root" not in kept:
            kept["_root"] = self.find_places()
        found: Place = kept["_root"]
        return found

    def locate(self, pointer: Pointer, *, key: bool = False) -> Location:
        """Return the place of a value, or of its key; or of the nearest ancestor that is there."""
        place = self.root
        for step in pointer:
            if step not in place.children:
                return self.text.at(place.offset)
            place = place.children[step]
        return self.text.at(place.key_offset if key else place.offset)

    def named(self, pointer: Pointer) -> Pointer:
        """Return the same way with the keys of the file, which are `Filled` where they came from the environment."""
        place, keys = self.root, list(pointer)
        for index, step in enumerate(pointer):
            if step not in place.children:
                break
            place = place.children[step]
            keys[index] = place.key
        return tuple(keys)

    def written(self, pointer: Pointer) -> str:
        """Return a scalar as it was written if a value of the environment was filled in there, else nothing."""
        place = self.root
        for step in pointer:
            place = place.children[step]
        return place.written

    @property
    def marked(self) -> Any:
        """The data, in which all text from the environment is a `Filled`."""
        # Not cached_property, for the same reason as above.
        kept = vars(self)
        if "_marked" not in kept:
            kept["_marked"] = _marked(self.data, self.root)
        return kept["_marked"]


def _marked(value: Any, place: Place) -> Any:
    children = place.children
    if isinstance(value, dict):
        return {children[key].key: _marked(child, children[key]) for key, child in value.items()}
    if isinstance(value, list):
        return [_marked(child, children[index]) for index, child in enumerate(value)]
    return as_written(value, place.written) if place.written else value


class Builder:
    """Puts a document together from a reader's tokens, in their order; keeps the bounds and the key rules.

    What can be passed over is collected in `found`; what cannot ends the reading with a ContractError.
    """

    def __init__(self, text: Text) -> None:
        self.text = text
        self.diagnostics: list[Diagnostic] = []
        self._root: tuple[Any, Place] | None = None
        self._open: list[tuple[dict[str, Any] | list[Any], Place]] = []
        self._key: tuple[str, int] | None = None
        self._nodes = 0
        self._variables: list[Pointer] = []

    @property
    def pointer(self) -> Pointer:
        """The way to the mapping or list that is open."""
        return tuple(place.key for _, place in self._open[1:])

    def is_at(self, pointer: Pointer) -> bool:
        """Whether the mapping or list that is open is the one at that pointer."""
        return len(self._open) == len(pointer) + 1 and self.pointer == pointer

    @property
    def expects_key(self) -> bool:
        """Whether the next token is a key, or the end of a mapping."""
        return bool(self._open) and isinstance(self._open[-1][0], dict) and self._key is None

    def open(self, container: dict[str, Any] | list[Any], offset: int) -> None:
        """Begin a mapping or a list."""
        place = self.value(container, offset)
        if len(self._open) == MAX_DEPTH:
            raise self.stop(offset, Code.TOO_DEEP, TOO_DEEP)
        place.children = {}
        self._open.append((container, place))

    def close(self) -> None:
        """End what was begun last."""
        self._open.pop()

    def key(self, name: str, offset: int) -> None:
        """Take the key of the value that comes next; it may be a `Filled`."""
        self._refuse_surrogates(name, offset)
        first = self._open[-1][1].children.get(name)
        if first is not None:
            place = self.text.at(first.key_offset)
            message = f"{quoted(name)} is declared twice; first at {place.line}:{place.column}"
            self.report(offset, Code.DUPLICATE_KEY, message)
        self._key = (name, offset)

    def value(self, value: Any, offset: int, written: str = "", *, has_variable: bool = False) -> Place:
        """Take a value: a scalar, or a container that is about to be filled.

        Args:
            value: the value.
            offset: where it begins.
            written: how it was written if a value of the environment was filled in.
            has_variable: whether a variable was replaced in it, be it by its default.

        """
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self.stop(offset, Code.FILE_TOO_LARGE, f"the file holds more than {MAX_NODES:,} values")
        if isinstance(value, str):
            self._refuse_surrogates(value, offset)
        name, key_offset = self._key or (None, offset)
        if not self._open:
            place = Place(offset, key_offset, written=written)
            self._root = (value, place)
            return place
        container, parent = self._open[-1]
        if isinstance(container, dict):
            assert name is not None
            key: str | int = name
            container[str(name)] = value
        else:
            key = len(container)
            container.append(value)
        place = Place(offset, key_offset, key, written)
        parent.children[key] = place
        if has_variable:
            self._variables.append((*self.pointer, key))
        self._key = None
        return place

    def report(self, offset: int, code: Code, message: str, hint: str = "") -> None:
        """Note something wrong and go on, unless there is too much of it."""
        self.diagnostics.append(self.text.error(offset, code, message, hint))
        if len(self.diagnostics) == MAX_FINDINGS:
            raise ContractError(self.diagnostics)

    def stop(self, offset: int, code: Code, message: str, hint: str = "") -> ContractError:
        """Return the error that ends the reading, with what was found before it."""
        self.report(offset, code, message, hint)
        return ContractError(self.diagnostics)

    def document(self) -> Document:
        """Return what was read; ContractError when anything was found, or nothing was there to read."""
        if self._root is None and not self.diagnostics:
            self.diagnostics.append(Diagnostic(Location(self.text.path), Code.FILE_EMPTY, "the file is empty"))
        if self.diagnostics or self._root is None:
            raise ContractError(self.diagnostics)
        data, place = self._root
        return Document(self.text.path, data, self.text, lambda: place, tuple(self._variables))

    def _refuse_surrogates(self, text: str, offset: int) -> None:
        if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
            self.report(offset, Code.UNSUPPORTED_TEXT, "half of a surrogate pair is not text")


def number(builder: Builder, literal: str, offset: int, base: int = 10) -> int | float:
    """Read a number that JSON can hold too; what it cannot is noted."""
    is_integer = base != 10 or (literal.lstrip("+-").isdecimal())
    try:
        value = int(literal, base) if is_integer else float(literal)
        str(value)
    except ValueError:  # Python reads and writes no integer of more than 4,300 digits
        value = float("inf")
    if value in {float("inf"), float("-inf")} or value != value:  # noqa: PLR0124  (NaN is not itself)
        builder.report(offset, Code.UNSUPPORTED_NUMBER, f"{quoted(literal)} is not a number that JSON can hold")
        return 0
    return value
