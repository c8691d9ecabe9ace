"""The meaning of a layer: its own test inherits the classes whose promise it keeps, and says how to open it."""

from .batches import Batches
from .clocks import Clocks
from .groups import Groups, Memberships
from .heartbeats import Heartbeats, KeptHeartbeats, Purges, States
from .identity import Identity
from .leases import Leases
from .letters import DeadLetters
from .limits import Capacity, Names
from .looks import Looks
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
    Looks,
    Undeliverable,
    Scheduled,
    Pauses,
    Heartbeats,
    States,
    Purges,
):
    """The whole promise."""
