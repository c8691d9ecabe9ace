"""Event ids for layers without ids of their own: 63-bit numbers, shown as 16 hexadecimal digits."""

import itertools
import secrets
from os import register_at_fork

_BITS = 63


def new_id() -> int:
    """Return a unique id: each process counts from a random number."""
    return next(_numbers)


def _seed() -> None:
    global _numbers  # noqa: PLW0603  (a forked child needs numbers of its own)
    # One bit less, so that counting does not overflow.
    _numbers = itertools.count(secrets.randbits(_BITS - 1) + 1)


_numbers: "itertools.count[int]"
_seed()
register_at_fork(after_in_child=_seed)
