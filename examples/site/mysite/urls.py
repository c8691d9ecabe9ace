"""The URLs of the site."""

from django.urls import path

from gallery.consumers import Updates
from gallery.views import index, thumbnail, upload

urlpatterns = [
    path("", index),
    path("upload", upload, name="upload"),
    path("thumbnails/<int:picture_id>.png", thumbnail, name="thumbnail"),
]
websocket_urlpatterns = [path("updates", Updates.as_asgi())]
