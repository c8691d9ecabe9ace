"""channelmap in a Django site.

Add the app and name the contract file in the settings:

    INSTALLED_APPS = ["channelmap.django", …]
    CHANNELMAP = {"CONFIG": BASE_DIR / "channels.yaml"}

The names here are loaded when they are first asked for, because Django imports this package before its apps are ready.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from channelmap.django.layers import ChannelLayer
    from channelmap.django.tasks import TaskBackend, TaskConsumer

__all__ = ["ChannelLayer", "TaskBackend", "TaskConsumer"]

_MODULES = {"ChannelLayer": "layers", "TaskBackend": "tasks", "TaskConsumer": "tasks"}


if not TYPE_CHECKING:  # A misspelt name must not pass a type checker.

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
