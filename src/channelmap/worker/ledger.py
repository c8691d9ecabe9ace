"""The deliveries that a worker has taken from a channel and not yet settled, by state.

Invariant: a delivery is in exactly one state from the take until the layer has settled, retried, buried or taken it
back. So lease renewal, shutdown and the count of lost events read one list, and miss no delivery.

The event loop's thread changes the ledger. Two other threads access it: a handler's thread takes prefetched events,
and the renewal reads all states. Both rely on atomic operations of `deque` and `list`.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable

from channelmap.layer import DeadLetter, Delivery


class Holder:
    """Holds the current delivery of one instance of the application."""

    __slots__ = ("current", "timed_out")

    def __init__(self) -> None:
        self.current: Delivery | None = None
        #: The handler of the current delivery was cancelled because it took too long.
        self.timed_out = False


class Ledger:
    """The deliveries of one channel, by their state.

    Attributes:
        prefetched: taken and unstarted; oldest first.
        suspects: taken and unstarted, one per take; a previous lease of the event expired.
        starting: suspects assigned to a slot, waiting for the suspect lock of this process.
        holders: one per slot, with the current delivery of its instance.
        settling: handled, not yet settled in the layer.
        retrying: failed, not yet scheduled for a retry in the layer, with the delay in seconds.
        burying: rejected or finally failed, with dead letters that the layer does not have yet; oldest first.
        returning: unstarted, being returned to the layer.
        undeliverable: unreadable, undecryptable or out of attempts, so never handed to a handler.

    """

    def __init__(self) -> None:
        self.prefetched: deque[Delivery] = deque()
        self.suspects: deque[Delivery] = deque()
        self.starting: list[Delivery] = []
        self.holders: list[Holder] = []
        self.settling: list[Delivery] = []
        self.retrying: list[tuple[Delivery, float]] = []
        self.burying: list[tuple[Delivery, DeadLetter]] = []
        self.returning: list[Delivery] = []
        self.undeliverable: list[Delivery] = []
        #: The worker stops: no further delivery is started, and prefetched ones are returned.
        self.closed = False

    def new_holder(self) -> Holder:
        """Return a new holder for a slot."""
        holder = Holder()
        self.holders.append(holder)
        return holder

    def replace_holder(self, holder: Holder) -> Holder:
        """Return a new holder for the next instance; threads of the previous one may still read the old one."""
        self.holders.remove(holder)
        return self.new_holder()

    def close(self) -> None:
        """Start no further delivery, and move all unstarted ones to returning."""
        self.closed = True
        self.returning += self.suspects
        self.suspects.clear()
        self.return_prefetched()

    def return_prefetched(self) -> None:
        """Move prefetched deliveries to returning."""
        while self.prefetched:
            try:
                # One by one: a handler's thread may take from the same end at the same time.
                self.returning.append(self.prefetched.popleft())
            except IndexError:
                return

    def add(self, taken: Collection[Delivery]) -> None:
        """Add the deliveries of one take; a suspect is always the only one."""
        if self.closed:
            self.returning += taken
        elif len(taken) == 1:
            (delivery,) = taken
            (self.suspects if delivery.suspect else self.prefetched).append(delivery)
        else:
            self.prefetched += taken

    def start_suspect(self, holder: Holder, suspect: Delivery) -> None:
        """Make a starting suspect the current delivery of a holder."""
        holder.current = suspect
        self.starting.remove(suspect)

    def requeue_suspect(self, suspect: Delivery) -> None:
        """Move a starting suspect back to the unstarted ones."""
        self.add([suspect])
        self.starting.remove(suspect)

    def requeue_deliverable(self, is_deliverable: Callable[[Delivery], bool]) -> list[Delivery]:
        """Add undeliverable deliveries that can be handled after all; return the others."""
        for delivery in filter(is_deliverable, self.undeliverable):
            self.add([delivery])
        self.undeliverable = [delivery for delivery in self.undeliverable if not is_deliverable(delivery)]
        return self.undeliverable

    def return_undeliverable(self) -> None:
        """Move undeliverable deliveries to returning."""
        self.returning += self.undeliverable
        self.undeliverable = []

    def bury_undeliverable(self, letters: Iterable[DeadLetter]) -> None:
        """Move undeliverable deliveries to burying, each with its dead letter."""
        self.burying += zip(self.undeliverable, letters, strict=True)
        self.undeliverable = []

    def returned(self, deliveries: Collection[Delivery]) -> None:
        """Remove deliveries that the layer has taken back."""
        gone = set(deliveries)
        self.returning = [delivery for delivery in self.returning if delivery not in gone]

    def undo_return(self, deliveries: Collection[Delivery]) -> None:
        """Move returning deliveries back to prefetched, because the layer did not take them."""
        self.returned(deliveries)
        if self.closed:
            self.returning[:0] = deliveries
        else:
            self.prefetched.extendleft(reversed([*deliveries]))

    def unsettled(self) -> list[Delivery]:
        """Return every delivery that the layer has not settled, retried, buried or taken back."""
        # Read in the order of the transitions: a delivery that moves meanwhile may be listed twice. A delivery that
        # moves to returning meanwhile may be missed, once, and a lease outlasts two missed renewals.
        unsettled = [*self.undeliverable.copy(), *self.returning.copy(), *self.prefetched.copy()]
        unsettled += [*self.suspects.copy(), *self.starting.copy()]
        unsettled += [current for holder in self.holders.copy() if (current := holder.current) is not None]
        unsettled += [delivery for delivery, _ in [*self.retrying.copy(), *self.burying.copy()]]
        return unsettled + self.settling
