"""Valid examples of events: those of the contract, or made from the schema."""

from copy import deepcopy
from typing import Any

from channelmap.asgi import Event
from channelmap.contract import Channel, EventType
from channelmap.errors import quoted
from channelmap.loader import load
from channelmap.sending import contract_file
from channelmap.testing.memory import current_contract


def event_for(channel: str, type: str, /, **fields: Any) -> Event:  # noqa: A002  (the event's word)
    """Return a valid event, the same one each time.

    It is the first of the examples under `accepts` that is valid with `fields`. If there is none, Hypothesis makes the
    simplest one from the schema.

    Args:
        channel: the channel's name.
        type: the event's type.
        fields: properties that replace those of the example.

    Raises:
        UnknownChannel: the contract declares no such channel.
        EventRejected: the channel declares no such type, or no example is valid with `fields`.
        ValueError: no valid event was found at all; an example under `accepts` helps.
        ModuleNotFoundError: Hypothesis is needed, and is not installed.

    """
    declared = (current_contract() or load(contract_file())).channel(channel)
    if type not in declared.events and (rejected := declared.judge({"type": type})):
        raise rejected
    for example in declared.events[type].accepts:
        event: Event = {**deepcopy(example.event), **fields}
        if declared.judge(event) is None:
            return event
    return _made(declared, declared.events[type], fields)


def _made(channel: Channel, event_type: EventType, fields: dict[str, Any]) -> Event:
    """Return an event that Hypothesis makes, with some properties replaced."""
    try:
        from channelmap.testing.generated import simplest
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        hint = "pip install 'channelmap[testing]', or add an example under 'accepts'"
        message = f"event_for() needs Hypothesis to make an event {quoted(event_type.name)}: {hint}"
        raise ModuleNotFoundError(message, name="hypothesis") from None
    event = simplest(channel, event_type, fields)
    if event is not None:
        return event
    base = simplest(channel, event_type, {})
    if base is None:
        raise ValueError(
            f"channel {quoted(channel.name)}: no valid event {quoted(event_type.name)} was found; "
            "add an example under 'accepts'"
        )
    rejected = channel.judge({**base, **fields})
    assert rejected is not None  # `simplest` has not accepted it
    raise rejected
