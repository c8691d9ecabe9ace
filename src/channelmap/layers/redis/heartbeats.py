"""Heartbeats of workers: the totals of channels, and the list of workers that each host has."""

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any

from channelmap.layer import NUMBER_KEPT_SECS, WORKER_TIMEOUT_SECS, WorkerInfo
from channelmap.layers.redis.client import ConnectionPool
from channelmap.layers.redis.keys import totals_of
from channelmap.layers.redis.queues import Queues, in_batches
from channelmap.layers.redis.scripts import ADD_TOTALS, LIST_WORKER, WORKERS
from channelmap.layers.workers import from_json, to_json


class Heartbeats:
    """The heartbeats of a layer; each method raises as `ConnectionPool.run`.

    Args:
        queues: where the keys are.

    """

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    async def add(
        self,
        pool: ConnectionPool,
        worker: WorkerInfo,
        totals: Mapping[str, Mapping[str, int]],
        number: int,
        *,
        last: bool,
    ) -> None:
        """Add to the totals of channels, and list the worker on each host, or remove it there.

        When a host fails, the others still have their part.
        """
        written = "" if last else to_json(worker)
        calls = [
            pool.run(topology, LIST_WORKER, self._queues.workers(topology), worker.id, written, WORKER_TIMEOUT_SECS)
            for topology in self._queues.topologies
        ]
        added = [(self._queues.home(channel), some) for channel, some in totals.items() if some]
        for topology, batch in in_batches(added):
            keys = [totals_of(key) for key, _ in batch]
            increments = [part for _, some in batch for part in (len(some), *itertools.chain(*some.items()))]
            calls.append(pool.run(topology, ADD_TOTALS, keys, worker.id, number, NUMBER_KEPT_SECS, *increments))
        _answered(await asyncio.gather(*calls, return_exceptions=True), at_least=len(calls))

    async def workers(self, pool: ConnectionPool) -> list[WorkerInfo]:
        """Return the workers that are alive, by start time. Each host lists all, so one that answers is enough."""
        calls = [
            pool.run(topology, WORKERS, self._queues.workers(topology), WORKER_TIMEOUT_SECS)
            for topology in self._queues.topologies
        ]
        lists = _answered(await asyncio.gather(*calls, return_exceptions=True), at_least=1)
        found: dict[str, WorkerInfo] = {}
        for written, age in itertools.chain(*lists):
            worker = from_json(written, float(age))
            if worker.id not in found or worker.seen < found[worker.id].seen:
                found[worker.id] = worker
        return sorted(found.values(), key=lambda worker: worker.started)


def _answered(results: list[Any], *, at_least: int) -> list[Any]:
    """Return the answers among the results of calls; raise the first error if there are too few."""
    answers = [result for result in results if not isinstance(result, BaseException)]
    try:
        if len(answers) < at_least:
            raise next(result for result in results if isinstance(result, BaseException))
    finally:
        # The traceback of the error refers to this frame: avoid a cycle.
        del results
    return answers
