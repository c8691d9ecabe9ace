"""Ids of events: 12 bytes, shown as 24 hexadecimal digits."""

import itertools
import os

LENGTH = 12


def new_id() -> bytes:
    """Return an id that no other event has: each process counts from a random number of 95 bits."""
    return next(_numbers).to_bytes(LENGTH, "big")


def _start() -> None:
    global _numbers  # noqa: PLW0603  (a child that a fork made needs numbers of its own)
    _numbers = itertools.count(int.from_bytes(os.urandom(LENGTH), "big") >> 1)


_numbers: "itertools.count[int]"
_start()
os.register_at_fork(after_in_child=_start)
