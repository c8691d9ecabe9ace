"""The layer in a file keeps the whole promise, and notifies, without polling."""

import asyncio
import contextlib
import shutil
import socket
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from channelmap.errors import LayerUnavailable
from channelmap.layer import ChannelLayer, Delivery
from channelmap.layers import open_layer
from channelmap.layers.packing import pack, pack_rows
from channelmap.layers.sqlite import SQLiteChannelLayer, leases, notify, queue
from channelmap.limits import Limits

from .conformance import Everything, KeptHeartbeats, Suite, event, letter, numbers, until_blocked
from .conformance.heartbeats import OTHER, WORKER


class OnAFile(Suite):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = tmp_path / "events.db"
        # So that a lost notification is a test that fails, and not one that takes 5 s.
        monkeypatch.setattr(notify, "HEARTBEAT_SECS", 1_000.0)

    def open(self, **options: Any) -> ChannelLayer:
        return open_layer(f"sqlite:///{self.file}", **options)

    async def elapse(self, layer: ChannelLayer, seconds: float) -> None:
        db = sqlite3.connect(self.file)
        for table, column in (("waiting", "sent"), ("scheduled", "sent"), ("scheduled", "due"), ("workers", "seen")):
            db.execute(f"UPDATE {table} SET {column} = {column} - ?", (seconds,))
        db.commit()
        db.close()

    def sockets(self) -> list[Path]:
        return list(Path(f"{self.file}-wake").iterdir())

    async def take_after(self, layer: ChannelLayer, change: Any) -> list[int]:
        """Wait for an event, let `change` happen meanwhile, and return what came."""
        taking = asyncio.create_task(layer.take("jobs", 9))
        await until_blocked()
        assert not taking.done()
        change()
        return numbers(await taking)

    def commit_without_notification(self) -> None:
        db = sqlite3.connect(self.file)
        db.execute("INSERT INTO waiting VALUES ('jobs', 1, 0.0, 7, ?)", (pack("jobs", event(1)),))
        db.commit()
        db.close()


class TestSQLite(Everything, KeptHeartbeats, OnAFile):
    pass


class TestPolling(Everything, OnAFile):
    """Where there can be no sockets, all the same is promised."""

    @pytest.fixture(autouse=True)
    def _no_place_for_sockets(self, _file: None) -> None:
        Path(f"{self.file}-wake").write_text("in the way")


class TestFile(OnAFile):
    def test_events_survive_a_restart(self) -> None:
        self.run(lambda layer: layer.send("jobs", event(1)))
        assert numbers(self.run(lambda layer: layer.take("jobs", 1))) == [1]

    def test_a_relative_url_is_relative_to_the_directory_of_that_moment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        layer = open_layer("sqlite:///state.db")
        monkeypatch.chdir("/")
        layer.send_sync("jobs", event(1))
        asyncio.run(layer.close())
        assert (tmp_path / "state.db").exists()

    def test_a_file_that_was_deleted_is_made_anew(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            assert isinstance(layer, SQLiteChannelLayer)
            await layer.send("jobs", event(1))
            for path in self.file.parent.glob("events.db*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            layer._connections._check_at = 0
            await layer.send("jobs", event(2))
            return numbers(await layer.take("jobs", 9))

        assert self.run(scenario) == [2]

    def test_what_dead_consumers_left_behind_is_dropped_at_the_next_start(self) -> None:
        async def leave(layer: ChannelLayer) -> None:
            await layer.send("specific.abc!def", event(1))
            await layer.send("specific", event(2))

        async def count(layer: ChannelLayer) -> list[int | None]:
            await layer.send("others", event(3))
            return [await layer.waiting(name) for name in ("specific.abc!def", "specific")]

        self.run(leave, expiry=None)
        assert self.run(count) == [1, 1]
        db = sqlite3.connect(self.file)
        db.execute("UPDATE waiting SET sent = sent - 61")
        db.commit()
        db.close()
        assert self.run(count) == [0, 1]


class TestLargeEvents(OnAFile):
    @pytest.mark.parametrize("largest", [1, 100, 250])
    def test_a_lease_has_as_many_events_as_fit_and_the_others_stay_in_order(
        self, monkeypatch: pytest.MonkeyPatch, largest: int
    ) -> None:
        monkeypatch.setattr(leases, "_MAX_LEASE_BYTES", largest)

        async def scenario(layer: ChannelLayer) -> list[list[int]]:
            await layer.send_many("jobs", [{**event(number), "text": "x" * 60} for number in range(5)])
            takes = []
            while taken := await layer.take("jobs", 5, lease=60, wait=False):
                takes.append(numbers(taken))
            return takes

        takes = self.run(scenario)
        assert [number for some in takes for number in some] == [*range(5)]
        assert max(map(len, takes)) == (1 if largest < 250 else 2)


class TestOlderFile(OnAFile):
    def make(self) -> sqlite3.Connection:
        """Make a file as version 0.1 did: two events, of which one is leased, and a dead letter."""
        db = sqlite3.connect(self.file, isolation_level=None)
        db.executescript("""
            CREATE TABLE events (
                channel TEXT, id INTEGER, sent REAL, attempt INTEGER, body BLOB, PRIMARY KEY (channel, id)
            ) WITHOUT ROWID;
            CREATE TABLE leases (
                id INTEGER PRIMARY KEY AUTOINCREMENT,
                channel TEXT, until REAL, sent REAL, attempt INTEGER, body BLOB
            );
            CREATE INDEX leases_by_channel ON leases (channel, until);
            CREATE TABLE members (name TEXT, channel TEXT, added REAL, PRIMARY KEY (name, channel)) WITHOUT ROWID;
            CREATE TABLE dead_letters (
                id INTEGER PRIMARY KEY AUTOINCREMENT,
                channel TEXT, code TEXT, reason TEXT, violations TEXT, traceback TEXT,
                attempts INTEGER, sent REAL, died REAL, body BLOB
            );
            CREATE INDEX dead_letters_by_channel ON dead_letters (channel, id);
            PRAGMA journal_mode = WAL;
            PRAGMA user_version = 1;
        """)
        lease = "INSERT INTO leases (channel, until, sent, attempt, body) VALUES ('jobs', 1.0, 1.0, 2, ?)"
        db.execute(lease, (pack("jobs", event(1)),))
        db.execute("INSERT INTO events VALUES ('jobs', 1, 2.0, 1, ?)", (pack("jobs", event(2)),))
        letter = "INSERT INTO dead_letters VALUES (1, 'jobs', 'failed', 'it broke', '[]', '', 1, 1.0, 1.0, ?)"
        db.execute(letter, (pack("jobs", event(3)),))
        return db

    def test_what_lies_in_a_file_of_version_0_1_is_taken_over(self) -> None:
        self.make().close()

        async def scenario(layer: ChannelLayer) -> list[tuple[list[int], int, bool]]:
            (dead,) = await layer.dead_letters()
            assert dead.event == event(3)
            taken = [await layer.take("jobs", 9, lease=60) for _ in range(2)]
            return [(numbers(some), some[0].attempt, some[0].suspect) for some in taken]

        assert self.run(scenario, expiry=None) == [([1], 2, True), ([2], 1, False)]

    @pytest.mark.parametrize(("expiry", "expected"), [(60, [(4, 3)]), (None, [(4, 3), (2, 1)])])
    def test_a_returned_retry_of_version_0_1_stays_one_and_does_not_expire(
        self, expiry: float | None, expected: list[tuple[int, int]]
    ) -> None:
        older = self.make()
        older.execute("INSERT INTO events VALUES ('jobs', 0, 1.5, 3, ?)", (pack("jobs", event(4)),))
        older.execute("DELETE FROM leases")
        older.close()

        async def shown(layer: ChannelLayer) -> list[tuple[int, int]]:
            return [(numbers([one])[0], one.attempt) async for one in layer.peek("jobs")]

        async def taken(layer: ChannelLayer) -> list[tuple[int, int]]:
            some = await layer.take("jobs", 9, lease=60)
            return [(number, one.attempt) for number, one in zip(numbers(some), some, strict=True)]

        # Both events were sent just after 1970.
        assert self.run(shown, expiry=expiry) == expected
        assert self.run(taken, expiry=expiry) == expected

    @pytest.mark.parametrize("version", [1, 2])
    def test_the_letters_of_an_older_file_are_counted(self, version: int) -> None:
        older = self.make()
        if version == 2:
            older.executescript("""
                ALTER TABLE leases ADD COLUMN state TEXT;
                ALTER TABLE leases ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0;
                CREATE TABLE clock (id INTEGER PRIMARY KEY, boot TEXT, offset REAL, ahead REAL);
                PRAGMA user_version = 2;
            """)

        def keep_another() -> None:
            older.execute("""
                INSERT INTO dead_letters (channel, code, reason, violations, traceback, attempts, sent, died, body)
                SELECT channel, code, reason, violations, traceback, attempts, sent, died, body
                FROM dead_letters ORDER BY id DESC LIMIT 1
            """)

        async def scenario(layer: ChannelLayer) -> list[str]:
            await layer.send("jobs", event(4))
            (delivery,) = await layer.take("jobs", 1)
            # A process that has had the file open since before goes on.
            keep_another()
            await layer.bury(delivery, letter("jobs", 4))
            return [one.id for one in await layer.dead_letters()]

        keep_another()
        assert self.run(scenario, expiry=None, limits={"jobs": Limits(dead_letters=2)}) == ["3", "4"]
        older.close()

    def test_a_file_of_version_0_1_can_be_looked_at_and_stays_as_it_is(self) -> None:
        self.make().close()

        async def scenario(layer: ChannelLayer) -> tuple[int, int | None, int]:
            shown = [delivery async for delivery in layer.peek("jobs")]
            assert [(one.attempt, one.id) for one in shown] == [(2, ""), (1, "")]
            return len(shown), await layer.waiting("jobs"), len(await layer.dead_letters())

        assert self.run(scenario, expiry=None) == (2, 1, 1)
        assert self.run(self.states) == (1, 0, {"failed": 1}, {}, [])
        assert self.version() == 1

    def version(self) -> int:
        db = sqlite3.connect(self.file)
        (version,) = db.execute("PRAGMA user_version").fetchone()
        db.close()
        return int(version)

    async def states(self, layer: ChannelLayer) -> tuple[Any, ...]:
        counts = (await layer.counts(["jobs"]))["jobs"]
        return counts.waiting, counts.scheduled, counts.dead, counts.totals, await layer.workers()

    def make_4(self) -> None:
        """Make a file as version 4 did, which had no heartbeats and counted letters whatever their codes."""

        async def fill(layer: ChannelLayer) -> None:
            await layer.send_many("jobs", [event(number) for number in range(3)])
            for number, code in enumerate(["failed", "invalid", "failed"]):
                await layer.send("dead", event(number))
                (delivery,) = await layer.take("dead", 1)
                await layer.bury(delivery, letter("jobs", number, code=code))
            await layer.send("jobs", event(3), delay=60)

        self.run(fill)
        db = sqlite3.connect(self.file)
        db.executescript("""
            DROP TABLE workers; DROP TABLE totals;
            DROP TRIGGER dead_letter_kept; DROP TRIGGER dead_letter_gone; DROP TABLE dead_letter_counts;
            CREATE TABLE dead_letter_counts (channel TEXT PRIMARY KEY, letters INTEGER) WITHOUT ROWID;
            INSERT INTO dead_letter_counts SELECT channel, count(*) FROM dead_letters GROUP BY channel;
            CREATE TRIGGER dead_letter_kept AFTER INSERT ON dead_letters BEGIN
                INSERT INTO dead_letter_counts VALUES (new.channel, 1) ON CONFLICT DO UPDATE SET letters = letters + 1;
            END;
            CREATE TRIGGER dead_letter_gone AFTER DELETE ON dead_letters BEGIN
                UPDATE dead_letter_counts SET letters = letters - 1 WHERE channel = old.channel;
            END;
            PRAGMA user_version = 4;
        """)
        db.close()

    def test_a_file_of_version_4_keeps_its_events_and_letters_and_gets_heartbeats(self) -> None:
        self.make_4()

        async def beat(layer: ChannelLayer) -> tuple[Any, ...]:
            await layer.heartbeat(WORKER, {"jobs": {"handled": 1}}, 1)
            await layer.drop((await layer.dead_letters())[0].id)
            return (await self.states(layer))[:-1]

        assert self.run(self.states) == (3, 1, {"failed": 2, "invalid": 1}, {}, [])
        assert self.version() == 4
        assert self.run(beat) == (3, 1, {"failed": 1, "invalid": 1}, {"handled": 1})
        assert self.version() == 5

    @pytest.mark.parametrize(
        "statement",
        [
            "INSERT OR IGNORE INTO events VALUES ('jobs', 5, 2.0, 1, x'')",
            "SELECT EXISTS (SELECT 1 FROM events WHERE channel = 'jobs')",
            "SELECT id, sent, attempt + 1, body FROM leases WHERE channel = 'jobs' AND until <= 2",
            "DELETE FROM leases WHERE id = 1",
            "UPDATE leases SET until = 9 WHERE id = 1",
        ],
    )
    def test_a_process_of_version_0_1_that_has_the_file_open_cannot_go_on_unnoticed(self, statement: str) -> None:
        older = self.make()
        self.run(lambda layer: layer.take("jobs", 1, lease=60))
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            older.execute(statement)
        older.close()

    def test_several_processes_may_open_a_file_of_version_0_1_at_once(self) -> None:
        older = self.make()
        older.execute("BEGIN IMMEDIATE")
        layers = [self.open() for _ in range(4)]

        async def main() -> list[int | None]:
            sending = [asyncio.create_task(layer.send("jobs", event(9))) for layer in layers]
            await until_blocked()
            older.execute("COMMIT")
            await asyncio.gather(*sending)
            counts = [await layer.waiting("jobs") for layer in layers]
            for layer in layers:
                await layer.close()
            return counts

        assert asyncio.run(main()) == [5, 5, 5, 5]
        older.close()


class TestLook(OnAFile):
    def dump(self) -> list[str]:
        db = sqlite3.connect(self.file)
        lines = list(db.iterdump())
        db.close()
        return lines

    def test_a_look_leaves_the_file_as_it_is(self) -> None:
        async def scenario(layer: ChannelLayer) -> None:
            await layer.send_many("jobs", [event(number) for number in range(5)])
            await layer.take("jobs", 2, lease=0)
            await layer.take("jobs", 2, lease=0)
            layer._cached_limits["jobs"] = Limits(expiry=0)
            before = self.dump()
            assert numbers([delivery async for delivery in layer.peek("jobs")]) == [1, 0]
            assert self.dump() == before

        self.run(scenario)

    def test_an_event_that_a_clock_ahead_has_sent_is_not_of_negative_age(self) -> None:
        async def scenario(layer: ChannelLayer) -> None:
            await layer.send("jobs", event(1))
            with contextlib.closing(sqlite3.connect(self.file)) as db, db:
                db.execute("UPDATE waiting SET sent = sent + 100")
            assert (await layer.counts(["jobs"]))["jobs"].oldest == 0.0

        self.run(scenario)

    def test_a_look_half_way_holds_no_lock_and_waits_for_none(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.send_many("jobs", [event(number) for number in range(300)])
            shown: list[Delivery] = []
            async for delivery in layer.peek("jobs"):
                if not shown:
                    other = sqlite3.connect(self.file, timeout=0, isolation_level=None)
                    # The log is emptied only when nobody reads.
                    assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
                    other.execute("BEGIN IMMEDIATE")
                shown.append(delivery)
            other.close()
            return numbers(shown)

        assert self.run(scenario) == list(range(300))


class TestCounts(OnAFile):
    def test_the_counts_of_all_channels_are_of_one_moment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        count = queue.count

        def take_meanwhile(db: Any, channel: str) -> int:
            other = sqlite3.connect(self.file)
            other.execute("DELETE FROM waiting")
            other.commit()
            other.close()
            return count(db, channel)

        async def scenario(layer: ChannelLayer) -> list[int]:
            for channel in ("a", "b"):
                await layer.send(channel, event(1))
            monkeypatch.setattr(leases, "count", take_meanwhile)
            return [counts.waiting for counts in (await layer.counts(["a", "b"])).values()]

        assert self.run(scenario) == [1, 1]


class TestBusyFile(OnAFile):
    """Another process writes just now."""

    @pytest.fixture
    def other(self) -> Any:
        self.run(lambda layer: layer.send("jobs", event(0)))
        db = sqlite3.connect(self.file, isolation_level=None, check_same_thread=False)
        db.execute("BEGIN IMMEDIATE")
        yield db
        db.close()

    def test_a_send_waits_for_its_turn_and_the_loop_goes_on(self, other: sqlite3.Connection) -> None:
        async def scenario(layer: ChannelLayer) -> int | None:
            sending = asyncio.create_task(layer.send("jobs", event(1)))
            await until_blocked()
            assert not sending.done()
            other.execute("COMMIT")
            await sending
            return await layer.waiting("jobs")

        assert self.run(scenario) == 2

    def test_a_thread_waits_for_its_turn(self, other: sqlite3.Connection) -> None:
        layer = self.open()
        sending = threading.Thread(target=layer.send_sync, args=("jobs", event(1)))
        sending.start()
        assert sending.is_alive()
        other.execute("COMMIT")
        sending.join(20)
        assert asyncio.run(layer.waiting("jobs")) == 2
        asyncio.run(layer.close())

    def test_cancelling_a_take_that_waits_for_its_turn_loses_nothing(self, other: sqlite3.Connection) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            taking = asyncio.create_task(layer.take("jobs", 1))
            await until_blocked()
            taking.cancel()
            await asyncio.wait([taking])
            other.execute("COMMIT")
            return await layer.take("jobs", 1)

        assert numbers(self.run(scenario)) == [0]


class TestNotify(OnAFile):
    def test_who_waits_at_a_link_to_the_file_is_notified_too(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        link = tmp_path / "elsewhere" / "link.db"
        link.symlink_to(self.file)

        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.waiting("jobs")
            linked = SQLiteChannelLayer(f"sqlite:///{link}")
            taking = asyncio.ensure_future(linked.take("jobs", 9))
            await until_blocked()
            await layer.send("jobs", event(1))
            taken = await taking
            await linked.close()
            return numbers(taken)

        assert self.run(scenario) == [1]

    def test_a_long_path_is_notified_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(notify, "POLL_SECS", 1_000.0)
        self.file = tmp_path / ("long" * 20) / ("longer" * 20) / "events.db"
        self.file.parent.mkdir(parents=True)
        ring = self.open()
        ring.send_sync("other", event(0))
        assert self.run(lambda layer: self.take_after(layer, lambda: ring.send_sync("jobs", event(1)))) == [1]
        asyncio.run(ring.close())

    def test_of_more_notifications_than_the_kernel_keeps_none_is_lost(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            names = [f"jobs-{number}" for number in range(40)]
            taking = [asyncio.create_task(layer.take(name, 1)) for name in names]
            await until_blocked()
            # The loop does not run meanwhile, so nobody reads the notifications.
            for number, name in enumerate(names):
                layer.send_sync(name, event(number))
            return [number for deliveries in await asyncio.gather(*taking) for number in numbers(deliveries)]

        assert self.run(scenario) == list(range(40))

    def test_what_a_killed_sender_did_not_ring_for_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(notify, "HEARTBEAT_SECS", 0.02)
        assert self.run(lambda layer: self.take_after(layer, self.commit_without_notification)) == [1]

    @pytest.mark.parametrize("lease", [None, 60])
    @pytest.mark.parametrize("cause", ["a heartbeat", "many notifications"])
    def test_those_for_whom_there_is_nothing_are_not_woken(
        self, cause: str, lease: float | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        statements: list[str] = []

        async def scenario(layer: Any) -> list[int]:
            if cause == "a heartbeat":
                monkeypatch.setattr(notify, "HEARTBEAT_SECS", 0.02)
            taking = [asyncio.create_task(layer.take(f"idle-{number}", 1, lease=lease)) for number in range(200)]
            taking.append(asyncio.create_task(layer.take("jobs", 1, lease=lease)))
            await until_blocked()
            layer._connections._idle[0].set_trace_callback(statements.append)
            if cause == "many notifications":
                for number in range(20):
                    layer.send_sync(f"elsewhere-{number}", event(number))
            self.commit_without_notification()
            if cause == "many notifications":
                # The last ones that the kernel keeps are read.
                layer.send_sync("elsewhere", event(0))
            taken = await taking.pop()
            for one in taking:
                one.cancel()
            await asyncio.wait(taking)
            return numbers(taken)

        assert self.run(scenario) == [1]
        assert len([statement for statement in statements if "idle-" in statement]) == 0
        assert len([statement for statement in statements if "'jobs'" in statement]) > 0

    @pytest.mark.parametrize("lease", [None, 60])
    def test_heartbeats_of_other_workers_wake_no_take(
        self, lease: float | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(notify, "HEARTBEAT_SECS", 0.02)
        statements: list[str] = []

        async def scenario(layer: Any) -> int:
            others = [(self.open(), replace(OTHER, id=f"{number}" * 32)) for number in range(10)]
            taking = [asyncio.create_task(layer.take(f"idle-{number}", 1, lease=lease)) for number in range(200)]
            await until_blocked()
            layer._connections._idle[0].set_trace_callback(statements.append)
            number = 0
            # The listener has asked the file twenty times.
            while len(statements) < 20:
                number += 1
                for other, worker in others:
                    await other.heartbeat(worker, {"jobs": {"handled": 1}}, number)
                await asyncio.sleep(0.001)
            for one in taking:
                one.cancel()
            await asyncio.wait(taking)
            for other, _ in others:
                await other.close()
            return number

        self.run(scenario)
        # It asks which channels have something, once for each look at the file, and asks nothing for a channel.
        assert {statement for statement in statements if "WITH RECURSIVE" not in statement} == set()

    def test_who_waits_learns_of_a_lease_that_nobody_rang_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def lease_without_notification() -> None:
            db = sqlite3.connect(self.file)
            (now,) = db.execute("SELECT sent FROM waiting").fetchone()
            lease = "INSERT INTO leased (channel, until, count, events, crashes) VALUES ('jobs', ?, 1, ?, 0)"
            db.execute(lease, (now + 0.3, pack_rows([[1], [(0.0, 7, pack("jobs", event(1)))]])))
            db.commit()
            db.close()

        async def scenario(layer: ChannelLayer) -> list[int]:
            monkeypatch.setattr(notify, "HEARTBEAT_SECS", 0.02)
            await layer.send("other", event(0))
            return await self.take_after(layer, lease_without_notification)

        assert self.run(scenario) == [1]

    def test_a_notified_take_takes_without_a_look(self) -> None:
        statements: list[str] = []

        async def scenario(layer: Any) -> None:
            sender = self.open()
            taking = asyncio.create_task(layer.take("jobs", 1))
            await until_blocked()
            layer._connections._idle[0].set_trace_callback(statements.append)
            sender.send_sync("jobs", event(1))
            await taking
            await sender.close()

        self.run(scenario)
        assert statements[0] == "BEGIN IMMEDIATE"
        assert not [statement for statement in statements if "SELECT EXISTS" in statement]

    def test_a_take_that_was_not_notified_looks_without_a_lock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(notify, "HEARTBEAT_SECS", 0.02)
        statements: list[str] = []

        async def scenario(layer: Any) -> None:
            sender = self.open()
            await layer.send("jobs", event(1))
            await layer.take("jobs", 1, lease=60)
            # It waits for the end of the lease.
            taking = asyncio.create_task(layer.take("jobs", 1, lease=60))
            await until_blocked()
            layer._connections._idle[0].set_trace_callback(statements.append)
            sender.send_sync("other", event(2))
            while not [statement for statement in statements if "SELECT EXISTS" in statement]:
                await asyncio.sleep(0)
            await until_blocked()
            taking.cancel()
            await asyncio.wait([taking])
            await sender.close()

        self.run(scenario)
        assert not [statement for statement in statements if "BEGIN" in statement]

    def test_the_file_is_asked_only_when_all_notifications_are_read(self) -> None:
        """The kernel may have dropped others while they were read; their events are committed by now."""
        self.file.touch()
        asked: list[int] = []

        async def main() -> bool:
            loop = asyncio.get_running_loop()

            def occupied() -> list[str]:
                assert listener._socket is not None
                with contextlib.suppress(BlockingIOError):
                    asked.append(len(listener._socket.recv(256, socket.MSG_PEEK)))
                return ["jobs"]

            listener = notify.Listener(str(self.file), "the file", occupied)
            waiting = asyncio.ensure_future(listener.wait("jobs", None))
            await until_blocked()
            notifier = notify.Notifier(str(self.file))
            for _ in range(20):
                notifier.notify("other")
            notified = await asyncio.wait_for(waiting, 20)
            listener.close(loop, LayerUnavailable("the file", "closed"))
            return notified

        assert asyncio.run(main()) is False
        assert asked == []

    def test_where_the_file_cannot_be_asked_all_are_woken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(notify, "HEARTBEAT_SECS", 0.02)
        self.file.touch()

        async def main() -> list[bool]:
            listener = notify.Listener(str(self.file), "the file", lambda: None)
            notified = await asyncio.wait_for(asyncio.gather(listener.wait("a", None), listener.wait("b", None)), 20)
            listener.close(asyncio.get_running_loop(), LayerUnavailable("the file", "closed"))
            return [*notified]

        assert asyncio.run(main()) == [False, False]

    def test_a_socket_that_was_deleted_is_made_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            monkeypatch.setattr(notify, "HEARTBEAT_SECS", 0.02)
            taking = asyncio.create_task(layer.take("jobs", 1))
            await until_blocked()
            self.sockets()[0].unlink()
            monkeypatch.setattr(notify, "HEARTBEAT_SECS", 1_000.0)
            while not self.sockets():
                await asyncio.sleep(0)
            await until_blocked()
            await layer.send("jobs", event(1))
            return numbers(await taking)

        assert self.run(scenario) == [1]

    def test_closing_removes_the_socket_even_while_a_take_waits(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Path]:
            taking = asyncio.create_task(layer.take("jobs", 1))
            await until_blocked()
            await layer.close()
            await asyncio.wait([taking])
            assert isinstance(taking.exception(), LayerUnavailable)
            return self.sockets()

        assert self.run(scenario) == []

    def test_no_socket_is_left_behind(self) -> None:
        self.run(lambda layer: self.take_after(layer, lambda: layer.send_sync("jobs", event(1))))
        assert self.sockets() == []
