"""The setting `CHANNELMAP`, a dict: `CONFIG` is the path of the contract file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from channelmap.errors import did_you_mean, quoted

_KEYS = frozenset({"CONFIG"})
_EXAMPLE = 'CHANNELMAP = {"CONFIG": BASE_DIR / "channels.yaml"}'


def contract_path() -> Path:
    """Return the path of the contract file.

    Raises:
        ImproperlyConfigured: the setting is missing or wrong.

    """
    setting: Any = getattr(settings, "CHANNELMAP", None)
    if setting is None:
        raise ImproperlyConfigured(f"the setting CHANNELMAP is missing; write {_EXAMPLE}")
    if not isinstance(setting, Mapping):
        raise ImproperlyConfigured(f"CHANNELMAP: expected a dict, got {type(setting).__name__}; write {_EXAMPLE}")
    for key in setting.keys() - _KEYS:
        hint = did_you_mean(str(key), _KEYS) or f"expected {_EXAMPLE}"
        raise ImproperlyConfigured(f"CHANNELMAP: unknown key {quoted(key)}; {hint}")
    path = setting.get("CONFIG")
    if not isinstance(path, str | Path) or not str(path):
        got = "nothing" if path is None else f"a value of type {quoted(type(path).__name__)}"
        raise ImproperlyConfigured(f"CHANNELMAP['CONFIG']: expected a path, got {got}; write {_EXAMPLE}")
    return Path(path)
