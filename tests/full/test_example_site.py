"""The example site, started as `make site` does, in a real browser. With RENEW=1, the picture in docs is taken anew."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from examples.thumbnails.draw import draw
from tests.full.programs import CHROMIUM_ARGUMENTS, find
from tests.layers.redis_servers import free_port

pytestmark = pytest.mark.full

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "site.png"
#: The widths of the thumbnails that are drawn on the page.
WIDTHS = "return [...document.images].map(image => image.naturalWidth)"

Wait = Callable[..., None]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = find("chromium")
    for argument in (*CHROMIUM_ARGUMENTS, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=660,500"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, Service(find("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def site(start: Callable[..., Any], wait_until: Wait) -> Iterator[str]:
    """The address of the site; at the end, Ctrl-C ends its processes, and nothing is left."""
    port = free_port()
    with TemporaryDirectory() as directory:
        process = start(str(ROOT / "examples/site/run.py"), str(port), command=(), TMPDIR=directory)
        wait_until(lambda: process.lines or process.popen.poll() is not None, "the site", timeout=60)
        address = f"http://127.0.0.1:{port}/"
        assert process.lines == [f"The site is at {address} (Ctrl-C ends it)\n"], process.errors
        children = Path(f"/proc/{process.popen.pid}/task/{process.popen.pid}/children").read_text().split()
        assert len(children) == 3
        yield address
        process.signal(signal.SIGINT)
        assert process.wait() == 0
        assert "Traceback" not in process.errors
        assert "Warning" not in process.errors
        assert not [pid for pid in children if Path("/proc", pid).exists()]
        assert not [*Path(directory).iterdir()]


def upload(browser: webdriver.Chrome, path: Path) -> None:
    browser.find_element(By.NAME, "original").send_keys(str(path))
    browser.find_element(By.XPATH, "//button[text()='Upload']").click()


def test_a_thumbnail_appears_on_every_open_page_without_a_reload(
    browser: webdriver.Chrome, site: str, tmp_path: Path, wait_until: Wait
) -> None:
    pages = []
    for number in range(2):
        if number:
            browser.switch_to.new_window("tab")
        browser.get(site)
        browser.execute_script("window.loaded = 'once'")
        pages.append(browser.current_window_handle)
    draw(tmp_path / "hills.png", hue=0.25)

    upload(browser, tmp_path / "hills.png")

    for page in reversed(pages):
        browser.switch_to.window(page)
        wait_until(lambda: browser.execute_script(WIDTHS) == [180], "the thumbnail")
        assert browser.execute_script("return window.loaded") == "once"

    for number in range(2, 4):
        browser.find_element(By.NAME, "draw").click()
        wait_until(lambda number=number: browser.execute_script(WIDTHS) == [180] * number, "a thumbnail")
    taken = PICTURE if os.environ.get("RENEW") else tmp_path / "site.png"
    assert browser.save_screenshot(str(taken))
    with Image.open(taken) as picture:
        assert len(picture.convert("RGB").getcolors(10**6) or []) > 100
    assert taken.stat().st_size < 60_000


def test_a_file_that_is_not_a_picture_is_refused_with_the_reason(
    browser: webdriver.Chrome, site: str, tmp_path: Path, wait_until: Wait
) -> None:
    (tmp_path / "letter.png").write_text("Dear Ada")
    browser.get(site)

    upload(browser, tmp_path / "letter.png")

    wait_until(lambda: "not an image" in browser.find_element(By.CSS_SELECTOR, "[role=alert]").text, "the reason")
    assert browser.find_elements(By.TAG_NAME, "li") == []
