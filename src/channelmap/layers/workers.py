"""Workers as layers store them: as JSON, without what the layer itself knows."""

import json
from dataclasses import fields

from channelmap.layer import WorkerInfo

_WRITTEN = tuple(field.name for field in fields(WorkerInfo) if field.name != "seen")


def to_json(worker: WorkerInfo) -> str:
    """Return the stored form of a worker."""
    return json.dumps({name: getattr(worker, name) for name in _WRITTEN}, default=dict)


def from_json(text: str | bytes, seen: float) -> WorkerInfo:
    """Return a stored worker whose last heartbeat was `seen` seconds ago; ignore fields of later versions."""
    stored = json.loads(text)
    known = {name: stored[name] for name in _WRITTEN} | {"channels": tuple(stored["channels"])}
    return WorkerInfo(**known, seen=max(0.0, seen))
