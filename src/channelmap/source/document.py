"""The document that YAML and JSON are read into, its builder, and the limits for both languages."""

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

#: Enough for a contract of 10,000 event types with schemas and examples in one file.
MAX_BYTES = 16 << 20
MAX_NODES = 500_000
#: Far more than people write, and far less than what crashes a recursive reader or a JSON Schema engine.
MAX_DEPTH = 100
TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"
#: Reading stops here: a file that contains only aliases has a finding for each of them.
MAX_FINDINGS = 100


class Text:
    """The text of a file; converts offsets to locations."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self._line_starts: list[int] = []

    def at(self, offset: int) -> Location:
        """Return the location of a code point, counted from 0; the end of the text is allowed, too."""
        # Not cached_property: in Python 3.11 it has a lock, which a forked child may inherit in the locked state.
        if not self._line_starts:
            self._line_starts = [0, *(newline.end() for newline in re.finditer(r"\r\n?|\n", self.text))]
        line = bisect_right(self._line_starts, offset)
        return Location(self.path, line, offset - self._line_starts[line - 1] + 1)

    def diagnostic(self, offset: int, code: Code, message: str, hint: str = "") -> Diagnostic:
        """Return a diagnostic at an offset."""
        return Diagnostic(self.at(offset), code, message, hint)


def decode(path: str, data: bytes) -> Text:
    """Decode UTF-8, with or without a byte order mark.

    Raises:
        ContractError: the data is too large, or not UTF-8; the location is that of the first invalid byte.

    """
    if len(data) > MAX_BYTES:
        message = f"the file is larger than {MAX_BYTES >> 20} MiB"
        raise ContractError([Diagnostic(Location(path), Code.FILE_TOO_LARGE, message)])
    try:
        return Text(path, data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        good = Text(path, error.object[: error.start].decode("utf-8"))
        message = f"byte 0x{error.object[error.start]:02x} is not UTF-8"
        raise ContractError(
            [good.diagnostic(len(good.text), Code.NOT_UTF_8, message, "save the file as UTF-8")]
        ) from None


class Position:
    """The offsets of a value and of its key, and the positions of the values inside it.

    Attributes:
        offset: where the value begins.
        key_offset: where its key begins; without a key, where the value begins.
        key: the key or index; a `FilledText` if it contains a value from the environment.
        written: the source text of a scalar that contains a value from the environment, otherwise empty.
        children: the positions of the values inside it, by key or index.

    """

    __slots__ = ("children", "key", "key_offset", "offset", "written")

    def __init__(self, offset: int, key_offset: int, key: str | int = "", written: str = "") -> None:
        self.offset = offset
        self.key_offset = key_offset
        self.key = key
        self.written = written
        self.children = _NO_CHILDREN


#: Shared by all scalars, to save memory.
_NO_CHILDREN: dict[str | int, Position] = {}


@dataclass(frozen=True)
class Document:
    """The data of a file, and the location of each value.

    Attributes:
        path: the name of the file in messages.
        data: plain JSON values.
        text: the text of the file.
        find_positions: returns the positions of all values; called when a location is first needed.
        variables: the values in which ``${NAME}`` was replaced, by the environment's value or by a default.

    """

    path: str
    data: Any = field(repr=False)
    text: Text
    find_positions: Callable[[], Position] = field(repr=False)
    variables: tuple[Pointer, ...] = ()

    @property
    def root(self) -> Position:
        """The position of the whole document, which contains those of all values."""
        kept = vars(self)
        # Not cached_property, as in `Text.at`.
        if "_root" not in kept:
            kept["_root"] = self.find_positions()
        found: Position = kept["_root"]
        return found

    def locate(self, pointer: Pointer, *, key: bool = False) -> Location:
        """Return the location of a value, or of its key; if it does not exist, that of its nearest ancestor."""
        position = self.root
        for step in pointer:
            if step not in position.children:
                return self.text.at(position.offset)
            position = position.children[step]
        return self.text.at(position.key_offset if key else position.offset)

    def display_pointer(self, pointer: Pointer) -> Pointer:
        """Return the pointer with keys that messages may show: `FilledText` if they contain environment values."""
        position, keys = self.root, list(pointer)
        for index, step in enumerate(pointer):
            if step not in position.children:
                break
            position = position.children[step]
            keys[index] = position.key
        return tuple(keys)

    def source_text(self, pointer: Pointer) -> str:
        """Return the source text of a scalar that contains a value from the environment; otherwise an empty text."""
        position = self.root
        for step in pointer:
            position = position.children[step]
        return position.written

    @property
    def marked_data(self) -> Any:
        """The data, with a `FilledText` for each text that contains a value from the environment."""
        # Not cached_property, as in `Text.at`.
        kept = vars(self)
        if "_marked" not in kept:
            kept["_marked"] = _marked(self.data, self.root)
        return kept["_marked"]


def _marked(value: Any, position: Position) -> Any:
    children = position.children
    if isinstance(value, dict):
        return {children[key].key: _marked(child, children[key]) for key, child in value.items()}
    if isinstance(value, list):
        return [_marked(child, children[index]) for index, child in enumerate(value)]
    return as_written(value, position.written) if position.written else value


class Builder:
    """Builds a document from the tokens of a reader; checks the limits and that keys are unique.

    A fault that can be skipped is added to `diagnostics`; any other ends the reading with a ContractError.
    """

    def __init__(self, text: Text) -> None:
        self.text = text
        self.diagnostics: list[Diagnostic] = []
        self._root: tuple[Any, Position] | None = None
        self._open: list[tuple[dict[str, Any] | list[Any], Position]] = []
        self._key: tuple[str, int] | None = None
        self._nodes = 0
        self._variables: list[Pointer] = []

    @property
    def pointer(self) -> Pointer:
        """The pointer to the innermost open mapping or list."""
        return tuple(position.key for _, position in self._open[1:])

    def is_at(self, pointer: Pointer) -> bool:
        """Whether the innermost open mapping or list is the one at a pointer."""
        return len(self._open) == len(pointer) + 1 and self.pointer == pointer

    @property
    def expects_key(self) -> bool:
        """Whether the next token must be a key or the end of a mapping."""
        return bool(self._open) and isinstance(self._open[-1][0], dict) and self._key is None

    def open(self, container: dict[str, Any] | list[Any], offset: int) -> None:
        """Open a mapping or a list."""
        position = self.add_value(container, offset)
        if len(self._open) == MAX_DEPTH:
            raise self.error(offset, Code.TOO_DEEP, TOO_DEEP)
        position.children = {}
        self._open.append((container, position))

    def close(self) -> None:
        """Close the innermost open mapping or list."""
        self._open.pop()

    def set_key(self, name: str, offset: int) -> None:
        """Set the key of the next value; it may be a `FilledText`."""
        self._check_surrogates(name, offset)
        first = self._open[-1][1].children.get(name)
        if first is not None:
            declared = self.text.at(first.key_offset)
            message = f"{quoted(name)} is declared twice; first at {declared.line}:{declared.column}"
            self.report(offset, Code.DUPLICATE_KEY, message)
        self._key = (name, offset)

    def add_value(self, value: Any, offset: int, written: str = "", *, has_variable: bool = False) -> Position:
        """Add a value, a scalar or an empty container, and return its position.

        Args:
            value: the value.
            offset: where it begins.
            written: its source text if it contains a value from the environment.
            has_variable: whether a variable was replaced in it, possibly by a default.

        """
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self.error(offset, Code.FILE_TOO_LARGE, f"the file holds more than {MAX_NODES:,} values")
        if isinstance(value, str):
            self._check_surrogates(value, offset)
        name, key_offset = self._key or (None, offset)
        if not self._open:
            position = Position(offset, key_offset, written=written)
            self._root = (value, position)
            return position
        container, parent = self._open[-1]
        if isinstance(container, dict):
            assert name is not None
            key: str | int = name
            container[str(name)] = value
        else:
            key = len(container)
            container.append(value)
        position = Position(offset, key_offset, key, written)
        parent.children[key] = position
        if has_variable:
            self._variables.append((*self.pointer, key))
        self._key = None
        return position

    def report(self, offset: int, code: Code, message: str, hint: str = "") -> None:
        """Add a diagnostic; ContractError if there are too many."""
        self.diagnostics.append(self.text.diagnostic(offset, code, message, hint))
        if len(self.diagnostics) == MAX_FINDINGS:
            raise ContractError(self.diagnostics)

    def error(self, offset: int, code: Code, message: str, hint: str = "") -> ContractError:
        """Return the error that ends the reading; it includes the diagnostics so far."""
        self.report(offset, code, message, hint)
        return ContractError(self.diagnostics)

    def document(self) -> Document:
        """Return the document; ContractError if there are diagnostics or the file is empty."""
        if self._root is None and not self.diagnostics:
            self.diagnostics.append(Diagnostic(Location(self.text.path), Code.FILE_EMPTY, "the file is empty"))
        if self.diagnostics or self._root is None:
            raise ContractError(self.diagnostics)
        data, position = self._root
        return Document(self.text.path, data, self.text, lambda: position, tuple(self._variables))

    def _check_surrogates(self, text: str, offset: int) -> None:
        if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
            self.report(offset, Code.UNSUPPORTED_TEXT, "half of a surrogate pair is not text")


def number(builder: Builder, literal: str, offset: int, base: int = 10) -> int | float:
    """Return the value of a number; report a number that JSON cannot hold."""
    is_integer = base != 10 or (literal.lstrip("+-").isdecimal())
    try:
        value = int(literal, base) if is_integer else float(literal)
        str(value)
    except ValueError:  # Python does not convert integers of more than 4,300 digits
        value = float("inf")
    if value in {float("inf"), float("-inf")} or value != value:  # noqa: PLR0124  (NaN is not itself)
        builder.report(offset, Code.UNSUPPORTED_NUMBER, f"{quoted(literal)} is not a number that JSON can hold")
        return 0
    return value
