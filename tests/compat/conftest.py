"""The real Django and Channels, configured as small as they allow."""

import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["channels"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channelmap.layers.memory.MemoryChannelLayer"}},
)
django.setup()
