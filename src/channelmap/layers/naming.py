"""What messages call a layer and its errors: without passwords, and without values of the environment."""

import re

from channelmap.environment import shown
from channelmap.errors import one_line

#: What stands before the rest of a URL, with as many of the slashes as there are.
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?://)?")


def layer_name(url: str) -> str:
    """Return what messages call the layer at a URL.

    Cut is whatever may be a password: what stands before the last `@`, for it may hold any character, and the query.
    """
    url = shown(url)
    match = SCHEME.match(url)
    scheme = match[0] if match else ""
    return scheme + url[len(scheme) :].rpartition("@")[2].partition("?")[0]


def in_words(error: Exception, *, quotes_errors: bool) -> str:
    """Say in one line what a library raised; only its class where its text may hold a value of the environment."""
    kind = type(error).__name__
    if quotes_errors:
        return f"{kind}: {one_line(str(error))}"
    return f"{kind}; its text is not shown, for it may hold a value of the environment"
