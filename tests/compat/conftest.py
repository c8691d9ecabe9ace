"""The real Django and Channels, with minimal settings."""

import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["channels"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channelmap.layers.memory.MemoryChannelLayer"}},
)
django.setup()
