"""Rules for what loading a contract does not check: schemas, examples, consumers and handlers.

One rule is one function with one code, in the module of its subject. It is listed in one of the tuples below, or in
`check` if it needs more than one channel. Rules that `runworker` also applies are in `preflight`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from channelmap.check.rules.documents import Part, SchemaDocument, schema_documents
from channelmap.check.rules.empty_schemas import schema_accepts_nothing, schema_dead_part
from channelmap.check.rules.examples import engines_disagree
from channelmap.check.rules.files import file_unused
from channelmap.check.rules.keywords import keyword_of_other_dialect, keyword_unknown, keyword_without_effect
from channelmap.check.rules.layers import layer_unusable
from channelmap.check.rules.names import names_alike
from channelmap.check.rules.patterns import pattern_ambiguous
from channelmap.check.rules.reserved import property_reserved
from channelmap.check.rules.retries import handler_retry_at_most_once
from channelmap.check.rules.schemas import format_unknown, required_undeclared, schema_example_refused
from channelmap.check.rules.unreached import handler_unreached
from channelmap.contract import Channel, Contract, EventType
from channelmap.diagnostics import Diagnostic, in_order
from channelmap.preflight import check_examples, check_handlers, import_consumers, with_subject

_EventTypeRule = Callable[[Channel, EventType], Iterator[Diagnostic]]
_DocumentRule = Callable[[SchemaDocument], Iterator[Diagnostic]]
_PartRule = Callable[[Part], Iterator[Diagnostic]]

_EVENT_TYPES: tuple[_EventTypeRule, ...] = (engines_disagree, schema_accepts_nothing, property_reserved)
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
    contract: Contract, channels: Iterable[str] = (), *, beside: Sequence[Contract] = (), imports: bool = True
) -> tuple[Diagnostic, ...]:
    """Find what is wrong with a contract that loads.

    The caller prepares the Python path for the import of consumers.

    Args:
        contract: the contract.
        channels: the names of the channels to check; empty for all, and for rules that compare channels.
        beside: other contracts, which may name the same files and consumers.
        imports: import the consumers, and check them and their handlers.

    Raises:
        UnknownChannel: the contract does not declare one of `channels`.

    """
    names = list(channels)
    chosen = contract.chosen(names)
    found = [*check_examples(chosen), *_event_types(chosen)]
    if imports:
        consumers, unusable = import_consumers(contract, chosen)
        found += [*unusable, *check_handlers(contract, chosen, consumers), *_retries(contract, chosen, consumers)]
        found += handler_unreached([contract, *beside], chosen, consumers)
    found += _schemas(contract, chosen)
    if not names:
        found += [*names_alike(contract), *file_unused(contract, beside), *layer_unusable(contract, imports=imports)]
    return in_order(found)


def _event_types(channels: list[Channel]) -> Iterator[Diagnostic]:
    for channel in channels:
        for event_type in channel.events.values():
            for rule in _EVENT_TYPES:
                yield from with_subject(rule(channel, event_type), channel.name, event_type.name)


def _retries(contract: Contract, channels: list[Channel], consumers: Mapping[str, type]) -> Iterator[Diagnostic]:
    for channel in channels:
        consumer = consumers.get(channel.consumer)
        if consumer is not None:
            for event_type in channel.events.values():
                location = contract.document.locate(("channels", channel.name, "events", event_type.name), key=True)
                found = handler_retry_at_most_once(consumer, channel, event_type, location)
                yield from with_subject(found, channel.name, event_type.name)


def _schemas(contract: Contract, channels: list[Channel]) -> Iterator[Diagnostic]:
    for document in schema_documents(contract, channels):
        found = [diagnostic for rule in _DOCUMENTS for diagnostic in rule(document)]
        for part in document.parts:
            found += [diagnostic for rule in _PARTS for diagnostic in rule(part)]
        yield from with_subject(found, document.channel, document.event_type.name)
