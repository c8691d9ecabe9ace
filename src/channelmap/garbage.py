"""Pause Python's garbage collector while many lasting objects are created."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """Disable the garbage collector in all threads, unless it is disabled already.

    A large contract has a few million objects. The collector would scan them repeatedly and free none. Reference
    counting continues.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
