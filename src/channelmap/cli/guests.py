"""Isolation of consumers in a check: they may print, read stdin, start threads, and share module names."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import TextIO

from channelmap.cli.options import prepare_imports
from channelmap.contract import Contract


@contextmanager
def own_stdout() -> Iterator[TextIO]:
    """Reserve stdout for a report, and make stdin empty, so that no code waits for input.

    All other output to stdout goes to stderr, also that of threads, C code and child processes, until the process
    ends.
    """
    if sys.stdout is not sys.__stdout__:
        # The caller has replaced stdout, so leave the file descriptors alone.
        stdout = sys.stdout
        with redirect_stdout(sys.stderr):
            yield stdout
        return
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if sys.stdout:
        sys.stdout.flush()
    # Closed streams are None, and other files may have got their numbers.
    kept = os.dup(1) if sys.stdout else os.open(os.devnull, os.O_WRONLY)
    os.dup2(2 if sys.stderr else os.open(os.devnull, os.O_WRONLY), 1)
    encoding = sys.stdout.encoding if sys.stdout else "utf-8"
    with open(kept, "w", encoding=encoding, errors="backslashreplace") as stdout, redirect_stdout(sys.stderr):  # noqa: PTH123
        yield stdout


@contextmanager
def importable(contract: Contract) -> Iterator[None]:
    """Make the consumers of a contract importable; at the end, unload the modules beside the contract.

    Modules beside the next contract may have the same names. Modules of the working directory are shared.
    """
    path, known = sys.path[:], set(sys.modules)
    prepare_imports(contract.path)
    yield
    sys.path[:] = path
    root = contract.root.resolve()
    if root != Path.cwd():
        new = {name: module for name, module in [*sys.modules.items()] if name not in known}
        beside = {name for name, module in new.items() if "." not in name and _directory(module) == root}
        for name in new:
            if name.partition(".")[0] in beside:
                sys.modules.pop(name, None)


def _directory(module: ModuleType) -> Path | None:
    """Return the directory of `sys.path` in which a module was found; None if it has no file."""
    # Not by attribute: attributes of a lazily imported module may have any value, and may raise.
    names = vars(module)
    places = [*names.get("__path__", ()), names.get("__file__")]
    return Path(places[0]).resolve().parent if places[0] else None
