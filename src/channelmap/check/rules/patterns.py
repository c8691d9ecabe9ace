r"""Regular expressions that other tools refuse.

What JavaScript refuses (`\A`, possessive quantifiers, flags) is refused when the schema is loaded. What `\d`, `\w`,
`\s` and `$` mean differs in corners for which nobody writes them otherwise.
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
    """Find patterns that Python refuses."""
    for pattern, steps in _patterns(part):
        reason = _refusal(pattern)
        if reason:
            message = f"the regular expressions of Python, which other tools use, refuse {quoted(pattern)}: {reason}"
            hint = "write it so that Python and JavaScript read it alike"
            place = part.place(*steps, key=len(steps) > 1)
            yield Diagnostic(place, Code.PATTERN_AMBIGUOUS, message, hint)


def _patterns(part: Part) -> Iterator[tuple[str, Pointer]]:
    if "pattern" in part.schema:
        yield part.schema["pattern"], ("pattern",)
    for pattern in part.schema.get("patternProperties", {}):
        yield pattern, ("patternProperties", pattern)


def _refusal(pattern: str) -> str:
    try:
        with warnings.catch_warnings():
            # Of what a later Python may read otherwise.
            warnings.simplefilter("ignore")
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return str(error)
    return ""
