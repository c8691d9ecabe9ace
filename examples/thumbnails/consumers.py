"""What is done with the events of `channels.yaml`: one class a channel, one method an event type."""

import os
from pathlib import Path
from typing import Any

from PIL import Image

from channelmap import AsyncConsumer, SyncConsumer

#: How wide thumbnails are, in pixels.
WIDTHS = (64, 256)


def media() -> Path:
    """Say where the pictures are: in `$THUMBNAILS_MEDIA`, or in `media` below the working directory."""
    return Path(os.environ.get("THUMBNAILS_MEDIA", "media"))


def thumbnail(picture: int, width: int) -> Path:
    """Say where a picture's thumbnail of that width is."""
    return media() / "thumbnails" / f"{picture}-{width}.png"


class GenerateConsumer(SyncConsumer):
    """Draws the thumbnails of a picture, `<media>/<id>.png`."""

    def generate(self, event: dict[str, Any]) -> None:
        """Draw one thumbnail for each width; FileNotFoundError when the picture is not there."""
        with Image.open(media() / f"{event['id']}.png") as picture:
            for width in WIDTHS:
                path = thumbnail(event["id"], width)
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.resize((width, max(1, picture.height * width // picture.width))).save(path)


class DeleteConsumer(SyncConsumer):
    """Deletes the thumbnails of a picture."""

    def delete(self, event: dict[str, Any]) -> None:
        """Delete what there is; that there is nothing is no failure."""
        for width in WIDTHS:
            thumbnail(event["id"], width).unlink(missing_ok=True)


class PrintConsumer(AsyncConsumer):
    """Prints what it gets, as in the documentation of Django Channels."""

    async def test_print(self, event: dict[str, Any]) -> None:
        """Print the text."""
        print(f"Test: {event['text']}", flush=True)
