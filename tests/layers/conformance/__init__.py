"""The conformance suite of layers: the test of a layer inherits the classes that apply to it, and implements `open`."""

from .batches import Batches
from .clocks import Clocks
from .dead_letters import DeadLetters
from .groups import Groups, Memberships
from .heartbeats import Heartbeats, KeptHeartbeats, Purges, States
from .identity import Identity
from .leases import Leases
from .limits import Capacity, Names
from .peeking import Peeking
from .queues import Queues
from .scheduled import Pauses, Scheduled
from .suite import Suite, event, letter, numbers, until_blocked
from .undeliverable import Undeliverable

__all__ = [
    "Everything", "Groups", "Heartbeats", "KeptHeartbeats", "Purges", "Queues", "States", "Suite", "event", "letter",
    "numbers", "until_blocked",
]  # fmt: skip


class Everything(
    Queues,
    Batches,
    Names,
    Capacity,
    Memberships,
    Identity,
    Leases,
    Clocks,
    DeadLetters,
    Peeking,
    Undeliverable,
    Scheduled,
    Pauses,
    Heartbeats,
    States,
    Purges,
):
    """The whole suite."""
