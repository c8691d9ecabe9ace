"""Text that came from the environment, and how messages show it: as it was written, never as it was filled in.

A variable may hold a password. So its value never reaches a message, a log or a `repr`, wherever it stands.
"""

from typing import Any, Self


class Filled(str):
    """Text with a value of the environment in it; to code it is the text, to people `written`.

    Only `repr` and `shown` know the difference: `str`, f-strings and everything else give the text itself.

    Args:
        text: the text, filled in.
        written: the same as it was written, with its ``${NAME}``.

    """

    __slots__ = ("written",)

    written: str

    def __new__(cls, text: str, written: str) -> Self:
        """Make one."""
        made = super().__new__(cls, text)
        made.written = written
        return made

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        """Survive `copy` and `pickle`."""
        return str(self), self.written

    def __repr__(self) -> str:
        return repr(self.written)


def shown(value: object) -> str:
    """Return a value's text for a message.

    >>> shown(Filled("s3cret", "${TOKEN}")), shown("public"), shown(5)
    ('${TOKEN}', 'public', '5')
    """
    return value.written if isinstance(value, Filled) else str(value)


def derived(text: str, source: str) -> str:
    """Return text that was made of another one: messages show it as they show that one."""
    return Filled(text, source.written) if isinstance(source, Filled) else text


def as_written(value: Any, written: str) -> Any:
    """Return a value read from a file; text is marked with how it was written."""
    return Filled(value, written) if isinstance(value, str) else value
