"""Draws thumbnails, and pictures for those who have none to upload."""

import random
from io import BytesIO
from typing import IO

from PIL import Image, ImageOps

_SIZE = (960, 640)
_THUMBNAIL_SIZE = (180, 120)


def thumbnail_of(original: IO[bytes]) -> bytes:
    """Return a picture in the size of a thumbnail, as PNG."""
    with Image.open(original) as picture:
        return _png(ImageOps.fit(picture.convert("RGB"), _THUMBNAIL_SIZE))


def draw() -> bytes:
    """Return a new picture: the Mandelbrot set in random colours, as PNG."""
    shape = ImageOps.equalize(Image.effect_mandelbrot(_SIZE, (-2.25, -1, 0.75, 1), 80))
    dark, middle, light = (f"hsl({random.randrange(360)}, 60%, {light}%)" for light in (15, 55, 90))  # noqa: S311
    return _png(ImageOps.colorize(shape, black=dark, mid=middle, white=light))


def _png(picture: Image.Image) -> bytes:
    file = BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
