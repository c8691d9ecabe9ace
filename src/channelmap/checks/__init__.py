"""What loading cannot know: whether schemas, examples, consumers and handlers are what they seem to be.

One rule is one function with one code, in a module of what it is about, and stands in one of the tuples below, or in
`check` where it looks at more than one channel; rules about consumers stand in the order in which one is pointless
without the other. User code is imported here, through `imports`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from channelmap.checks.consumers import consumer_of
from channelmap.checks.documents import Part, SchemaDocument, schema_documents
from channelmap.checks.emptiness import schema_accepts_nothing, schema_dead_part
from channelmap.checks.examples import accepts_refused, engines_disagree, rejects_accepted
from channelmap.checks.files import file_unused
from channelmap.checks.handlers import handlers
from channelmap.checks.keywords import keyword_of_other_dialect, keyword_unknown, keyword_without_effect
from channelmap.checks.layers import layer_unusable
from channelmap.checks.names import names_alike
from channelmap.checks.patterns import pattern_ambiguous
from channelmap.checks.retries import handler_retry_at_most_once
from channelmap.checks.schemas import format_unknown, required_undeclared, schema_example_refused
from channelmap.checks.unreached import handler_unreached
from channelmap.contract import Channel, Contract, EventType
from channelmap.diagnostics import Diagnostic, in_order

_EventTypeRule = Callable[[Channel, EventType], Iterator[Diagnostic]]
_DocumentRule = Callable[[SchemaDocument], Iterator[Diagnostic]]
_PartRule = Callable[[Part], Iterator[Diagnostic]]

#: What would make a worker fail, or show that it refuses good events.
_EXAMPLES: tuple[_EventTypeRule, ...] = (accepts_refused, rejects_accepted)
_EVENT_TYPES: tuple[_EventTypeRule, ...] = (engines_disagree, schema_accepts_nothing)
_DOCUMENTS: tuple[_DocumentRule, ...] = (schema_dead_part, keyword_unknown)
_PARTS: tuple[_PartRule, ...] = (
    keyword_of_other_dialect,
    keyword_without_effect,
    required_undeclared,
    schema_example_refused,
    format_unknown,
    pattern_ambiguous,
)


def check(
    contract: Contract,
    channels: Iterable[str] = (),
    *,
    beside: Sequence[Contract] = (),
    imports: bool = True,
    thorough: bool = True,
) -> tuple[Diagnostic, ...]:
    """Find what is wrong with a contract that loads.

    Consumers are looked for on the Python path as it is: who runs the check sees to it.

    Args:
        contract: the contract.
        channels: only these; all of them, and what is between them, when none is named.
        beside: other contracts, which may name the same files and consumers.
        imports: import the consumers, and look at them and their handlers.
        thorough: look for all that may be wrong, not only for what makes a worker fail.

    Raises:
        UnknownChannel: one of `channels` is not declared.

    """
    names = list(channels)
    chosen = [contract.channel(name) for name in names] or list(contract.channels.values())
    found = [*_event_types(chosen, (*_EXAMPLES, *_EVENT_TYPES) if thorough else _EXAMPLES)]
    if imports:
        found += _consumers(contract, chosen, beside, thorough=thorough)
    if thorough:
        found += _schemas(contract, chosen)
    if thorough and not names:
        found += [*names_alike(contract), *file_unused(contract, beside), *layer_unusable(contract, imports=imports)]
    return in_order(found)


def _event_types(channels: list[Channel], rules: tuple[_EventTypeRule, ...]) -> Iterator[Diagnostic]:
    for channel in channels:
        for event_type in channel.events.values():
            for rule in rules:
                yield from _about(rule(channel, event_type), channel.name, event_type.name)


def _consumers(
    contract: Contract, channels: list[Channel], beside: Sequence[Contract], *, thorough: bool
) -> Iterator[Diagnostic]:
    consumers: dict[str, type] = {}
    for channel in channels:
        consumer, found = consumer_of(channel, contract.document.locate(("channels", channel.name, "consumer")))
        yield from _about(found, channel.name)
        if consumer is None:
            continue
        consumers[channel.consumer] = consumer
        for event_type in channel.events.values():
            place = contract.document.locate(("channels", channel.name, "events", event_type.name), key=True)
            yield from _about(handlers(consumer, event_type, place), channel.name, event_type.name)
            if thorough:
                retries = handler_retry_at_most_once(consumer, channel, event_type, place)
                yield from _about(retries, channel.name, event_type.name)
    if thorough:
        yield from handler_unreached([contract, *beside], channels, consumers)


def _schemas(contract: Contract, channels: list[Channel]) -> Iterator[Diagnostic]:
    for document in schema_documents(contract, channels):
        found = [diagnostic for rule in _DOCUMENTS for diagnostic in rule(document)]
        for part in document.parts:
            found += [diagnostic for rule in _PARTS for diagnostic in rule(part)]
        yield from _about(found, document.channel, document.event_type.name)


def _about(found: Iterable[Diagnostic], channel: str, event_type: str = "") -> Iterator[Diagnostic]:
    for diagnostic in found:
        yield replace(diagnostic, channel=channel, event_type=event_type)
