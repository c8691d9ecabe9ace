"""The one model of the site."""

from django.db import models
from django.urls import reverse


class Picture(models.Model):
    """An uploaded picture. It has no thumbnail until a worker has drawn one."""

    original = models.ImageField(upload_to="originals")
    thumbnail = models.ImageField(upload_to="thumbnails", blank=True)

    def __str__(self) -> str:
        return f"picture {self.id}"

    def as_update(self) -> dict[str, str | int | None]:
        """Return what an open page is told: the id, and the URL of the thumbnail once it is drawn."""
        return {"id": self.id, "thumbnail": reverse("thumbnail", args=[self.id]) if self.thumbnail else None}
