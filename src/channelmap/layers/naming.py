"""Names of layers and texts of their errors, without passwords and without values of the environment."""

import re

from channelmap.environment import shown
from channelmap.errors import one_line

#: The scheme of a URL, with the slashes after it.
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?://)?")


def layer_name(url: str) -> str:
    """Return the name of the layer at a URL, for messages.

    Everything that may hold a password is removed: the text before the last `@`, and the query.
    """
    url = shown(url)
    match = SCHEME.match(url)
    scheme = match[0] if match else ""
    return scheme + url[len(scheme) :].rpartition("@")[2].partition("?")[0]


def in_words(error: Exception, *, quotes_errors: bool) -> str:
    """Describe an error of a library in one line; only by its class if the text may hold a value of the environment."""
    kind = type(error).__name__
    if quotes_errors:
        return f"{kind}: {one_line(str(error))}"
    return f"{kind}; its text is not shown, because it may hold a value of the environment"
