r"""Find regular expressions that other tools reject.

Loading a schema already rejects syntax that JavaScript lacks (`\A`, possessive quantifiers, flags). The small
differences in the meaning of `\d`, `\w`, `\s` and `$` are not reported.
"""

import re
import warnings
from collections.abc import Iterator

from channelmap.check.rules.documents import Part
from channelmap.codes import Code
from channelmap.diagnostics import Diagnostic
from channelmap.errors import quoted
from channelmap.pointers import Pointer


def pattern_ambiguous(part: Part) -> Iterator[Diagnostic]:
    """Find patterns that are not valid in Python."""
    for pattern, steps in _patterns(part):
        reason = _refusal(pattern)
        if reason:
            message = f"the regular expressions of Python, which other tools use, refuse {quoted(pattern)}: {reason}"
            hint = "write it so that Python and JavaScript read it alike"
            location = part.locate(*steps, key=len(steps) > 1)
            yield Diagnostic(location, Code.PATTERN_AMBIGUOUS, message, hint)


def _patterns(part: Part) -> Iterator[tuple[str, Pointer]]:
    if "pattern" in part.schema:
        yield part.schema["pattern"], ("pattern",)
    for pattern in part.schema.get("patternProperties", {}):
        yield pattern, ("patternProperties", pattern)


def _refusal(pattern: str) -> str:
    try:
        with warnings.catch_warnings():
            # Such as one about syntax whose meaning may change in a later Python.
            warnings.simplefilter("ignore")
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return str(error)
    return ""
