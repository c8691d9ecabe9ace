"""For tests of code that sends events, and of consumers: a layer in memory, and a worker in the process of the test.

`memory_layer` replaces the layers of this process. pytest has the fixtures `channelmap_layer` and `channelmap_worker`,
unittest the class `MemoryLayerMixin`. Within them `sent_events` shows what was sent, and `drain` has it handled.
"""

from channelmap.testing.cases import MemoryLayerMixin
from channelmap.testing.draining import InProcessWorker, adrain, drain
from channelmap.testing.events import event_for
from channelmap.testing.memory import SentEvent, memory_layer, sent_events

__all__ = [
    "InProcessWorker",
    "MemoryLayerMixin",
    "SentEvent",
    "adrain",
    "drain",
    "event_for",
    "memory_layer",
    "sent_events",
]
