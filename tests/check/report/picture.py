"""The picture of `channelmap check` in the documentation: what it shows."""

import sys
from pathlib import Path
from textwrap import dedent

from channelmap.check.report import Checked, Report, render
from channelmap.check.rules import check
from channelmap.loader import load
from tests.terminal_picture import DOCS

PICTURE = DOCS / "check.svg"
TITLE = "channelmap check, and what it says of two mistakes"

_CONTRACT = """\
    version: 1
    channels:
      thumbnails:
        consumer: consumers.ThumbnailConsumer
        events:
          image.uploaded:
            schema: {properties: {id: {type: integer}}, required: [id]}
            accepts: [{type: image.uploaded, id: "1"}]
          image.deletd: true
"""
_CONSUMER = """\
    from channelmap import AsyncConsumer


    class ThumbnailConsumer(AsyncConsumer):
        async def image_uploaded(self, event): ...

        async def image_deleted(self, event): ...
"""


def printed(project: Path) -> str:
    """Return what `channelmap check` prints about a small broken project, with the terminal's colours."""
    (project / "channels.yaml").write_text(dedent(_CONTRACT))
    (project / "consumers.py").write_text(dedent(_CONSUMER))
    sys.modules.pop("consumers", None)  # of another test
    contract = load()
    cases = tuple((channel.name, name) for channel in contract.channels.values() for name in channel.events)
    report = Report((Checked("channels.yaml", cases),), check(contract))
    assert {found.code for found in report.diagnostics} == {"accepts-refused", "handler-missing", "handler-unreached"}
    return "\x1b[1m$ channelmap check\x1b[0m\n" + render(report, "full", colour=True)
