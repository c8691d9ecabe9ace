"""Decide about colours and other escape codes, by the rules of rich: $NO_COLOR, $FORCE_COLOR and $TERM."""

import os
from typing import TextIO


def is_colourful(stream: TextIO | None) -> bool:
    """Return whether to write escape codes to a stream; a closed standard stream is None."""
    if stream is None or os.environ.get("NO_COLOR") or os.environ.get("TERM", "").lower() in {"dumb", "unknown"}:
        return False
    forced = os.environ.get("FORCE_COLOR")
    return stream.isatty() if forced is None else forced != ""
