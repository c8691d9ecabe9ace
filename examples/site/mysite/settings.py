"""Settings of the example site. `make site` sets $SITE_DATA and $SITE_LAYER."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("SITE_DATA", BASE_DIR.parents[1] / "build" / "site"))

DEBUG = True  # errors are shown, and requests to localhost are allowed
SECRET_KEY = "only for this example"  # noqa: S105
INSTALLED_APPS = ["channelmap.django", "channels", "gallery"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
ROOT_URLCONF = "mysite.urls"
ASGI_APPLICATION = "mysite.asgi.application"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA / "site.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
MEDIA_ROOT = DATA / "media"
USE_TZ = True

# The contract says which consumer takes the events of a channel, and what they look like.
CHANNELMAP = {"CONFIG": BASE_DIR / "channels.yaml"}
# The layer of views, WebSockets and workers. It sends no event that the contract rejects.
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channelmap.django.ChannelLayer",
        "CONFIG": {"url": os.environ.get("SITE_LAYER", "redis://localhost:6379/0")},
    },
}
