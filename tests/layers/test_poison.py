"""Events that kill their worker become dead letters after their attempts, and no other event does."""

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from channelmap.layers import open_layer

from .redis_servers import Server

#: Starts a worker process again and again until one ends by itself, and waits for a line after each that was killed.
WORKERS = """\
import asyncio, json, os, signal, sys
from channelmap import AsyncConsumer, Worker
from channelmap.layers import open_layer
from channelmap.limits import RetryPolicy, Service

url, concurrency, retry = sys.argv[1], int(sys.argv[2]), RetryPolicy(**json.loads(sys.argv[3]))
file = os.open("handled.txt", os.O_APPEND | os.O_CREAT | os.O_WRONLY)

class Jobs(AsyncConsumer):
    async def job(self, event):
        os.write(file, b"%d\\n" % event["id"])

    async def slow(self, event):
        await asyncio.sleep(0)
        await self.job(event)

    async def kill(self, event):
        await self.job(event)
        os.kill(os.getpid(), signal.SIGKILL)

    async def exit(self, event):
        await self.job(event)
        os._exit(9)

async def serve():
    services = {name: Service(retry=retry, concurrency=concurrency) for name in ("jobs", "others")}
    await Worker(Jobs.as_asgi(), services, open_layer(url), burst=True).serve()

while child := os.fork():
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, flush=True)
    if not code:
        sys.exit()
    sys.stdin.readline()
asyncio.run(serve())
"""

MOST_CRASHES = 40


class Site:
    """A layer, and the workers that serve it one after the other."""

    def __init__(self, url: str, directory: Path, end_leases: Callable[[], None]) -> None:
        self._url = url
        self._directory = directory
        self._end_leases = end_leases
        self._count = 0

    def send(self, channel: str, *types: str) -> list[int]:
        """Send one event of each type, and return their ids."""
        ids = list(range(self._count, self._count + len(types)))
        self._count += len(types)

        async def main() -> None:
            layer = open_layer(self._url, capacity=100_000)
            await layer.send_many(channel, [{"type": name, "id": id_} for id_, name in zip(ids, types, strict=True)])
            await layer.close()

        asyncio.run(main())
        return ids

    def serve(self, concurrency: int, **retry: float) -> int:
        """Start workers until one ends by itself, and return how many were killed; their leases end with them."""
        command = [sys.executable, "-W", "error", "-c", WORKERS, self._url, str(concurrency), json.dumps(retry)]
        with subprocess.Popen(
            command, cwd=self._directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                crashes = 0
                while (code := int(process.stdout.readline())) and crashes < MOST_CRASHES:
                    assert code in (9, -9)
                    crashes += 1
                    self._end_leases()
                    process.stdin.write("\n")
                    process.stdin.flush()
            finally:
                process.kill()
        assert code == 0
        return crashes

    @property
    def handled(self) -> Counter[int]:
        return Counter(map(int, (self._directory / "handled.txt").read_text().splitlines()))

    def letters(self) -> list[tuple[int, str]]:
        """The id of the event and the reason of each dead letter."""

        async def main() -> list[tuple[int, str]]:
            layer = open_layer(self._url)
            try:
                return [((letter.event or {})["id"], letter.reason) for letter in await layer.dead_letters()]
            finally:
                await layer.close()

        return asyncio.run(main())


class Poison:
    """Workers that are killed by what they handle."""

    @pytest.mark.parametrize(("concurrency", "killer"), [(1, "exit"), (4, "kill")])
    def test_of_two_thousand_events_only_the_one_that_kills_its_worker_becomes_a_dead_letter(
        self, site: Site, concurrency: int, killer: str
    ) -> None:
        good = site.send("jobs", *["job"] * 1_000)
        (bad,) = site.send("jobs", killer)
        good += site.send("jobs", *["job"] * 1_000)

        assert site.serve(concurrency) == 6

        assert site.letters() == [(bad, "its worker ended while it was handled, 5 times in a row")]
        assert set(site.handled) == {*good, bad}
        assert site.handled[bad] == 6

    def test_with_one_attempt_an_event_that_kills_its_worker_is_delivered_once_more(self, site: Site) -> None:
        good = site.send("jobs", *["job"] * 20)
        (bad,) = site.send("jobs", "kill")
        good += site.send("jobs", *["job"] * 20)

        assert site.serve(1, attempts=1) == 2

        assert site.letters() == [(bad, "its worker ended while it was handled")]
        assert set(site.handled) == {*good, bad}

    def test_several_events_that_kill_their_worker_on_several_channels_harm_no_other_event(self, site: Site) -> None:
        good, bad = [], []
        for channel in ("jobs", "others"):
            for _ in range(2):
                good += site.send(channel, *["job"] * 50, *["slow"] * 50)
                bad += site.send(channel, "kill")
            good += site.send(channel, *["job"] * 50)

        assert site.serve(4, attempts=3) <= 4 * 4

        assert sorted(id_ for id_, _ in site.letters()) == sorted(bad)
        assert set(site.handled) == {*good, *bad}
        assert max(site.handled[id_] for id_ in bad) <= 4


class TestSQLite(Poison):
    @pytest.fixture
    def site(self, tmp_path: Path) -> Site:
        file = tmp_path / "events.db"

        def end_leases() -> None:
            with closing(sqlite3.connect(file)) as db:
                db.execute("UPDATE leased SET until = until - 60")
                db.commit()

        return Site(f"sqlite:///{file}", tmp_path, end_leases)


class TestRedis(Poison):
    @pytest.fixture
    def site(self, server: Server, tmp_path: Path) -> Site:
        def end_leases() -> None:
            for key in ("asgijobs$until", "asgiothers$until"):
                for member, end in server.client.zrange(key, 0, -1, withscores=True):
                    server.client.zadd(key, {member: end - 60})

        return Site(server.url, tmp_path, end_leases)
