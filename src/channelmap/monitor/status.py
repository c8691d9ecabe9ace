"""The status of channels and workers, as JSON values; `channelmap status` and the monitor show it."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from channelmap.layer import ChannelLayer, Counts, WorkerInfo


async def status(layer: ChannelLayer, channels: Sequence[str]) -> dict[str, Any]:
    """Return the status of a layer and the workers on it, as `status.schema.json` describes.

    Args:
        layer: an open layer.
        channels: names of the channels to show.

    Raises:
        LayerError: the layer cannot count events.
        LayerUnavailable: the layer is unavailable.

    """
    counts, workers = await layer.counts(channels), await layer.workers()
    in_flight = {name: sum(worker.in_flight.get(name, 0) for worker in workers) for name in channels}
    return {
        "channels": {name: _channel(counts[name], in_flight[name]) for name in channels},
        "workers": [_worker(worker) for worker in workers],
        "layer": layer.url,
        "foreign_readers": await layer.foreign_readers(),
        "time": _time(time.time()),
    }


def _channel(counts: Counts, in_flight: int) -> dict[str, Any]:
    return {
        "waiting": counts.waiting,
        "scheduled": counts.scheduled,
        "leased": counts.leased,
        "in_flight": in_flight,
        "dead": dict(counts.dead),
        "oldest_seconds": None if counts.oldest is None else round(counts.oldest, 3),
        "paused": counts.paused,
        "totals": _nested(counts.totals),
    }


def _nested(totals: Mapping[str, int]) -> dict[str, Any]:
    """Return totals with one object for all that have a code: `rejected:CODE` becomes `{"rejected": {CODE: …}}`."""
    nested: dict[str, Any] = {"handled": 0, "failed": 0, "retried": 0, "redelivered": 0, "rejected": {}, "dead": {}}
    for name, count in totals.items():
        kind, _, code = name.partition(":")
        if code:
            nested.setdefault(kind, {})[code] = count
        else:
            nested[name] = count
    return nested


def _worker(worker: WorkerInfo) -> dict[str, Any]:
    return {
        "id": worker.id,
        "host": worker.host,
        "pid": worker.pid,
        "started": _time(worker.started),
        "seen_seconds": round(worker.seen, 3),
        "version": worker.version,
        "contract": worker.contract,
        "channels": [*worker.channels],
        "in_flight": sum(worker.in_flight.values()),
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
