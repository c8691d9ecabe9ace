"""What an exception or a sender says at length is cut where it is kept, logged and listed."""

import asyncio
import io
import logging

import pytest

from channelmap import Worker
from channelmap.asgi import Receive, Scope, Send
from channelmap.cli.logs import JsonFormatter, TextFormatter
from channelmap.layer import DeadLetter, Delivery, letter_for
from channelmap.layers import open_layer

LONG = "x" * 5_000_000


def failed_with(text: str) -> DeadLetter:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise ValueError(text)

    async def main() -> DeadLetter:
        layer = open_layer("memory://")
        await layer.send("jobs", {"type": "job"})
        await Worker(application, ["jobs"], layer, burst=True).serve()
        (letter,) = await layer.dead_letters()
        return letter

    return asyncio.run(main())


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_the_text_of_an_exception_is_cut_in_letter_and_log(formatter: logging.Formatter) -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(formatter)
    logging.getLogger("channelmap").addHandler(handler)
    try:
        letter = failed_with(LONG)
    finally:
        logging.getLogger("channelmap").removeHandler(handler)

    assert letter.reason.startswith("ValueError: xxx")
    assert letter.reason.endswith(" more characters)")
    assert len(letter.reason) < 5_000
    assert letter.traceback.startswith("Traceback")
    assert len(letter.traceback) < 70_000
    assert "Traceback" in written.getvalue()
    assert len(written.getvalue()) < 80_000


def test_a_short_text_is_kept_whole() -> None:
    letter = failed_with("no such customer")

    assert letter.reason == "ValueError: no such customer"
    assert letter.traceback.endswith("ValueError: no such customer\n")


def test_violations_are_cut_one_by_one() -> None:
    letter = letter_for(Delivery("jobs", {"type": "job"}, b"", 0.0), "invalid", "no", ["short", LONG])

    assert letter.violations[0] == "short"
    assert len(letter.violations[1]) < 5_000
