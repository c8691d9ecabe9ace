"""Every delivery that a worker has taken from a channel and not yet settled, and what is being done with it.

Law: a delivery is in exactly one state from the take until the layer has settled, retried, buried or taken it back. So
the renewal of leases, the end of the worker and the count of lost events read one place, and miss no delivery.

The event loop's thread changes the ledger. Two others touch it: a handler's thread takes what is prefetched, and the
renewal reads it. Both rely on single steps of `deque` and `list` that no other thread can interrupt.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable

from channelmap.layer import DeadLetter, Delivery


class Place:
    """Holds the delivery that one instance of the application has: the current one."""

    __slots__ = ("current",)

    def __init__(self) -> None:
        self.current: Delivery | None = None


class Ledger:
    """The deliveries of one channel, by their state.

    Attributes:
        prefetched: taken and not begun; the oldest first.
        suspects: taken and not begun, each alone: a lease of the event ran out before.
        beginning: suspects that a slot has chosen, and that wait for their turn in this process.
        places: one for each slot, with the current delivery of its instance.
        settling: handled; the layer has not heard of it.
        retrying: failed, with the seconds after which each is to come again; the layer has not heard of it.
        dying: failed for good or rejected, with their dead letters, which the layer does not have yet; oldest first.
        returning: not begun, and on their way back to the layer.
        undeliverable: not handed out, because no key of the layer fits, or after too many attempts.

    """

    def __init__(self) -> None:
        self.prefetched: deque[Delivery] = deque()
        self.suspects: deque[Delivery] = deque()
        self.beginning: list[Delivery] = []
        self.places: list[Place] = []
        self.settling: list[Delivery] = []
        self.retrying: list[tuple[Delivery, float]] = []
        self.dying: list[tuple[Delivery, DeadLetter]] = []
        self.returning: list[Delivery] = []
        self.undeliverable: list[Delivery] = []
        #: The worker stops: no further delivery is begun, and prefetched ones are returned.
        self.closed = False

    def open_place(self) -> Place:
        """Make a place for a slot."""
        place = Place()
        self.places.append(place)
        return place

    def renew_place(self, place: Place) -> Place:
        """Make a slot's place for its next instance; threads of the last one may still read the old, empty place."""
        self.places.remove(place)
        return self.open_place()

    def close(self) -> None:
        """Let nothing more be begun."""
        self.closed = True
        self.returning += self.suspects
        self.suspects.clear()
        self.recall()

    def recall(self) -> None:
        """Turn what is prefetched into what is returning."""
        while self.prefetched:
            try:
                # One by one: a slot's thread may be taking from the same end.
                self.returning.append(self.prefetched.popleft())
            except IndexError:
                return

    def add(self, taken: Collection[Delivery]) -> None:
        """Enter what one take has brought and can be handed out: a suspect is alone."""
        if self.closed:
            self.returning += taken
        elif len(taken) == 1:
            (delivery,) = taken
            (self.suspects if delivery.suspect else self.prefetched).append(delivery)
        else:
            self.prefetched += taken

    def begin(self, place: Place, suspect: Delivery) -> None:
        """Turn a suspect that is beginning into a place's current delivery."""
        place.current = suspect
        self.beginning.remove(suspect)

    def put_off(self, suspect: Delivery) -> None:
        """Turn a suspect that is beginning into one that is not."""
        self.add([suspect])
        self.beginning.remove(suspect)

    def sort_out(self, is_fit: Callable[[Delivery], bool]) -> list[Delivery]:
        """Enter those undeliverable ones that can be handed out after all; return the others."""
        for delivery in filter(is_fit, self.undeliverable):
            self.add([delivery])
        self.undeliverable = [delivery for delivery in self.undeliverable if not is_fit(delivery)]
        return self.undeliverable

    def refuse_all(self) -> None:
        """Turn what is undeliverable into what is returning."""
        self.returning += self.undeliverable
        self.undeliverable = []

    def condemn(self, letters: Iterable[DeadLetter]) -> None:
        """Turn what is undeliverable into what is dying, each with its letter."""
        self.dying += zip(self.undeliverable, letters, strict=True)
        self.undeliverable = []

    def returned(self, deliveries: Collection[Delivery]) -> None:
        """Strike out what is back in the layer."""
        gone = set(deliveries)
        self.returning = [delivery for delivery in self.returning if delivery not in gone]

    def keep(self, deliveries: Collection[Delivery]) -> None:
        """Turn returning deliveries into prefetched ones: the layer did not take them back."""
        self.returned(deliveries)
        if self.closed:
            self.returning[:0] = deliveries
        else:
            self.prefetched.extendleft(reversed([*deliveries]))

    def held(self) -> list[Delivery]:
        """Return every delivery that the layer believes to be in this worker's hands."""
        # In the order in which a delivery moves on: one that moves meanwhile may be seen twice. Only one that is
        # recalled meanwhile may be missed, once, and a lease outlasts two missed renewals.
        held = [*self.undeliverable.copy(), *self.returning.copy(), *self.prefetched.copy()]
        held += [*self.suspects.copy(), *self.beginning.copy()]
        held += [current for place in self.places.copy() if (current := place.current) is not None]
        held += [delivery for delivery, _ in [*self.retrying.copy(), *self.dying.copy()]]
        return held + self.settling
