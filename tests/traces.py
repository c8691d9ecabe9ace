"""What tests of tracing need: the spans that have ended, and a contract with tracing that a worker serves."""

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from channelmap import ChannelNameRouter, Worker, load
from channelmap.asgi import Application, Event
from channelmap.gate import Gate
from channelmap.layer import current_layer
from channelmap.sending import ContractLayer

CONTRACT = """\
version: 1
layer: {layer}
tracing: {tracing}
channels:
  jobs:
    consumer: nowhere.Jobs
    delivery: {delivery}
    capacity: 3
    {options}
    events:
      job:
        schema:
          properties: {{id: {{type: integer}}}}
          required: [id]
          additionalProperties: false
      free: true
"""
LEASED = "retry: {attempts: 2, delay: 0, jitter: 0}"
JOB = {"type": "job", "id": 1}


@functools.cache
def collect() -> InMemorySpanExporter:
    """Collect the spans of this process from now on; its provider can be set once."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


class Spans:
    """The spans that have ended since this was made."""

    def __init__(self) -> None:
        collect().clear()

    def __call__(self, name: str = "") -> list[ReadableSpan]:
        found = [span for span in collect().get_finished_spans() if span.name.startswith(name)]
        return sorted(found, key=lambda span: span.start_time or 0)

    def only(self, name: str = "") -> ReadableSpan:
        (span,) = self(name)
        return span


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def error_type(span: ReadableSpan) -> Any:
    assert (span.status.status_code is StatusCode.ERROR) is ("error.type" in attributes(span))
    return attributes(span).get("error.type")


def is_child(child: ReadableSpan, parent: ReadableSpan) -> bool:
    return child.parent is not None and child.parent.span_id == parent.context.span_id


def assert_delivers(process: ReadableSpan, send: ReadableSpan) -> None:
    """The send's context is the parent of a delivery, and its only link."""
    assert is_child(process, send)
    assert process.context.trace_id == send.context.trace_id
    assert [link.context.span_id for link in process.links] == [send.context.span_id]


class Site:
    """A contract with tracing, its layer, and the application that serves its channel `jobs`."""

    def __init__(
        self,
        directory: Path,
        layer: str = "memory://",
        *,
        leased: bool = False,
        options: str = "",
        tracing: bool = True,
    ) -> None:
        delivery, options = ("at-least-once", options or LEASED) if leased else ("at-most-once", options)
        values = {"layer": layer, "delivery": delivery, "options": options, "tracing": json.dumps(tracing)}
        self.path = directory / "channels.yaml"
        self.path.write_text(CONTRACT.format(**values))
        self.contract = load(self.path)
        self.channel = self.contract.channel("jobs")
        self.layer = ContractLayer(self.contract)

    def router(self, application: Application) -> ChannelNameRouter:
        return ChannelNameRouter({"jobs": Gate(self.channel, application, tracing=self.contract.tracing)})

    async def drain(self, application: Application) -> None:
        """Let a worker handle what waits."""
        current_layer.set(self.layer)
        worker = Worker(self.router(application), {"jobs": self.channel.service}, self.layer.layer, burst=True)
        await asyncio.wait_for(worker.serve(), 30)

    def run(self, main: Awaitable[None]) -> None:
        async def then_close() -> None:
            try:
                await main
            finally:
                await self.layer.close()

        asyncio.run(then_close())

    def handle(self, application: Application, *events: Event, validated: bool = True) -> None:
        """Send events and handle them; `validated=False` sends as another program may."""

        async def main() -> None:
            for event in events:
                await (self.layer if validated else self.layer.layer).send("jobs", event)
            await self.drain(application)

        self.run(main())


def consumer(base: type[Any], handle: Callable[[Any, Event], object]) -> Application:
    """A consumer of this kind whose handlers call a function."""
    if base.__name__ == "AsyncConsumer":

        async def job(self: Any, event: Event) -> None:
            handle(self, event)

    else:

        def job(self: Any, event: Event) -> None:  # type: ignore[misc]
            handle(self, event)

    made: Any = type("Jobs", (base,), {"job": job, "free": job})
    application: Application = made.as_asgi()
    return application


def note_nothing(_consumer: Any, _event: Event) -> None:
    pass
