"""What the inboxes of one worker share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from channelmap.errors import ChannelUnsupported
from channelmap.layer import ChannelLayer
from channelmap.worker.flood_log import FloodLog
from channelmap.worker.layer_state import LayerState
from channelmap.worker.steps import Steps
from channelmap.worker.suspects import SuspectLock
from channelmap.worker.timing import Timing

if TYPE_CHECKING:
    import asyncio


@dataclass(frozen=True, slots=True)
class Shared:
    """What the inboxes of one worker share.

    Attributes:
        layer: an open layer.
        timing: durations, and the clock.
        steps: told of the steps of events.
        layer_state: whether the layer answers.
        flood_log: for log lines that may come in floods.
        suspect_lock: the lock of suspects.
        watch: called with a description of each background task, and the task.
        unsupported: called when the layer does not support a channel; its inbox then takes no more events.
        max_prefetch: maximum number of events per refill.
        burst: do not wait for further events.

    """

    layer: ChannelLayer
    timing: Timing
    steps: Steps
    layer_state: LayerState
    flood_log: FloodLog
    suspect_lock: SuspectLock
    watch: Callable[[str, "asyncio.Task[None]"], None]
    unsupported: Callable[[ChannelUnsupported], None]
    max_prefetch: int
    burst: bool
