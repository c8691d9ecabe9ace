"""The whole way of an event, shown with the real commands: `make run`.

Draws pictures, sends events for them into a SQLite layer, serves them, and shows what came out. Ends with an
error when anything is not as it should be.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

from channelmap.layers import open_layer
from examples.thumbnails.consumers import WIDTHS, media, thumbnail
from examples.thumbnails.draw import draw

ROOT = Path(__file__).parents[2]
PICTURES = (1, 2, 3)
GONE = 404
#: A worker's log entries, and what `PrintConsumer` prints, without the tracebacks below some entries.
_FIRST_LINES = re.compile(r"\d{4}-|Test: ")


class Unexpected(Exception):
    """Something came out otherwise than this program tells."""


def main() -> None:
    """Tell the story, one step after the other."""
    os.chdir(ROOT)
    build = Path(os.environ.get("THUMBNAILS_DEMO", "build/thumbnails")).resolve()
    shutil.rmtree(build, ignore_errors=True)
    os.environ["THUMBNAILS_MEDIA"] = str(build / "media")
    layer = os.environ["CHANNELMAP_LAYER"] = f"sqlite:///{build / 'channels.db'}"
    for name in ("CHANNELMAP_CONFIG", "DJANGO_SETTINGS_MODULE"):
        os.environ.pop(name, None)
    started = time.perf_counter()
    for step in (_draw_pictures, _check, _send, _send_as_others_do, _serve, _thumbnails, _dead_letters):
        step()
    print(f"\nAll as expected, in {time.perf_counter() - started:.1f} s.")
    print(f"The pictures are in {_short(build / 'media')}; the layer is {layer.replace(str(ROOT) + '/', '')}")


def _draw_pictures() -> None:
    _title("Three pictures are drawn: they stand for what users upload")
    for number in PICTURES:
        draw(media() / f"{number}.png", hue=number / len(PICTURES))
        print(f"  {_size(media() / f'{number}.png')}")
    # Picture 3 is taken back: it has thumbnails, which are to go.
    for width in WIDTHS:
        draw(thumbnail(3, width), hue=1)


def _check() -> None:
    _title("channels.yaml is checked: file, schemas, examples and consumers agree")
    _run("channelmap", "check")


def _send() -> None:
    _title("Events are sent; each is judged by its schema before it leaves")
    for number in (*PICTURES[:2], GONE):
        _run("channelmap", "send", "thumbnails-generate", _event("generate", id=number))
    _run("channelmap", "send", "thumbnails-delete", _event("delete", id=3))
    _run("channelmap", "send", "testing-print", _event("test.print", text="hello"))
    _title("A sender refuses what the schema refuses")
    out = _run("channelmap", "send", "thumbnails-generate", _event("generate", id="two"), code=1)
    _expect("schema-mismatch" in out, "the refusal says why")


def _send_as_others_do() -> None:
    _title("Two bad events come all the same, from a sender that does not look")
    layer = open_layer(os.environ["CHANNELMAP_LAYER"])
    for event in ({"type": "generate", "id": "two"}, {"type": "generrate", "id": 2}):
        print(f"  {event}")
        layer.send_sync("thumbnails-generate", event)


def _serve() -> None:
    _title("A worker serves what waits; the gate before each consumer judges again")
    out = _run("runworker", "--config", "channels.yaml", "--burst", shown=_FIRST_LINES)
    _expect("Test: hello" in out, "PrintConsumer has printed")


def _thumbnails() -> None:
    _title("What came out: thumbnails")
    made = sorted(thumbnail(1, 64).parent.iterdir())
    for path in made:
        print(f"  {_size(path)}")
    expected = sorted(thumbnail(number, width) for number in PICTURES[:2] for width in WIDTHS)
    _expect(made == expected, "pictures 1 and 2 have thumbnails, picture 3 has none left")
    for path in made:
        with Image.open(path) as picture:
            _expect(path.stem.endswith(f"-{picture.width}"), f"{path.name} is as wide as its name says")


def _dead_letters() -> None:
    _title("What came out: dead letters, each with its reason")
    out = _run("channelmap", "dead", "list")
    codes = sorted(line.split("\t")[3] for line in out.splitlines())
    _expect(codes == ["failed", "invalid", "unroutable"], "there is one dead letter for each bad event")


def _run(*command: str, code: int = 0, shown: re.Pattern[str] = re.compile("")) -> str:
    """Show a command, run it, show what it prints, and return that.

    Args:
        command: `channelmap` or `runworker` with arguments.
        code: the exit code that it must have.
        shown: how lines begin that are shown; all are when something went wrong.

    """
    print(f"  $ {shlex.join(command)}", flush=True)
    arguments = command[1:] if command[0] == "channelmap" else command
    # What the console script of that name does, with the interpreter that runs this.
    done = subprocess.run(
        [sys.executable, "-u", "-m", "channelmap", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    as_expected = done.returncode == code
    for line in done.stdout.splitlines():
        if shown.match(line) or not as_expected:
            print(f"    {line.replace(f'{ROOT}/', '')}")
    if not as_expected:
        raise Unexpected(f"exit code {code} was expected, {done.returncode} came")
    return done.stdout


def _event(event_type: str, **values: Any) -> str:
    return json.dumps({"type": event_type, **values})


def _expect(true: bool, what: str) -> None:  # noqa: FBT001
    if not true:
        raise Unexpected(f"expected that {what}")


def _title(text: str) -> None:
    print(f"\n{text}")


def _size(path: Path) -> str:
    with Image.open(path) as picture:
        return f"{_short(path)}  {picture.width}x{picture.height}"


def _short(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


if __name__ == "__main__":
    try:
        main()
    except Unexpected as error:
        sys.exit(f"\nmake run: {error}")
