"""Generated events for a real handler, and the simplest event for which it raises."""

import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from hypothesis.errors import Flaky

from channelmap.asgi import Event
from channelmap.contract import Channel, Contract
from channelmap.errors import ChannelMapError, EventRejected, quoted, text_of
from channelmap.handling import Reject, Retry
from channelmap.imports import ImportProblem, uses_django
from channelmap.testing.draining import InProcessWorker
from channelmap.testing.generated import try_events
from channelmap.testing.memory import memory_layer

#: Packages between the test and a handler, whose lines are left out of a traceback.
_BETWEEN = frozenset(
    {"asgiref", "asyncio", "channelmap", "channels", "concurrent", "contextlib", "django", "hypothesis"}
)


class HandlerCrashed(ChannelMapError):
    """A handler has raised an exception for a generated event.

    Attributes:
        event: the simplest event for which it does.
        error: the exception.

    """

    def __init__(self, channel: str, event_type: str, event: Event, error: BaseException) -> None:
        self.event = event
        self.error = error
        # Formatted at once, because Hypothesis adds notes to the exception.
        trace = "".join(traceback.format_exception(type(error), error, _from_handler(error.__traceback__)))
        super().__init__(
            f"channel {quoted(channel)}: the handler of {quoted(event_type)} raised {text_of(error)}\n"
            f"simplest event: {json.dumps(event, ensure_ascii=False, default=repr)}\n\n{trace}"
        )


def fuzz(contract: Contract, channel: str, event_type: str, examples: int) -> None:
    """Have a handler handle generated events of one type, half of them valid and half nearly valid.

    The handler may raise `Retry` and `Reject`, and the gate may reject an event. What the handler sends is not handled.
    In a Django project each event has a transaction of its own, which is rolled back.

    Args:
        contract: the contract.
        channel: the channel's name.
        event_type: the event type.
        examples: number of events.

    Raises:
        HandlerCrashed: the handler has raised another exception.
        ImportProblem: the consumer cannot be imported.

    """
    declared = contract.channel(channel)
    crash: HandlerCrashed | None = None

    def attempt(event: Event) -> None:
        nonlocal crash
        try:
            _handle(contract, declared, event)
        except ImportProblem:
            raise
        except (Exception, SystemExit) as error:
            crash = HandlerCrashed(channel, event_type, event, error)
            raise

    try:
        try_events(declared, declared.events[event_type], examples, attempt)
    except (Exception, SystemExit) as error:
        if crash is None:
            raise
        if isinstance(error, Flaky):
            crash.add_note("The handler did not raise when it got the same event again: it depends on something else.")
        raise crash from None


def _handle(contract: Contract, channel: Channel, event: Event) -> None:
    """Have one event handled, in a layer of its own; raise what the handler raises in error."""
    rejected = channel.judge(event)
    if rejected is not None and rejected.code == "unsupported-value":
        return  # no layer carries it
    with memory_layer(contract) as layer, _rolled_back():
        layer.layer.send_sync(channel.name, event)
        try:
            InProcessWorker(layer).handle_one(channel.name)
        except (Retry, Reject):
            pass
        except EventRejected:
            # Otherwise it is the handler that has sent an invalid event.
            if rejected is None or channel.validate != "enforce":
                raise


@contextmanager
def _rolled_back() -> Iterator[None]:
    """Roll back what a handler does with the default database of a Django project."""
    if not uses_django():
        yield
        return
    from django.db import connection, transaction

    if connection.vendor == "unknown":  # no database is configured
        yield
        return
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def _from_handler(trace: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback that begins in the code of the project."""
    part = trace
    while part is not None and part.tb_frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        part = part.tb_next
    return part or trace
