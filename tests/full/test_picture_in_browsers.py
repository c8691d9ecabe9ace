"""The picture of `channelmap check`, as real browsers draw it."""

import json
import queue
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.check.report.picture import PICTURE, printed
from tests.full.programs import CHROMIUM_ARGUMENTS, find
from tests.terminal_picture import CELL, LINE, MARGIN, SIZE, characters, drawn

pytestmark = pytest.mark.full

#: The arguments of each browser; `PROFILE` is an empty directory.
BROWSERS = {
    "chromium": (*CHROMIUM_ARGUMENTS, "--user-data-dir=PROFILE"),
    "firefox": ("--headless", "--no-remote", "--profile", "PROFILE"),
}
#: A page that shows the picture and sends back each character with the position at which it is drawn.
PAGE = """\
<!doctype html>
<object id="picture" data="check.svg" type="image/svg+xml"></object>
<script>
addEventListener("load", () => {
  const drawn = [];
  for (const element of document.getElementById("picture").contentDocument.querySelectorAll("text")) {
    const text = element.textContent;
    for (let index = 0; index < element.getNumberOfChars(); index++) {
      const {x, y} = element.getStartPositionOfChar(index);
      drawn.push([x, y, text[index]]);
    }
  }
  fetch("positions", {method: "POST", body: JSON.stringify(drawn)});
});
</script>
"""


@contextmanager
def serving(picture: str) -> Iterator[tuple[str, "queue.Queue[Any]"]]:
    """Serve the page with a picture; yield its address, and the queue of what comes back."""
    answers: queue.Queue[Any] = queue.Queue()
    files = {"/": ("text/html", PAGE), "/check.svg": ("image/svg+xml", picture)}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, text = files.get(self.path, ("", ""))
            self.send_response(200 if text else 404)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.end_headers()
            self.wfile.write(text.encode())

        def do_POST(self) -> None:
            answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class calls it so)
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", answers
        server.shutdown()
        thread.join()


def positions(browser: str, picture: str, profile: Path) -> dict[tuple[float, float], str]:
    """Return the characters that a browser draws, by line and column; no spaces."""
    arguments = [argument.replace("PROFILE", str(profile)) for argument in BROWSERS[browser]]
    found = find(browser)
    with serving(picture) as (address, answers):
        command = [found, *arguments, address]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                drawn = answers.get(timeout=60)
            finally:
                process.terminate()
    return {
        (round((y - MARGIN - SIZE) / LINE, 1), round((x - MARGIN) / CELL, 1)): character
        for x, y, character in drawn
        if not character.isspace()
    }


@pytest.mark.parametrize("browser", BROWSERS)
def test_a_browser_draws_every_character_where_the_terminal_shows_it(
    project: Path, tmp_path_factory: pytest.TempPathFactory, browser: str
) -> None:
    shown = positions(browser, PICTURE.read_text(encoding="utf-8"), tmp_path_factory.mktemp("profile"))

    assert shown == characters(printed(project))


@pytest.mark.parametrize("browser", BROWSERS)
def test_a_browser_collapses_no_spaces(tmp_path_factory: pytest.TempPathFactory, browser: str) -> None:
    text = "     |   ^^^\n\na  \x1b[1;31m  b\x1b[0m   c\n  <&>  \"'  é│é"

    assert positions(browser, drawn(text, "a < b"), tmp_path_factory.mktemp("profile")) == characters(text)
