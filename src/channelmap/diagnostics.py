"""What is wrong with a file, and where: a value that knows no rule, no colour and no stream."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from channelmap.environment import shown

Code = Literal[
    # The file can be read.
    "file-missing",
    "file-unreadable",
    "file-empty",
    "file-too-large",
    "not-utf-8",
    "yaml-syntax",
    "yaml-unsupported",
    "json-syntax",
    "duplicate-key",
    "too-deep",
    "unsupported-number",
    "unsupported-text",
    "variable-malformed",
    "unset-variable",
    "variable-misplaced",
    # The file says what it should.
    "unknown-key",
    "missing-key",
    "wrong-shape",
    "channel-name-invalid",
    "event-type-invalid",
    "handler-collision",
    "retry-at-most-once",
    "names-alike",
    "layer-unusable",
    "ignore-unused",
    "ignore-expired",
    # Schemas and files of examples.
    "schema-missing",
    "schema-syntax",
    "examples-missing",
    "examples-syntax",
    "path-outside-root",
    "schema-invalid",
    "schema-dialect",
    "schema-unresolvable-ref",
    "ref-outside-root",
    "remote-ref",
    "file-unused",
    "schema-accepts-nothing",
    "schema-dead-part",
    "schema-example-refused",
    "required-undeclared",
    "keyword-unknown",
    "keyword-of-other-dialect",
    "keyword-without-effect",
    "format-unknown",
    "pattern-ambiguous",
    # Examples and consumers.
    "accepts-refused",
    "rejects-accepted",
    "engines-disagree",
    "consumer-module-missing",
    "consumer-import-failed",
    "consumer-not-found",
    "not-a-consumer",
    "handler-missing",
    "handler-reserved",
    "handler-generator",
    "handler-not-async",
    "handler-not-sync",
    "handler-wrong-arguments",
    "handler-retry-at-most-once",
    "handler-unreached",
    # Senders.
    "sender-unknown-channel",
    "sender-unknown-type",
    "sender-missing-type",
    "sender-event-refused",
    "sender-unreadable",
    # Compared with what is released.
    "channel-removed",
    "channel-added",
    "event-type-removed",
    "event-type-added",
    "breaks-senders",
    "breaks-consumers",
    "likely-breaks-senders",
    "likely-breaks-consumers",
    "compatibility-undecided",
    "property-dropped",
    "deploy-order",
    # What waits in a layer.
    "waiting-refused",
    "dead-letter-refused",
]
"""What can be wrong: stable names, each with its page in `channelmap.check.pages`."""

BREAKS: frozenset[Code] = frozenset(
    {
        "channel-removed",
        "event-type-removed",
        "breaks-senders",
        "breaks-consumers",
        "likely-breaks-senders",
        "likely-breaks-consumers",
    }
)
"""What does not go together with a release; to intend it for ever would be to stop comparing."""


class Severity(StrEnum):
    """How much a diagnostic weighs: only an error stops a file from being loaded."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A place in a text file, for people: line and column count from 1, the column in code points.

    Line 0 stands for the file as a whole (it is missing, it cannot be read).
    """

    path: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}" if self.line else self.path


@dataclass(frozen=True, slots=True)
class Related:
    """A second place that belongs to a diagnostic, and what is there."""

    location: Location
    message: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing wrong in a file.

    Attributes:
        location: the smallest right place; what is wrong is the word that begins there.
        code: says what is wrong.
        message: names subject, fault, what was expected and what was found.
        hint: the likely remedy.
        severity: how much it weighs.
        related: other places that belong to it.
        channel: the channel that it is about, as messages call it; empty where it is about none.
        event_type: the event type that it is about.
        witness: an event that proves it, as JSON.

    """

    location: Location
    code: Code
    message: str
    hint: str = ""
    severity: Severity = Severity.ERROR
    related: tuple[Related, ...] = ()
    channel: str = ""
    event_type: str = ""
    witness: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "channel", shown(self.channel))

    def __str__(self) -> str:
        text = f"{self.location}: {self.severity}[{self.code}] {self.message}"
        return f"{text}; {self.hint}" if self.hint else text


def in_order(diagnostics: "list[Diagnostic] | tuple[Diagnostic, ...]") -> tuple[Diagnostic, ...]:
    """Sort by place, then code, each diagnostic once: the order in which people read a file."""
    return tuple(sorted(set(diagnostics), key=lambda d: (d.location, d.code, d.message)))
