"""The consumers of the site: one in workers, and one for each open page."""

from typing import Any

from asgiref.sync import async_to_sync
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.core.files.base import ContentFile

from channelmap import Reject, SyncConsumer
from gallery.drawing import thumbnail_of
from gallery.models import Picture

#: The group of all open pages.
PAGES = "gallery.pages"


class Thumbnails(SyncConsumer):
    """Draws thumbnails in a worker; `channels.yaml` names this class."""

    def picture_uploaded(self, event: dict[str, Any]) -> None:
        """Draw the thumbnail of a picture, and tell all open pages."""
        picture = Picture.objects.filter(id=event["id"]).first()
        if picture is None:
            raise Reject("the picture is gone")
        if not picture.thumbnail:  # at-least-once: the event may come again
            with picture.original.open() as original:
                picture.thumbnail.save(f"{picture.id}.png", ContentFile(thumbnail_of(original)))
        async_to_sync(self.channel_layer.group_send)(PAGES, {"type": "picture.drawn", **picture.as_update()})


class Updates(AsyncJsonWebsocketConsumer):
    """Tells an open page which thumbnails are drawn."""

    async def connect(self) -> None:
        """Join the group first, so that no thumbnail is missed; then tell what is drawn already."""
        await self.accept()
        await self.channel_layer.group_add(PAGES, self.channel_name)
        async for picture in Picture.objects.exclude(thumbnail="").order_by("id"):
            await self.send_json(picture.as_update())

    async def picture_drawn(self, event: dict[str, Any]) -> None:
        """Pass on what a worker says."""
        await self.send_json({"id": event["id"], "thumbnail": event["thumbnail"]})

    async def disconnect(self, code: int) -> None:  # noqa: ARG002
        """Leave the group."""
        await self.channel_layer.group_discard(PAGES, self.channel_name)
