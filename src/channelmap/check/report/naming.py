"""Names of files and fingerprints of findings, for services."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from channelmap.diagnostics import Diagnostic

#: Line numbers in messages, which change when lines are added above.
_LINE_NUMBERS = re.compile(r"\d*:\d+")


def relative_to(top: str, path: str) -> str:
    """Return a path with forward slashes: relative to `top` if the file is below it, otherwise absolute."""
    full = os.path.abspath(path)  # noqa: PTH100  (`absolute` leaves `..` in)
    relative = os.path.relpath(full, top or None)
    below = relative != os.pardir and not relative.startswith(os.pardir + os.sep)
    return Path(relative if below else full).as_posix()


def fingerprints(top: str, diagnostics: Iterable[Diagnostic]) -> Iterator[str]:
    """Yield a fingerprint for each finding, unique below `top`; it does not change when lines are added above."""
    seen: Counter[tuple[str, ...]] = Counter()
    for found in diagnostics:
        message = _LINE_NUMBERS.sub(":", found.message)
        key = (found.code, relative_to(top, found.location.path), found.channel, found.event_type, message)
        seen[key] += 1
        yield hashlib.sha256(repr((*key, seen[key])).encode()).hexdigest()
