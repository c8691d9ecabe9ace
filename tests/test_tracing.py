"""Spans of sends and handler calls belong together, and nobody but the gate sees how."""

import asyncio
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from channelmap import (
    AsyncConsumer,
    ChannelFull,
    EventRejected,
    Reject,
    Retry,
    StopConsumer,
    SyncConsumer,
    UnknownChannel,
    Worker,
    get_channel_layer,
    load,
    load_router,
)
from channelmap import tracing as tracing_module
from channelmap.asgi import Application, Event, Receive, Scope, Send, at_hand_of, offer
from channelmap.gate import Gate
from channelmap.handling import around_handler
from channelmap.layer import current_layer
from channelmap.sending import ContractLayer
from channelmap.trace_key import trace_id_of, without_trace
from tests.layers.redis_servers import VOLATILE, Server, running
from tests.traces import JOB, Site, Spans, assert_delivers, attributes, consumer, error_type, is_child, note_nothing

Until = Callable[..., Awaitable[None]]

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
TRACED = {**JOB, "__trace__": {"traceparent": TRACEPARENT}}


@pytest.fixture(scope="session")
def _redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("tracing") / "server", *VOLATILE)
    with running(server):
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/events.db"
    server: Server = request.getfixturevalue("_redis")
    server.client.flushall()
    return server.url


OURS = pytest.mark.parametrize("base", [AsyncConsumer, SyncConsumer])


# Spans, through real layers.


@OURS
@pytest.mark.parametrize("leased", [False, True])
def test_a_handler_runs_in_a_span_that_is_the_child_of_its_send(
    base: type[Any],
    leased: bool,  # noqa: FBT001
    url: str,
    tmp_path: Path,
    spans: Spans,
) -> None:
    site = Site(tmp_path, url, leased=leased)
    seen: list[Event] = []

    def handle(_consumer: Any, event: Event) -> None:
        seen.append(event)
        with trace.get_tracer("test").start_as_current_span("inside"):
            pass

    ids: list[str | None] = []

    async def main() -> None:
        with trace.get_tracer("test").start_as_current_span("request"):
            ids.append(await site.layer.send("jobs", JOB))
        await site.drain(consumer(base, handle))

    site.run(main())

    send, process = spans.only("send"), spans.only("process")
    assert seen == [JOB]
    assert is_child(send, spans.only("request"))
    assert list(send.links) == []
    assert is_child(spans.only("inside"), process)
    assert_delivers(process, send)
    assert (send.name, send.kind, process.name, process.kind) == (
        "send jobs", SpanKind.PRODUCER, "process jobs", SpanKind.CONSUMER,
    )  # fmt: skip
    common = {"messaging.system": "channelmap", "messaging.destination.name": "jobs", "messaging.message.id": ids[0]}
    of_send = {"messaging.operation.name": "send", "messaging.operation.type": "send"}
    of_process = {"messaging.operation.name": "process", "messaging.operation.type": "process", "channelmap.attempt": 1}
    assert attributes(send) == common | of_send | {"channelmap.event.type": "job"}
    assert attributes(process) == common | of_process | {"channelmap.event.type": "job"}
    assert {send.status.status_code, process.status.status_code} == {StatusCode.UNSET}


@OURS
def test_retries_and_a_replay_are_further_deliveries_in_the_same_trace(
    base: type[Any], url: str, tmp_path: Path, spans: Spans
) -> None:
    site = Site(tmp_path, url, leased=True)

    def fail(_consumer: Any, event: Event) -> None:
        raise ValueError("boom")

    async def main() -> None:
        await site.layer.send("jobs", JOB)
        await site.drain(consumer(base, fail))
        (letter,) = await site.layer.dead_letters()
        await site.layer.replay(letter.id)
        await site.drain(consumer(base, note_nothing))

    site.run(main())

    send, processes = spans.only("send"), spans("process")
    for process in processes:
        assert_delivers(process, send)
    assert [attributes(process)["channelmap.attempt"] for process in processes] == [1, 2, 1]
    assert [error_type(process) for process in processes] == ["ValueError", "ValueError", None]
    assert {attributes(process)["messaging.message.id"] for process in processes} == {
        attributes(send)["messaging.message.id"]
    }
    assert [[event.name for event in process.events] for process in processes] == [["exception"], ["exception"], []]
    assert processes[0].status.description == "ValueError: boom"


def test_a_redelivery_after_a_lost_lease_is_in_the_same_trace(
    url: str, tmp_path: Path, spans: Spans, until: Until
) -> None:
    site = Site(tmp_path, url, leased=True)
    seen: list[Event] = []

    async def main() -> None:
        await site.layer.send("jobs", JOB)
        await site.layer.take("jobs", 1, lease=0.001)
        application = consumer(AsyncConsumer, lambda _, event: seen.append(event))
        worker = Worker(site.router(application), {"jobs": site.channel.service}, site.layer.layer)
        serving = asyncio.ensure_future(worker.serve())
        await until(lambda: seen, "the redelivery")
        worker.stop()
        await serving

    site.run(main())

    assert seen == [JOB]
    assert_delivers(spans.only("process"), spans.only("send"))


@pytest.mark.parametrize("how", ["send", "send_sync"])
def test_what_a_handler_sends_continues_its_trace(how: str, url: str, tmp_path: Path, spans: Spans) -> None:
    site = Site(tmp_path, url)

    class Async(AsyncConsumer):
        async def job(self, event: Event) -> None:
            await self.channel_layer.send("jobs", {"type": "free"})

        async def free(self, event: Event) -> None:
            pass

    class Sync(SyncConsumer):
        def job(self, event: Event) -> None:
            self.channel_layer.send_sync("jobs", {"type": "free"})

        def free(self, event: Event) -> None:
            pass

    site.handle((Async if how == "send" else Sync).as_asgi(), JOB)

    sends, processes = spans("send"), spans("process")
    assert is_child(sends[1], processes[0])
    for send, process in zip(sends, processes, strict=True):
        assert_delivers(process, send)


@pytest.mark.parametrize("when", [{"delay": 3600}, {"at": datetime.now(UTC) + timedelta(hours=1)}])
def test_events_that_are_sent_together_can_be_delayed(
    when: dict[str, Any], url: str, tmp_path: Path, spans: Spans
) -> None:
    site = Site(tmp_path, url)

    async def main() -> None:
        await site.layer.send_many("jobs", [{"type": "free"}], **when)
        counts = (await site.layer.counts(["jobs"]))["jobs"]
        assert (counts.waiting, counts.scheduled) == (0, 1)
        await site.layer.close()

    site.run(main())
    assert spans.only("send")


def test_a_batch_is_one_span_whose_context_is_in_each_event(url: str, tmp_path: Path, spans: Spans) -> None:
    site = Site(tmp_path, url)

    async def main() -> None:
        await site.layer.send_many("jobs", (event for event in ({"type": "free", "n": n} for n in range(3))))  # type: ignore[arg-type]  # an iterator works too
        await site.drain(consumer(SyncConsumer, note_nothing))

    site.run(main())

    send = spans.only("send")
    assert send.kind is SpanKind.PRODUCER
    assert attributes(send) == {
        "messaging.system": "channelmap",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "jobs",
        "messaging.batch.message_count": 3,
    }
    processes = spans("process")
    assert len(processes) == 3
    for process in processes:
        assert_delivers(process, send)


@OURS
def test_events_that_are_handled_at_the_same_time_keep_their_spans_apart(
    base: type[Any], tmp_path: Path, spans: Spans
) -> None:
    site = Site(tmp_path, options="concurrency: 3")
    current: dict[int, int] = {}
    meeting = threading.Barrier(3) if base is SyncConsumer else asyncio.Barrier(3)

    def note(event: Event) -> None:
        current[event["id"]] = trace.get_current_span().get_span_context().trace_id

    class Async(AsyncConsumer):
        async def job(self, event: Event) -> None:
            await meeting.wait()  # type: ignore[misc]
            note(event)
            await meeting.wait()  # type: ignore[misc]

    class Sync(SyncConsumer):
        def job(self, event: Event) -> None:
            meeting.wait(20)  # type: ignore[call-arg]
            note(event)
            meeting.wait(20)  # type: ignore[call-arg]

    site.handle((Async if base is AsyncConsumer else Sync).as_asgi(), *({"type": "job", "id": n} for n in range(3)))

    sends = spans("send")
    assert [current[n] for n in range(3)] == [send.context.trace_id for send in sends]
    assert len(spans("process")) == 3
    for process in spans("process"):
        assert_delivers(process, next(send for send in sends if is_child(process, send)))


# How handlers end.


def retry_after_soon() -> Retry:
    error = Retry()
    error.after = "soon"  # type: ignore[assignment]
    return error


@OURS
@pytest.mark.parametrize(
    ("error", "expected", "description"),
    [
        (Retry(after=0, reason="busy"), "retry", "busy"),
        (Reject("gone"), "given-up", "gone"),
        (StopConsumer(), None, None),
        (TimeoutError(), "TimeoutError", "TimeoutError"),
        (EventRejected("jobs", "job", "missing-type"), "channelmap.errors.EventRejected", None),
        (SystemExit(3), "SystemExit", "SystemExit: 3"),
        (retry_after_soon(), "TypeError", None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_span_says_how_its_handler_ended(  # noqa: PLR0917
    base: type[Any], error: BaseException, expected: str | None, description: str | None, tmp_path: Path, spans: Spans
) -> None:
    site = Site(tmp_path)

    def handle(_consumer: Any, event: Event) -> None:
        raise error

    site.handle(consumer(base, handle), JOB)

    process = spans.only("process")
    assert error_type(process) == expected
    assert description is None or process.status.description == description
    assert [event.name for event in process.events] == (
        [] if expected in {None, "retry", "given-up"} else ["exception"]
    )


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


@OURS
def test_an_exception_without_a_text_is_recorded_by_its_class(base: type[Any], tmp_path: Path, spans: Spans) -> None:
    site = Site(tmp_path)

    def handle(_consumer: Any, event: Event) -> None:
        raise Unspeakable

    site.handle(consumer(base, handle), JOB)

    assert error_type(spans.only("process")) == f"{__name__}.Unspeakable"
    assert asyncio.run(site.layer.dead_letters())[0].reason.startswith("Unspeakable")


@OURS
def test_a_handler_that_takes_too_long_has_timed_out(base: type[Any], tmp_path: Path, spans: Spans) -> None:
    site = Site(tmp_path, options="timeout: 0.05")
    released = threading.Event()

    async def hang(self: Any, event: Event) -> None:
        await asyncio.Event().wait()

    def hang_in_thread(self: Any, event: Event) -> None:
        released.wait(20)

    made: Any = type("Jobs", (base,), {"job": hang_in_thread if base is SyncConsumer else hang})
    try:
        site.handle(made.as_asgi(), JOB)
        assert error_type(spans.only("process")) == "timeout"
    finally:
        released.set()


def test_a_handler_that_suppresses_its_timeout_has_timed_out_too(tmp_path: Path, spans: Spans) -> None:
    site = Site(tmp_path, options="timeout: 0.05")

    class Jobs(AsyncConsumer):
        async def job(self, event: Event) -> None:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

        async def free(self, event: Event) -> None:
            pass

    site.handle(Jobs.as_asgi(), JOB, {"type": "free"})

    assert [error_type(process) for process in spans("process")] == ["timeout", None]


def test_a_handler_that_is_cut_off_when_the_worker_stops_was_cancelled(
    tmp_path: Path, spans: Spans, until: Until
) -> None:
    site = Site(tmp_path)
    begun = asyncio.Event()

    class Jobs(AsyncConsumer):
        async def job(self, event: Event) -> None:
            begun.set()
            await asyncio.Event().wait()

    async def main() -> None:
        await site.layer.send("jobs", JOB)
        worker = Worker(site.router(Jobs.as_asgi()), {"jobs": site.channel.service}, site.layer.layer)
        serving = asyncio.ensure_future(worker.serve())
        await until(begun.is_set)
        worker.stop(0)
        await serving

    site.run(main())

    assert error_type(spans.only("process")) == "asyncio.exceptions.CancelledError"


def test_an_event_that_has_no_handler_is_in_the_span(tmp_path: Path, spans: Spans) -> None:
    site = Site(tmp_path)

    class Jobs(AsyncConsumer):
        pass

    site.handle(Jobs.as_asgi(), JOB)

    assert error_type(spans.only("process")) == "ValueError"


@OURS
def test_context_variables_of_a_handler_do_not_reach_the_next_event(
    base: type[Any], tmp_path: Path, spans: Spans
) -> None:
    site = Site(tmp_path)
    seen = []

    def handle(_consumer: Any, event: Event) -> None:
        seen.append((current_layer.get(), around_handler.get()))
        current_layer.set("changed")

    site.handle(consumer(base, handle), JOB, JOB)

    assert seen == [(site.layer, None)] * 2


# Rejections.


def test_the_span_of_a_rejected_send_has_the_code_and_no_payload(tmp_path: Path, spans: Spans) -> None:
    site = Site(tmp_path)
    wrong: list[Any] = [{"type": "job", "id": "secret"}, {"type": "jop"}, {"id": 1}, {"type": "free", "at": {1, 2}}]

    for event in wrong:
        with pytest.raises(EventRejected):
            site.layer.send_sync("jobs", event)
    with pytest.raises(EventRejected):
        asyncio.run(site.layer.send_many("jobs", [JOB, wrong[0]]))

    codes = ["schema-mismatch", "unknown-type", "missing-type", "unsupported-value", "schema-mismatch"]
    assert [error_type(span) for span in spans("send jobs")] == codes
    assert [attributes(span).get("channelmap.event.type") for span in spans()] == ["job", "jop", None, "free", "job"]
    assert not any("secret" in str(span.status.description) for span in spans())
    assert not any(span.events for span in spans())
    assert asyncio.run(site.layer.waiting("jobs")) == 0


def test_the_span_of_a_send_that_fails_has_the_class_of_the_exception(tmp_path: Path, spans: Spans) -> None:
    site = Site(tmp_path)
    for _ in range(3):
        site.layer.send_sync("jobs", JOB)

    with pytest.raises(ChannelFull):
        asyncio.run(site.layer.send("jobs", JOB))

    assert [error_type(span) for span in spans("send")] == [None, None, None, "channelmap.errors.ChannelFull"]


def test_a_send_to_an_undeclared_channel_has_no_span(tmp_path: Path, spans: Spans) -> None:
    site = Site(tmp_path)
    with pytest.raises(UnknownChannel):
        site.layer.send_sync("other", JOB)
    with pytest.raises(TypeError, match="expected the name of a channel"):
        site.layer.send_sync(5, JOB)  # type: ignore[arg-type]
    assert spans() == []


@OURS
@pytest.mark.parametrize("validate", ["enforce", "warn"])
def test_an_event_that_the_gate_rejects_has_a_span_with_the_code(
    base: type[Any], validate: str, tmp_path: Path, spans: Spans
) -> None:
    site = Site(tmp_path, options=f"validate: {validate}")
    seen: list[Event] = []

    site.handle(
        consumer(base, lambda _, event: seen.append(event)), TRACED, {**TRACED, "id": "one"}, TRACED, validated=False
    )

    processes = spans("process")
    assert [error_type(process) for process in processes] == [
        None,
        "schema-mismatch" if validate == "enforce" else None,
        None,
    ]
    assert len(seen) == (2 if validate == "enforce" else 3)
    for process in processes:
        assert process.parent is not None
        assert f"{process.context.trace_id:032x}" == TRACE_ID
        assert f"{process.parent.span_id:016x}" == SPAN_ID
        assert attributes(process)["channelmap.event.type"] == "job"


def test_the_gate_of_a_server_that_takes_nothing_back_records_rejections_too(
    tmp_path: Path, spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path)
    seen: list[Event] = []

    assert pass_through(Gate(site.channel, consumer_of(seen), tracing=True), [{"type": "jop"}, TRACED]) == []

    assert seen == [JOB]
    assert [error_type(span) for span in spans("process")] == ["unknown-type", None]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def consumer_of(seen: list[Event]) -> Application:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            seen.append(await receive())

    return application


def pass_through(
    application: Application, events: list[Event], *, extensions: dict[str, Any] | None = None, at_hand: bool = False
) -> list[Event]:
    """Run an application as a server with these events; return those that it handed back."""
    waiting, handed_back = list(events), []

    async def receive() -> Event:
        if not waiting:
            raise asyncio.CancelledError
        return waiting.pop(0)

    async def send(event: Event) -> None:
        handed_back.append(event)

    async def main() -> None:
        offered = offer(receive, lambda: waiting.pop(0) if waiting else None) if at_hand else receive
        with suppress(asyncio.CancelledError):
            await application({"type": "channel", "channel": "jobs", "extensions": extensions or {}}, offered, send)
        assert around_handler.get() is None

    asyncio.run(main())
    return handed_back


# The reserved key.


BROKEN: list[Any] = [
    None, 0, 1.5, True, "", "text", b"bytes", [], [TRACEPARENT], {}, {"traceparent": None}, {"traceparent": 5},
    {"traceparent": [TRACEPARENT]}, {"traceparent": "00-zz"}, {"traceparent": TRACEPARENT.replace(TRACE_ID, "0" * 32)},
    {"traceparent": f"ff{TRACEPARENT[2:]}"}, {"traceparent": f"{TRACEPARENT}x"}, {5: TRACEPARENT},
]  # fmt: skip


@pytest.mark.parametrize("validate", ["enforce", "warn", "'off'"])
@pytest.mark.parametrize("tracing", [False, True])
@pytest.mark.parametrize("base", [AsyncConsumer, SyncConsumer, None])
def test_every_gate_removes_the_key_whatever_its_value_is(  # noqa: PLR0917
    base: type[Any] | None,
    tracing: bool,  # noqa: FBT001
    validate: str,
    tmp_path: Path,
    spans: Spans,
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Site(tmp_path, options=f"validate: {validate}", tracing=tracing)
    seen: list[Event] = []
    application = consumer_of(seen) if base is None else consumer(base, lambda _, event: seen.append(event))
    sent = [{**JOB, "id": n, "__trace__": value} for n, value in enumerate(BROKEN)]

    gate = Gate(site.channel, application, tracing=tracing)
    assert pass_through(gate, sent, extensions={"channel.reject": {}}, at_hand=base is SyncConsumer) == []

    assert seen == [{**JOB, "id": n} for n in range(len(BROKEN))]
    assert [event["__trace__"] for event in sent] == BROKEN, "the server's events are not changed"
    assert caplog.records == []
    processes = spans("process")
    assert len(processes) == (len(BROKEN) if tracing else 0)
    assert not any(process.parent or process.links for process in processes)


def test_an_event_without_a_trace_begins_one(tmp_path: Path, spans: Spans) -> None:
    site = Site(tmp_path)

    async def main() -> None:
        await site.layer.layer.send("jobs", JOB)
        with trace.get_tracer("test").start_as_current_span("worker"):
            await site.drain(consumer(AsyncConsumer, note_nothing))

    site.run(main())

    process = spans.only("process")
    assert (process.parent, list(process.links)) == (None, [])
    assert process.context.trace_id != spans.only("worker").context.trace_id


def test_the_state_of_a_trace_travels_too(tmp_path: Path, spans: Spans) -> None:
    site = Site(tmp_path)
    states = []

    def handle(_consumer: Any, event: Event) -> None:
        states.append(trace.get_current_span().get_span_context().trace_state.to_header())
        if event["type"] == "job":
            site.layer.send_sync("jobs", {"type": "free"})

    site.handle(
        consumer(SyncConsumer, handle),
        {**JOB, "__trace__": {"traceparent": TRACEPARENT, "tracestate": "vendor=1"}},
        validated=False,
    )

    assert states == ["vendor=1", "vendor=1"]


@pytest.mark.parametrize("tracing", [False, True])
@pytest.mark.parametrize("how", ["send", "send_sync", "send_many"])
def test_a_sender_must_not_pass_the_key(how: str, tracing: bool, tmp_path: Path, spans: Spans) -> None:  # noqa: FBT001
    site = Site(tmp_path, tracing=tracing)

    def send(event: Event) -> None:
        if how == "send_sync":
            site.layer.send_sync("jobs", event)
        elif how == "send":
            asyncio.run(site.layer.send("jobs", event))
        else:
            asyncio.run(site.layer.send_many("jobs", [event]))

    for event in (TRACED, {"type": "free", "__trace__": None}):
        with pytest.raises(EventRejected) as caught:
            send(event)
        assert caught.value.code == "unsupported-value"
        assert str(caught.value).endswith("$ has the key '__trace__', which is reserved for tracing")


def test_a_send_does_not_change_the_callers_event(tmp_path: Path, spans: Spans) -> None:
    site = Site(tmp_path)
    event = dict(JOB)

    async def main() -> None:
        await site.layer.send("jobs", event)
        await site.layer.send_many("jobs", [event])
        stored = [delivery.event async for delivery in site.layer.peek("jobs")]
        assert [trace_id_of(each) for each in stored] == [f"{span.context.trace_id:032x}" for span in spans("send")]
        assert [without_trace(each or {}) for each in stored] == [JOB, JOB]

    site.run(main())
    assert event == JOB


def test_without_tracing_events_carry_nothing_and_nothing_is_recorded(tmp_path: Path, spans: Spans) -> None:
    site = Site(tmp_path, tracing=False)

    async def main() -> None:
        with trace.get_tracer("test").start_as_current_span("request"):
            await site.layer.send("jobs", JOB)
        assert [delivery.event async for delivery in site.layer.peek("jobs")] == [JOB]
        await site.drain(consumer(AsyncConsumer, note_nothing))

    site.run(main())
    assert [span.name for span in spans()] == ["request"]


def test_private_channels_and_groups_are_not_traced(tmp_path: Path, spans: Spans) -> None:
    site = Site(tmp_path)
    current: list[tuple[str, bool, bool]] = []

    class Jobs(AsyncConsumer):
        async def job(self, event: Event) -> None:
            self.note(event)
            await self.channel_layer.send(self.channel_name, {"type": "free", "__trace__": "their own"})
            await self.channel_layer.group_add("all", self.channel_name)
            await self.channel_layer.group_add("all", "jobs")
            await self.channel_layer.group_send("all", {"type": "told"})

        async def free(self, event: Event) -> None:
            self.note(event)

        async def told(self, event: Event) -> None:
            self.note(event)
            if "__trace__" not in event and len(current) >= 3:
                raise StopConsumer

        def note(self, event: Event) -> None:
            current.append((event["type"], "__trace__" in event, trace.get_current_span().is_recording()))

    async def main() -> None:
        application = Jobs.as_asgi()
        current_layer.set(site.layer)
        await site.layer.send("jobs", JOB)
        waiting = [await site.layer.receive("jobs")]

        async def receive() -> Event:
            if not waiting:
                await asyncio.Event().wait()
            return waiting.pop()

        await asyncio.wait_for(site.router(application)({"type": "channel", "channel": "jobs"}, receive, no_send), 20)

    site.run(main())

    assert current == [("job", False, True), ("free", True, False), ("told", False, False)]
    assert [span.name for span in spans()] == ["send jobs", "process jobs"]


async def no_send(event: Event) -> None:
    raise AssertionError(event)


def test_a_private_event_does_not_end_the_wait_for_the_next_one(tmp_path: Path, spans: Spans, until: Until) -> None:
    site = Site(tmp_path)
    seen: list[str] = []

    class Jobs(SyncConsumer):
        def job(self, event: Event) -> None:
            seen.append(self.channel_name)

        def free(self, event: Event) -> None:
            seen.append("free")

    async def main() -> None:
        current_layer.set(site.layer)
        worker = Worker(site.router(Jobs.as_asgi()), {"jobs": site.channel.service}, site.layer.layer)
        serving = asyncio.ensure_future(worker.serve())
        await site.layer.send("jobs", JOB)
        await until(lambda: len(seen) == 1)
        await site.layer.send(seen[0], {"type": "free"})
        await until(lambda: len(seen) == 2)
        await site.layer.send("jobs", {"type": "free"})
        await until(lambda: len(seen) == 3)
        worker.stop()
        await serving

    site.run(main())

    assert seen[1:] == ["free", "free"]
    for send, process in zip(spans("send"), spans("process"), strict=True):
        assert_delivers(process, send)


# Other applications.


def test_an_application_that_takes_events_at_hand_has_a_span_for_each(tmp_path: Path, spans: Spans) -> None:
    site = Site(tmp_path)
    ended: list[int] = []
    received: list[int] = []

    async def greedy(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        received.append(time.time_ns())
        at_hand = at_hand_of(receive)
        assert at_hand is not None
        while at_hand():
            received.append(time.time_ns())
            ended.append(len(spans("process")))

    pass_through(Gate(site.channel, greedy, tracing=True), [TRACED, TRACED, TRACED], at_hand=True)

    assert ended == [1, 2]
    processes = spans("process")
    assert [f"{process.context.trace_id:032x}" for process in processes] == [TRACE_ID] * 3
    for process, at in zip(processes, received, strict=True):
        assert process.start_time is not None
        assert process.end_time is not None
        assert process.start_time <= at <= process.end_time


def test_an_application_that_ends_has_handled_its_event(tmp_path: Path, spans: Spans) -> None:
    site = Site(tmp_path)

    async def once(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    site.handle(once, JOB)

    assert error_type(spans.only("process")) is None
    assert_delivers(spans.only("process"), spans.only("send"))


def test_an_application_that_a_handler_runs_is_not_in_its_span_machinery(tmp_path: Path, spans: Spans) -> None:
    site = Site(tmp_path)
    inner_spans = []

    def note(_consumer: Any, _event: Event) -> None:
        inner_spans.append(trace.get_current_span().get_span_context().span_id)

    class Jobs(AsyncConsumer):
        async def job(self, event: Event) -> None:
            events = [JOB, JOB]

            async def receive() -> Event:
                if not events:
                    raise StopConsumer
                return events.pop()

            await consumer(AsyncConsumer, note)({"type": "channel"}, receive, no_send)

    site.handle(Jobs.as_asgi(), JOB)

    assert inner_spans == [spans.only("process").context.span_id] * 2


def test_an_event_that_a_middleware_makes_has_a_span_of_its_own(tmp_path: Path, spans: Spans) -> None:
    site = Site(tmp_path)

    async def doubling(scope: Scope, receive: Receive, send: Send) -> None:
        again: list[Event] = []

        async def receive_twice() -> Event:
            if again:
                return again.pop()
            again.append(await receive())
            return again[0]

        await consumer(AsyncConsumer, note_nothing)(scope, receive_twice, send)

    site.handle(doubling, JOB)

    first, second = spans("process")
    assert_delivers(first, spans.only("send"))
    assert (second.parent, attributes(second).get("messaging.message.id")) == (None, None)


# An SDK that fails, or none.


class BrokenSpan(trace.NonRecordingSpan):
    def end(self, end_time: int | None = None) -> None:
        raise RuntimeError("exporter gone")


class BrokenTracer:
    def __init__(self, *, starts: bool) -> None:
        self.starts = starts

    def start_span(self, *_: Any) -> trace.Span:
        if not self.starts:
            raise RuntimeError("sampler gone")
        return BrokenSpan(trace.INVALID_SPAN_CONTEXT)


@OURS
@pytest.mark.parametrize("starts", [False, True])
def test_an_sdk_that_fails_costs_no_event(
    base: type[Any],
    starts: bool,  # noqa: FBT001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(tracing_module, "_tracer", BrokenTracer(starts=starts))
    monkeypatch.setattr(tracing_module._logged_errors, "_next_log", 0.0)
    site = Site(tmp_path)
    seen: list[Event] = []

    site.handle(consumer(base, lambda _, event: seen.append(event)), JOB, JOB, {"type": "free"})

    assert seen == [JOB, JOB, {"type": "free"}]
    (record,) = [record for record in caplog.records if record.name == "channelmap.tracing"]
    assert record.getMessage() == f"OpenTelemetry failed: RuntimeError: {'exporter' if starts else 'sampler'} gone"


def python(code: str, *, directory: Path) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


SEND_AND_PEEK = """
import asyncio, sys
from channelmap import get_channel_layer, load_router
layer = get_channel_layer()
layer.send_sync("jobs", {"type": "job", "id": 1})
async def main():
    print([delivery.event async for delivery in layer.peek("jobs")])
asyncio.run(main())
load_router()
print(any(name.startswith("opentelemetry") for name in sys.modules))
"""


@pytest.mark.parametrize("tracing", [False, True])
def test_without_an_sdk_events_carry_nothing_and_without_tracing_nothing_is_imported(
    tracing: bool,  # noqa: FBT001
    project: Path,
) -> None:
    site = Site(project, f"sqlite:///{project}/events.db", tracing=tracing)
    site.path.write_text(site.path.read_text().replace("nowhere.Jobs", "work.jobs"))
    (project / "work.py").write_text("async def jobs(scope, receive, send): ...\n")

    assert python(SEND_AND_PEEK, directory=project).splitlines() == ["[{'type': 'job', 'id': 1}]", str(tracing)]


HIDDEN = "import sys\nsys.modules['opentelemetry'] = None\n"
OPEN = """
from channelmap import get_channel_layer
try:
    get_channel_layer()
except Exception as error:
    print(type(error).__name__, error)
"""
MISSING = "'tracing: true' needs the extra 'otel': pip install 'channelmap[otel]' ("


@pytest.mark.parametrize(
    "arguments", [["runworker"], ["runworker", "--processes", "2"], ["send", "jobs", json.dumps(JOB)]]
)
def test_a_command_that_lacks_opentelemetry_says_so_once(
    arguments: list[str], project: Path, run: Callable[..., Any]
) -> None:
    site = Site(project, f"sqlite:///{project}/events.db")
    site.path.write_text(site.path.read_text().replace("nowhere.Jobs", "work.jobs"))
    (project / "work.py").write_text("async def jobs(scope, receive, send): ...\n")
    (project / "sitecustomize.py").write_text(HIDDEN)

    process = run(*arguments, PYTHONPATH=str(project))

    assert process.popen.returncode == 2
    assert process.errors.count(MISSING) == 1
    assert "Traceback" not in process.errors


def test_a_sender_that_lacks_opentelemetry_learns_it_from_the_first_call(project: Path) -> None:
    Site(project)
    assert python(HIDDEN + OPEN, directory=project).startswith(f"TracingUnavailable {MISSING}")


def test_a_layer_whose_file_is_written_later_traces_from_its_first_send(project: Path, spans: Spans) -> None:
    layer = get_channel_layer(project / "channels.yaml")
    Site(project)

    layer.send_sync("jobs", JOB)

    assert spans.only("send").name == "send jobs"


def test_a_router_of_a_contract_that_traces_has_gates_that_trace(
    project: Path, consumer_module: Callable[[str], Any], spans: Spans
) -> None:
    module = consumer_module("class Jobs(AsyncConsumer):\n    async def job(self, event): ...\n")
    site = Site(project)
    site.path.write_text(site.path.read_text().replace("nowhere", module.__name__))

    pass_through(load_router(site.path), [TRACED])

    assert f"{spans.only('process').context.trace_id:032x}" == TRACE_ID


def test_a_channel_named_by_the_environment_is_shown_as_it_is_written(
    project: Path, monkeypatch: pytest.MonkeyPatch, spans: Spans
) -> None:
    monkeypatch.setenv("HOST", "s3cret")
    path = project / "channels.yaml"
    path.write_text(
        "version: 1\nlayer: memory://\ntracing: true\n"
        "channels: {'${HOST}-jobs': {consumer: nowhere.Jobs, events: {job: true}}}\n"
    )
    contract = load(path)
    layer = ContractLayer(contract)

    layer.send_sync("s3cret-jobs", JOB)
    pass_through(Gate(contract.channel("s3cret-jobs"), consumer_of([]), tracing=True), [TRACED])

    assert [span.name for span in spans()] == ["send ${HOST}-jobs", "process ${HOST}-jobs"]
    assert "s3cret" not in str([attributes(span) for span in spans()])


# Logs and commands.


def test_log_lines_and_dead_letters_of_a_traced_event_have_its_trace_id(project: Path, run: Callable[..., Any]) -> None:
    site = Site(project, f"sqlite:///{project}/events.db", tracing=False)
    site.path.write_text(site.path.read_text().replace("nowhere.Jobs", "work.Jobs"))
    (project / "work.py").write_text(
        "from channelmap import AsyncConsumer\nclass Jobs(AsyncConsumer):\n"
        "    async def job(self, event):\n        assert '__trace__' in event, event\n"
        "    async def free(self, event): ...\n"
    )

    async def main() -> None:
        await site.layer.layer.send("jobs", TRACED)
        await site.layer.layer.send("jobs", {**TRACED, "id": "one"})
        await site.layer.layer.send("jobs", JOB)

    site.run(main())
    checked = run("check", "--no-import", "--layer")
    peeked = run("peek", "jobs", "--payload")
    worker = run("runworker", "--burst", "--log-format", "json")
    shown = [json.loads(run("dead", "show", number).output) for number in "123"]
    replayed = run("dead", "replay", "--all")

    assert "'__trace__'" not in checked.output
    assert "__trace__" not in peeked.output
    lines = [json.loads(line) for line in worker.errors.splitlines()]
    errors = [line for line in lines if line["level"] == "ERROR"]
    assert [line.get("trace_id") for line in errors] == [TRACE_ID, TRACE_ID, None]
    letters = {letter["event"]["id"]: letter for letter in shown[:2]}
    assert all(letter["trace_id"] == TRACE_ID for letter in letters.values())
    assert "trace_id" not in shown[2]
    assert not any("__trace__" in letter["event"] for letter in shown)
    assert "replayed 2 of 3" in replayed.errors
    assert "schema-mismatch" in replayed.output
    assert "'__trace__'" not in replayed.output

    async def stored() -> list[Event | None]:
        layer = ContractLayer(site.contract)
        found = [delivery.event async for delivery in layer.peek("jobs")]
        await layer.close()
        return found

    assert asyncio.run(stored()) == [TRACED, JOB]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((value, "") for value in BROKEN),
        ({"traceparent": TRACEPARENT}, TRACE_ID),
        ({"traceparent": f"cc{TRACEPARENT[2:]}-more"}, TRACE_ID),
    ],
)
def test_the_trace_id_of_an_event_is_that_of_a_valid_context(value: Any, expected: str) -> None:
    assert trace_id_of({"__trace__": value}) == expected
    assert trace_id_of({}) == trace_id_of(None) == ""
