"""Ids of events for layers whose servers have none: numbers of 63 bits, shown as 16 hexadecimal digits."""

import itertools
import secrets
from os import register_at_fork

_BITS = 63


def new_id() -> int:
    """Return an id that no other event has: each process counts from a number that it draws."""
    return next(_numbers)


def _start() -> None:
    global _numbers  # noqa: PLW0603  (a child that a fork made needs numbers of its own)
    # One bit less: there is room to count.
    _numbers = itertools.count(secrets.randbits(_BITS - 1) + 1)


_numbers: "itertools.count[int]"
_start()
register_at_fork(after_in_child=_start)
