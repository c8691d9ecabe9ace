"""Text with values of environment variables; messages show the variable's name, never its value.

A variable may hold a password. So its value never reaches a message, a log or a `repr`.
"""

from typing import Any, Self


class FilledText(str):
    """Text that contains a value of the environment; `repr` and `shown` return `written` instead.

    `str`, f-strings and all other operations use the text itself.

    Args:
        text: the text with the value.
        written: the text as written in the file, with ``${NAME}``.

    """

    __slots__ = ("written",)

    written: str

    def __new__(cls, text: str, written: str) -> Self:
        """Create the text."""
        made = super().__new__(cls, text)
        made.written = written
        return made

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        """Support `copy` and `pickle`."""
        return str(self), self.written

    def __repr__(self) -> str:
        return repr(self.written)


def shown(value: object) -> str:
    """Return a value's text for a message.

    >>> shown(FilledText("s3cret", "${TOKEN}")), shown("public"), shown(5)
    ('${TOKEN}', 'public', '5')
    """
    return value.written if isinstance(value, FilledText) else str(value)


def derived(text: str, source: str) -> str:
    """Return text derived from `source`, which messages show as they show `source`."""
    return FilledText(text, source.written) if isinstance(source, FilledText) else text


def as_written(value: Any, written: str) -> Any:
    """Return a value read from a file; a text becomes `FilledText` with its written form."""
    return FilledText(value, written) if isinstance(value, str) else value
