"""All exceptions of channelmap, by what is at fault.

::

    ChannelMapError
    ├── ContractError         the file is wrong        .diagnostics (never empty, sorted, unique)
    ├── EventRejected         one event is wrong       .channel .type .code .violations
    ├── UnknownChannel        a name not in the file   .channel .known   (a ValueError too, as in Channels)
    ├── BaselineUnreadable    nothing to compare with  .spec .reason .hint
    ├── LockUnusable          the lock is wrong        .path .reason .hint
    ├── SendersMissing        no such Python files     .path
    ├── TracingUnavailable    no OpenTelemetry         .reason
    └── LayerError            the transport failed     .url (without its password)
        ├── ChannelFull       over capacity            .channel .capacity .sent
        └── LayerUnavailable  unreachable or lost

A handler's own exception is never wrapped: it is logged and kept in the event's dead letter.
Messages say: subject, what is wrong, expected, got, hint. Payloads and secrets are never part of one.
"""

import difflib
import functools
import heapq
import operator
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from channelmap.codes import Code, Severity
from channelmap.diagnostics import Diagnostic, in_order
from channelmap.environment import shown


class ChannelMapError(Exception):
    """Base class of all exceptions of channelmap; never raised itself."""


class ContractError(ChannelMapError):
    """A contract file cannot be used; `diagnostics` lists all errors and warnings, in the order of the file."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = in_order(tuple(diagnostics))
        super().__init__(self.diagnostics)

    @property
    def is_missing_file(self) -> bool:
        """Whether the only error is that the contract file does not exist."""
        return all(diagnostic.code == Code.FILE_MISSING for diagnostic in self.diagnostics)

    def __str__(self) -> str:
        errors = [d for d in self.diagnostics if d.severity is Severity.ERROR]
        path = self.diagnostics[0].location.path
        head = f"{path} has {len(errors)} error{'s' if len(errors) != 1 else ''}"
        return "\n  ".join([head, *map(str, self.diagnostics)])


@dataclass(frozen=True, slots=True)
class Violation:
    """A schema keyword that an event violates; the message quotes the schema, never the event's values.

    `path` is the location in the event (``$.size.width``), `keyword` the keyword of the schema (``minimum``).
    """

    path: str
    keyword: str
    message: str

    def __str__(self) -> str:
        return f"{self.path} {self.message}"


#: The violations of an event, and the likely remedy.
Reasons = tuple[tuple[Violation, ...], str]


Rejection = Literal["missing-type", "unknown-type", "schema-mismatch", "unsupported-value"]
"""Why an event is rejected; each has its page in `channelmap.check.pages`."""


class EventRejected(ChannelMapError):
    """An event is invalid on its channel. `send` raises this error, and `Channel.judge` returns it.

    Args:
        channel: the channel's name.
        type: the event's type; `None` if it has none.
        code: `missing-type`, `unknown-type`, `schema-mismatch` or `unsupported-value`.
        violations: the violated keywords, in the order of the schema; empty for the two `…-type` codes.
        hint: the likely remedy.

    """

    def __init__(
        self,
        channel: str,
        type: str | None,  # noqa: A002  (the event's word)
        code: str,
        violations: Iterable[Violation] = (),
        hint: str = "",
    ) -> None:
        self.channel = channel
        self.type = type
        self.code = code
        self._reasons: Reasons = tuple(violations), hint
        self._find_reasons: Callable[[], Reasons] | None = None
        super().__init__(channel, type, code)

    @classmethod
    def with_reasons_on_demand(
        cls,
        channel: str,
        type: str,  # noqa: A002  (the event's word)
        code: str,
        find_reasons: Callable[[], Reasons],
    ) -> Self:
        """Return an error whose violations and hint are found when they are first read.

        Args:
            channel: the channel's name.
            type: the event's type.
            code: one of the codes of `EventRejected`.
            find_reasons: returns violations and hint; it must not use anything that may change meanwhile, such as
                the event itself.

        """
        rejected = cls(channel, type, code)
        rejected._find_reasons = find_reasons
        return rejected

    @property
    def violations(self) -> tuple[Violation, ...]:
        """The schema keywords that the event violates."""
        return self._found_reasons()[0]

    @property
    def hint(self) -> str:
        """The likely remedy; empty if there is none."""
        return self._found_reasons()[1]

    @property
    def args(self) -> tuple[Any, ...]:  # type: ignore[override]  # an attribute of BaseException
        """The arguments that construct an equal error."""
        return self.channel, self.type, self.code, *self._found_reasons()

    def _found_reasons(self) -> Reasons:
        find_reasons = self._find_reasons
        if find_reasons is not None:
            self._reasons = find_reasons()
            self._find_reasons = None
        return self._reasons

    def __reduce__(self) -> tuple[Any, ...]:
        # Reading `args` first finds the reasons, so `__dict__` no longer refers to the event.
        return type(self), self.args, self.__dict__

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self.args!r}"

    def __str__(self) -> str:
        if self.code == "missing-type":
            text = f"channel {quoted(self.channel)} rejected an event without a type [missing-type]"
        elif self.code == "unknown-type":
            text = f"channel {quoted(self.channel)} does not declare event type {quoted(self.type)} [unknown-type]"
        else:
            text = f"channel {quoted(self.channel)} rejected {quoted(self.type)} [{self.code}]"
        if self.violations:
            text += f": {self.violations[0]}"
        if len(self.violations) > 1:
            text += f" (and {len(self.violations) - 1} more)"
        return f"{text}; {self.hint}" if self.hint else text


class UnknownChannel(ChannelMapError, ValueError):
    """The contract does not declare a channel of this name; `known` lists those that it declares."""

    def __init__(self, channel: str, known: Iterable[str]) -> None:
        self.channel = channel
        self.known = tuple(sorted(known))
        super().__init__(channel, self.known)

    def __str__(self) -> str:
        hint = did_you_mean(self.channel, self.known)
        declared = ", ".join(quoted(name) for name in self.known[:20]) or "none"
        text = f"no channel {quoted(self.channel)}; the contract declares {declared}"
        return f"{text}; {hint}" if hint else text


class LayerError(ChannelMapError):
    """An operation of a layer failed.

    `url` names the layer, without user name, password and values from the environment.
    """

    def __init__(self, url: str, reason: str) -> None:
        self.url = shown(url)
        self.reason = reason
        super().__init__(self.url, reason)

    def __str__(self) -> str:
        return f"{self.url}: {self.reason}"


class ChannelFull(LayerError):
    """The channel has no room for the sent events: send them later, or add workers.

    In a process that has imported Channels, the error is also a `channels.exceptions.ChannelFull`.

    Args:
        url: the layer.
        channel: the channel's name.
        capacity: maximum number of waiting events.
        unsent: number of events that were not sent; there may have been room for some of them.
        sent: number of events that the same call sent before; 0 except for third-party layers, which send one by one.

    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make an instance that `except channels.exceptions.ChannelFull` catches, if Channels has been imported."""
        channels_full = getattr(sys.modules.get("channels.exceptions"), "ChannelFull", None)
        if cls is ChannelFull and channels_full is not None:
            cls = _channel_full_in_channels(channels_full)  # type: ignore[assignment]  # noqa: PLW0642
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, url: str, channel: str, capacity: int, unsent: int = 1, sent: int = 0) -> None:
        self.channel = channel
        self.capacity = capacity
        self.sent = sent
        problem = "is full" if unsent == 1 else f"has no room for {unsent} more events"
        super().__init__(url, f"channel {quoted(channel)} {problem} (capacity {capacity})")
        self.args = (self.url, channel, capacity, unsent, sent)


@functools.cache
def _channel_full_in_channels(channels_full: type[Exception]) -> type[ChannelFull]:
    """Derive a class from both errors; it has the name of `ChannelFull`, whose constructor also makes its copies."""

    def reduce(error: ChannelFull) -> tuple[Any, ...]:
        return ChannelFull, error.args, error.__dict__

    namespace = {"__module__": ChannelFull.__module__, "__doc__": ChannelFull.__doc__, "__reduce__": reduce}
    return type(ChannelFull.__name__, (ChannelFull, channels_full), namespace)


class LayerUnavailable(LayerError):
    """The layer is unreachable, its connection was lost, or its configuration is wrong."""


class ChannelUnsupported(LayerError):
    """The layer does not support a channel of this name, so no event can ever be received from it."""


class TracingUnavailable(ChannelMapError):
    """A contract says `tracing: true`, and OpenTelemetry cannot be imported; `reason` is what the import said."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return f"'tracing: true' needs the extra 'otel': pip install 'channelmap[otel]' ({self.reason})"


def one_line(text: str) -> str:
    """Return a text with each run of whitespace, such as a newline, replaced by one space."""
    return " ".join(text.split())


def quoted(value: object, limit: int = 60) -> str:
    """Quote a name for a message: in single quotes, control characters escaped, cut at `limit` characters.

    A value from the environment is quoted as the file has it: `${NAME}`. All messages quote through this function.
    """
    # Cut before escaping and after it, because escaping makes a text longer.
    text = printable(shown(value)[: limit + 1])
    return f"'{text if len(text) <= limit else text[: limit - 1] + '…'}'"


def text_of(error: BaseException) -> str:
    """Return the class and the text of an exception of user code, whose `__str__` may itself raise.

    >>> text_of(ValueError("a reason"))
    'ValueError: a reason'
    """
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001  (user code runs here, and whatever it raises says nothing about the event)
        text = "its text is not available"
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def shortened(text: str, limit: int = 4_000) -> str:
    """Cut a text at `limit` characters, and say how many are missing.

    >>> shortened("a" * 20, limit=10)
    'aaaaaaaaaa… (10 more characters)'
    """
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"


#: Characters of a traceback that are kept: it begins with the calls, and what the exception says comes last.
LONGEST_TRACEBACK = 64_000


def printable(text: str) -> str:
    """Escape a text that contains control characters, which a terminal would obey."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a hint that names the most similar of the `known` words, or an empty text."""
    near = _nearest(word, tuple(known)) if len(word) <= _LONGEST_WORD else None
    return f"did you mean {quoted(near)}?" if near is not None else ""


#: Maximum length of a word for which a similar one is searched.
_LONGEST_WORD = 200
#: Maximum number of words that are compared letter by letter; each takes about 40 µs.
_MOST_COMPARED = 5


@functools.lru_cache(maxsize=256)
def _nearest(word: str, known: tuple[str, ...]) -> str | None:
    """Return the known word that shares most letters with `word`, in the same order, and at least 60 % of them."""
    # Words of very different length cannot share 60 %.
    near = [other for other in known if 3 * len(other) <= 7 * len(word) and 3 * len(word) <= 7 * len(other)]
    if len(near) > _MOST_COMPARED:
        pairs, known_pairs = _pairs(word), _pairs_of_each(known)
        near = heapq.nlargest(
            _MOST_COMPARED, near, lambda other: len(pairs & known_pairs[other]) / (len(other) + len(word))
        )
    found = difflib.get_close_matches(word, near, n=1, cutoff=0.6)
    return found[0] if found else None


@functools.lru_cache(maxsize=16)
def _pairs_of_each(words: tuple[str, ...]) -> dict[str, set[str]]:
    return {word: _pairs(word) for word in words}


def _pairs(word: str) -> set[str]:
    """Return each pair of adjacent letters of a word."""
    return set(map(operator.add, word, word[1:]))
