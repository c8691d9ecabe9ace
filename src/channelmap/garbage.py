"""Pausing Python's garbage collector while many objects are made that are all kept."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """Keep the garbage collector from running, in all threads, unless the caller has stopped it already.

    A large contract is a few million objects. The collector would look at them again and again and find nothing to
    free. Reference counting goes on.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
