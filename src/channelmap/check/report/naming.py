"""How services name files, and know a finding again."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from channelmap.diagnostics import Diagnostic

#: Some messages name a second line of the file, which moves as the first does.
_LINE_NUMBERS = re.compile(r"\d*:\d+")


def seen_from(top: str, path: str) -> str:
    """Name a file as seen from a directory, with forward slashes: relative when it is below, else absolute."""
    full = os.path.abspath(path)  # noqa: PTH100  (`absolute` leaves `..` in)
    relative = os.path.relpath(full, top or None)
    below = relative != os.pardir and not relative.startswith(os.pardir + os.sep)
    return Path(relative if below else full).as_posix()


def fingerprints(top: str, diagnostics: Iterable[Diagnostic]) -> Iterator[str]:
    """Make a name for each finding, unique below `top`, that stays the same when lines are added above it."""
    seen: Counter[tuple[str, ...]] = Counter()
    for found in diagnostics:
        message = _LINE_NUMBERS.sub(":", found.message)
        key = (found.code, seen_from(top, found.location.path), found.channel, found.event_type, message)
        seen[key] += 1
        yield hashlib.sha256(repr((*key, seen[key])).encode()).hexdigest()
