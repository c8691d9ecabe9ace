"""The rules that can keep a worker from starting, applied by `runworker` before it serves and by `channelmap check`.

They are about examples, consumers and handlers; consumers are imported, through `imports`. The rules that only
`channelmap check` applies are in `check/rules`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from channelmap.contract import Channel, Contract
from channelmap.diagnostics import Diagnostic, in_order
from channelmap.preflight.consumers import consumer_of
from channelmap.preflight.examples import accepts_refused, rejects_accepted
from channelmap.preflight.handlers import handler_faults


def preflight(contract: Contract, channels: Iterable[str] = ()) -> tuple[Diagnostic, ...]:
    """Return the faults because of which a worker cannot serve a contract.

    The caller must make the consumers importable, for example with `imports.prepare_imports`.

    Args:
        contract: the contract.
        channels: the names of the channels that the worker would serve; empty for all.

    Raises:
        UnknownChannel: the contract does not declare one of `channels`.

    """
    chosen = contract.chosen(channels)
    consumers, found = import_consumers(contract, chosen)
    return in_order([*check_examples(chosen), *found, *check_handlers(contract, chosen, consumers)])


def check_examples(channels: Iterable[Channel]) -> Iterator[Diagnostic]:
    """Yield `accepts` examples that their channel rejects, and `rejects` examples that it accepts."""
    for channel in channels:
        for event_type in channel.events.values():
            for rule in (accepts_refused, rejects_accepted):
                yield from with_subject(rule(channel, event_type), channel.name, event_type.name)


def import_consumers(contract: Contract, channels: Iterable[Channel]) -> tuple[dict[str, type], list[Diagnostic]]:
    """Import the consumers of channels; return the classes by dotted path, and the faults of the others."""
    consumers: dict[str, type] = {}
    findings: list[Diagnostic] = []
    for channel in channels:
        consumer, found = consumer_of(channel, contract.document.locate(("channels", channel.name, "consumer")))
        findings += with_subject(found, channel.name)
        if consumer is not None:
            consumers[channel.consumer] = consumer
    return consumers, findings


def check_handlers(
    contract: Contract, channels: Iterable[Channel], consumers: Mapping[str, type]
) -> Iterator[Diagnostic]:
    """Yield the handlers that are missing or cannot be called; `consumers` are the classes by dotted path."""
    for channel in channels:
        consumer = consumers.get(channel.consumer)
        if consumer is not None:
            for event_type in channel.events.values():
                location = contract.document.locate(("channels", channel.name, "events", event_type.name), key=True)
                yield from with_subject(handler_faults(consumer, event_type, location), channel.name, event_type.name)


def with_subject(found: Iterable[Diagnostic], channel: str, event_type: str = "") -> Iterator[Diagnostic]:
    """Yield copies of diagnostics with the channel and the event type that they are about."""
    for diagnostic in found:
        yield replace(diagnostic, channel=channel, event_type=event_type)
