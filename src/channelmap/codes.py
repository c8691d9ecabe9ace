"""The codes of findings, rejections and dead letters, each with its group, default severity and summary.

The page of a code is `check/pages/<code>.md`, or `check/pages/events/<code>.md`.
"""

from enum import StrEnum
from typing import Self


class Severity(StrEnum):
    """The severity of a finding; only an error prevents loading a file."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Group(StrEnum):
    """The subject of codes; a heading of docs/checks.md."""

    FILE = "Reading the file"
    CONTRACT = "The contract's keys and values"
    SCHEMA = "Schemas, and files of examples"
    EXAMPLES = "Examples"
    CONSUMER = "Consumers and handlers"
    SENDER = "Senders"
    COMPARISON = "Compared with a release"
    LAYER = "Events in a layer"
    REJECTION = "A rejected event"
    DEAD_LETTER = "A dead letter"


class Code(StrEnum):
    """The code of a finding, with its group, default severity and summary."""

    group: Group
    severity: Severity
    summary: str

    def __new__(cls, code: str, group: Group, severity: Severity, summary: str) -> Self:  # noqa: D102  (an enum's own)
        member = str.__new__(cls, code)
        member._value_ = code
        member.group, member.severity, member.summary = group, severity, summary
        return member

    # fmt: off
    FILE_MISSING = "file-missing", Group.FILE, Severity.ERROR, "There is no such file."
    FILE_UNREADABLE = "file-unreadable", Group.FILE, Severity.ERROR, "The file is a directory, a pipe, or may not be read."
    FILE_EMPTY = "file-empty", Group.FILE, Severity.ERROR, "The file holds nothing, or only comments."
    FILE_TOO_LARGE = "file-too-large", Group.FILE, Severity.ERROR, "The file has more than 16 MiB, or more than 500,000 values."
    NOT_UTF_8 = "not-utf-8", Group.FILE, Severity.ERROR, "The file has a byte that is not UTF-8."
    YAML_SYNTAX = "yaml-syntax", Group.FILE, Severity.ERROR, "The file is not YAML."
    YAML_UNSUPPORTED = "yaml-unsupported", Group.FILE, Severity.ERROR, "The file uses a feature of YAML that channelmap does not support."
    JSON_SYNTAX = "json-syntax", Group.FILE, Severity.ERROR, "The file is not JSON."
    DUPLICATE_KEY = "duplicate-key", Group.FILE, Severity.ERROR, "A key occurs twice in the same mapping."
    TOO_DEEP = "too-deep", Group.FILE, Severity.ERROR, "The file is nested more than 100 levels deep."
    UNSUPPORTED_NUMBER = "unsupported-number", Group.FILE, Severity.ERROR, "The file has a number that JSON cannot hold."
    UNSUPPORTED_TEXT = "unsupported-text", Group.FILE, Severity.ERROR, "A text has one half of a surrogate pair."
    VARIABLE_MALFORMED = "variable-malformed", Group.FILE, Severity.ERROR, "A `${…}` does not name an environment variable."
    UNSET_VARIABLE = "unset-variable", Group.FILE, Severity.ERROR, "An environment variable is not set and has no default."
    VARIABLE_MISPLACED = "variable-misplaced", Group.FILE, Severity.ERROR, "An environment variable is used below `events`."

    UNKNOWN_KEY = "unknown-key", Group.CONTRACT, Severity.ERROR, "channelmap does not know a key."
    MISSING_KEY = "missing-key", Group.CONTRACT, Severity.ERROR, "A required key is missing."
    WRONG_SHAPE = "wrong-shape", Group.CONTRACT, Severity.ERROR, "A value has the wrong type, or is out of bounds."
    CHANNEL_NAME_INVALID = "channel-name-invalid", Group.CONTRACT, Severity.ERROR, "A channel has a name that no layer accepts."
    EVENT_TYPE_INVALID = "event-type-invalid", Group.CONTRACT, Severity.ERROR, "An event type has a name that can have no handler."
    HANDLER_COLLISION = "handler-collision", Group.CONTRACT, Severity.ERROR, "Two event types of a channel would call the same method."
    RETRY_AT_MOST_ONCE = "retry-at-most-once", Group.CONTRACT, Severity.ERROR, "`retry` has no effect, because delivery is at-most-once."
    NAMES_ALIKE = "names-alike", Group.CONTRACT, Severity.WARNING, "Two names differ only in case, hyphens, underscores or periods."
    LAYER_UNUSABLE = "layer-unusable", Group.CONTRACT, Severity.ERROR, "No sender and no worker can use the layer."
    IGNORE_UNUSED = "ignore-unused", Group.CONTRACT, Severity.WARNING, "An entry under `check: ignore:` matches no finding."
    IGNORE_EXPIRED = "ignore-expired", Group.CONTRACT, Severity.WARNING, "An entry under `check: ignore:` is past its last day."

    SCHEMA_MISSING = "schema-missing", Group.SCHEMA, Severity.ERROR, "There is no schema file of that name."
    SCHEMA_SYNTAX = "schema-syntax", Group.SCHEMA, Severity.ERROR, "The schema file is neither JSON nor YAML, as its name promises."
    EXAMPLES_MISSING = "examples-missing", Group.SCHEMA, Severity.ERROR, "There is no file of examples of that name."
    EXAMPLES_SYNTAX = "examples-syntax", Group.SCHEMA, Severity.ERROR, "The file of examples is neither JSON nor YAML, as its name promises."
    PATH_OUTSIDE_ROOT = "path-outside-root", Group.SCHEMA, Severity.ERROR, "A file lies outside the directory of channels.yaml."
    SCHEMA_INVALID = "schema-invalid", Group.SCHEMA, Severity.ERROR, "The schema breaks the rules of JSON Schema."
    SCHEMA_DIALECT = "schema-dialect", Group.SCHEMA, Severity.ERROR, "`$schema` names neither draft 2020-12 nor draft-07."
    SCHEMA_UNRESOLVABLE_REF = "schema-unresolvable-ref", Group.SCHEMA, Severity.ERROR, "The target of a `$ref` does not exist."
    REF_OUTSIDE_ROOT = "ref-outside-root", Group.SCHEMA, Severity.ERROR, "A `$ref` points outside the directory of channels.yaml."
    REMOTE_REF = "remote-ref", Group.SCHEMA, Severity.ERROR, "A `$ref` points to another host; nothing is fetched."
    FILE_UNUSED = "file-unused", Group.SCHEMA, Severity.WARNING, "No contract names a schema or a file of examples."
    SCHEMA_ACCEPTS_NOTHING = "schema-accepts-nothing", Group.SCHEMA, Severity.ERROR, "No event of this type can pass the schema."
    SCHEMA_DEAD_PART = "schema-dead-part", Group.SCHEMA, Severity.WARNING, "A part of the schema accepts no value."
    SCHEMA_EXAMPLE_REFUSED = "schema-example-refused", Group.SCHEMA, Severity.WARNING, "A `default` or an example inside the schema breaks the schema itself."
    REQUIRED_UNDECLARED = "required-undeclared", Group.SCHEMA, Severity.WARNING, "`required` names a property that the schema does not declare."
    PROPERTY_RESERVED = "property-reserved", Group.SCHEMA, Severity.ERROR, "A schema declares a key that no event may have."
    KEYWORD_UNKNOWN = "keyword-unknown", Group.SCHEMA, Severity.WARNING, "JSON Schema does not know a keyword."
    KEYWORD_OF_OTHER_DIALECT = "keyword-of-other-dialect", Group.SCHEMA, Severity.ERROR, "A keyword belongs to another dialect and has no effect in this one."
    KEYWORD_WITHOUT_EFFECT = "keyword-without-effect", Group.SCHEMA, Severity.WARNING, "A keyword can have no effect where it stands."
    FORMAT_UNKNOWN = "format-unknown", Group.SCHEMA, Severity.WARNING, "A format is unknown, so it is not checked."
    PATTERN_AMBIGUOUS = "pattern-ambiguous", Group.SCHEMA, Severity.WARNING, "A pattern means different things to different tools."

    ACCEPTS_REFUSED = "accepts-refused", Group.EXAMPLES, Severity.ERROR, "An event under `accepts` is refused by the schema."
    REJECTS_ACCEPTED = "rejects-accepted", Group.EXAMPLES, Severity.ERROR, "An event under `rejects` is accepted by the schema."
    ENGINES_DISAGREE = "engines-disagree", Group.EXAMPLES, Severity.WARNING, "The jsonschema package judges an example differently, and other tools may too."

    CONSUMER_MODULE_MISSING = "consumer-module-missing", Group.CONSUMER, Severity.ERROR, "There is no such module."
    CONSUMER_IMPORT_FAILED = "consumer-import-failed", Group.CONSUMER, Severity.ERROR, "The module of the consumer raises when it is imported."
    CONSUMER_NOT_FOUND = "consumer-not-found", Group.CONSUMER, Severity.ERROR, "The module has nothing of that name."
    NOT_A_CONSUMER = "not-a-consumer", Group.CONSUMER, Severity.ERROR, "The path names neither a consumer class nor an ASGI application."
    HANDLER_MISSING = "handler-missing", Group.CONSUMER, Severity.ERROR, "The consumer has no method for an event type."
    HANDLER_TASK = "handler-task", Group.CONSUMER, Severity.ERROR, "An event type names a task, but its consumer runs no tasks."
    HANDLER_RESERVED = "handler-reserved", Group.CONSUMER, Severity.ERROR, "The event type would call a method that every consumer has."
    HANDLER_GENERATOR = "handler-generator", Group.CONSUMER, Severity.ERROR, "A handler contains `yield`, so calling it runs none of it."
    HANDLER_NOT_ASYNC = "handler-not-async", Group.CONSUMER, Severity.ERROR, "An AsyncConsumer has a handler that is a plain method."
    HANDLER_NOT_SYNC = "handler-not-sync", Group.CONSUMER, Severity.ERROR, "A SyncConsumer has a handler that is `async`."
    HANDLER_WRONG_ARGUMENTS = "handler-wrong-arguments", Group.CONSUMER, Severity.ERROR, "A handler cannot be called with one event."
    HANDLER_RETRY_AT_MOST_ONCE = "handler-retry-at-most-once", Group.CONSUMER, Severity.ERROR, "A handler raises Retry, but its channel is at-most-once."
    HANDLER_UNREACHED = "handler-unreached", Group.CONSUMER, Severity.WARNING, "A method of the consumer looks like a handler, but no event type calls it."

    SENDER_UNKNOWN_CHANNEL = "sender-unknown-channel", Group.SENDER, Severity.ERROR, "The code sends to a channel that the contract does not declare."
    SENDER_UNKNOWN_TYPE = "sender-unknown-type", Group.SENDER, Severity.ERROR, "The code sends an event of a type that its channel does not declare."
    SENDER_MISSING_TYPE = "sender-missing-type", Group.SENDER, Severity.ERROR, "The code sends an event that has no `type`."
    SENDER_EVENT_REFUSED = "sender-event-refused", Group.SENDER, Severity.ERROR, "The code sends an event that the schema refuses."
    SENDER_IN_TRANSACTION = "sender-in-transaction", Group.SENDER, Severity.WARNING, "The code sends an event inside a database transaction of Django."
    SENDER_UNREADABLE = "sender-unreadable", Group.SENDER, Severity.WARNING, "A file of a sender cannot be read as Python."

    CHANNEL_REMOVED = "channel-removed", Group.COMPARISON, Severity.ERROR, "A channel of the release was removed."
    CHANNEL_ADDED = "channel-added", Group.COMPARISON, Severity.INFO, "A channel is new."
    EVENT_TYPE_REMOVED = "event-type-removed", Group.COMPARISON, Severity.ERROR, "An event type of the release was removed."
    EVENT_TYPE_ADDED = "event-type-added", Group.COMPARISON, Severity.INFO, "An event type is new."
    BREAKS_SENDERS = "breaks-senders", Group.COMPARISON, Severity.ERROR, "An event that was accepted is refused now."
    BREAKS_CONSUMERS = "breaks-consumers", Group.COMPARISON, Severity.WARNING, "An event is accepted now that was refused before."
    LIKELY_BREAKS_SENDERS = "likely-breaks-senders", Group.COMPARISON, Severity.ERROR, "A change seems to narrow what is accepted, but no event was found that proves it."
    LIKELY_BREAKS_CONSUMERS = "likely-breaks-consumers", Group.COMPARISON, Severity.WARNING, "A change seems to widen what is accepted, but no event was found that proves it."
    COMPATIBILITY_UNDECIDED = "compatibility-undecided", Group.COMPARISON, Severity.WARNING, "Whether a change breaks anything could not be decided."
    PROPERTY_DROPPED = "property-dropped", Group.COMPARISON, Severity.WARNING, "An optional property of the release is no longer declared."
    DEPLOY_ORDER = "deploy-order", Group.COMPARISON, Severity.INFO, "The order in which to deploy senders and consumers."

    WAITING_REFUSED = "waiting-refused", Group.LAYER, Severity.ERROR, "Events that wait in the layer will be refused."
    DEAD_LETTER_REFUSED = "dead-letter-refused", Group.LAYER, Severity.WARNING, "Dead letters would be refused if they were replayed."
    # fmt: on


BREAKS = frozenset({
    Code.CHANNEL_REMOVED, Code.EVENT_TYPE_REMOVED, Code.BREAKS_SENDERS, Code.BREAKS_CONSUMERS,
    Code.LIKELY_BREAKS_SENDERS, Code.LIKELY_BREAKS_CONSUMERS,
})  # fmt: skip
"""Codes of changes that are incompatible with a release; a suppression of one needs a last day."""


class EventCode(StrEnum):
    """The code of an `EventRejected` or a dead letter, with its group and summary."""

    group: Group
    summary: str

    def __new__(cls, code: str, group: Group, summary: str) -> Self:  # noqa: D102  (an enum's own)
        member = str.__new__(cls, code)
        member._value_ = code
        member.group, member.summary = group, summary
        return member

    # fmt: off
    MISSING_TYPE = "missing-type", Group.REJECTION, "The event has no `type`, or one that is not text."
    UNKNOWN_TYPE = "unknown-type", Group.REJECTION, "The channel does not declare the type of the event."
    SCHEMA_MISMATCH = "schema-mismatch", Group.REJECTION, "The event breaks the schema of its type."
    UNSUPPORTED_VALUE = "unsupported-value", Group.REJECTION, "The event holds something that JSON or a layer does not have."
    INVALID = "invalid", Group.DEAD_LETTER, "The worker took an event that its contract rejects."
    UNROUTABLE = "unroutable", Group.DEAD_LETTER, "The worker took an event of a type that its channel does not declare."
    UNREADABLE = "unreadable", Group.DEAD_LETTER, "The worker took something that is not an event."
    FAILED = "failed", Group.DEAD_LETTER, "The handler failed, and the event is not tried again."
    REJECTED_BY_HANDLER = "rejected-by-handler", Group.DEAD_LETTER, "The handler gave the event up with `raise Reject(…)`, and it is not tried again."
