"""Draws pictures, so that there is something to make thumbnails of."""

import colorsys
from pathlib import Path

from PIL import Image, ImageDraw

_SIZE = (960, 640)


def draw(path: Path, hue: float) -> None:
    """Draw a sun over hills in one colour and its neighbours; `hue` goes round from 0 to 1."""
    width, height = _SIZE
    picture = Image.new("RGB", _SIZE, _colour(hue, 0.25, 1.0))
    pen = ImageDraw.Draw(picture)
    pen.circle((width * 0.7, height * 0.35), height * 0.15, _colour(hue + 0.5, 0.5, 1.0))
    for number, middle in enumerate((0.2, 0.85, 0.5)):
        top = height * (0.5 + 0.12 * number)
        box = (width * (middle - 0.7), top, width * (middle + 0.7), top + 2 * height)
        pen.ellipse(box, _colour(hue + 0.06 * number, 0.6, 0.8 - 0.2 * number))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue % 1, saturation, value))
    return red, green, blue
