"""Which handlers are complained about: what real consumers look like is none of them."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from channelmap.checks import check
from channelmap.loader import load

ConsumerModule = Callable[[str], ModuleType]


@pytest.fixture
def codes(project: Path, consumer_module: ConsumerModule) -> Callable[[str], list[str]]:
    """Write a class `Consumer` with the handler `made`, and say what is found."""

    def find(body: str, imports: str = "") -> list[str]:
        module = consumer_module(f"""
        import functools
        from asgiref.sync import async_to_sync, sync_to_async
        from channels.db import database_sync_to_async
        from channels.generic.websocket import AsyncJsonWebsocketConsumer, WebsocketConsumer
        {imports}
        {body}
        """)
        (project / "channels.yaml").write_text(
            f"version: 1\nchannels:\n  images: {{consumer: {module.__name__}.Consumer, events: {{made: true}}}}\n"
        )
        return [diagnostic.code for diagnostic in check(load())]

    return find


Codes = Callable[[str], list[str]]


@pytest.mark.parametrize(
    "handler",
    [
        "made = functools.partialmethod(_any, kind=1)",
        "made = Callable()",
        "made = functools.partial(function)",
        "@unwrapped\n            async def made(self, event): ...",
        "@sync_to_async\n            def made(self, event): ...",
        "@database_sync_to_async\n            def made(self, event): ...",
        "@staticmethod\n            async def made(event): ...",
        "@classmethod\n            async def made(cls, event): ...",
    ],
)
def test_whatever_returns_a_coroutine_may_be_the_handler_of_an_async_consumer(codes: Codes, handler: str) -> None:
    assert (
        codes(f"""
        async def function(event): ...

        def unwrapped(handler):
            def inner(self, event):
                return handler(self, event)
            return inner

        class Callable:
            async def __call__(self, event): ...

        class Consumer(AsyncConsumer):
            async def _any(self, event, kind): ...

            {handler}
    """)
        == []
    )


@pytest.mark.parametrize(
    "handler",
    [
        "made = functools.partialmethod(_any, kind=1)",
        "made = functools.partial(print)",
        "made = Callable()",
        "@unwrapped\n            def made(self, event): ...",
    ],
)
def test_what_returns_no_coroutine_is_not_the_handler_of_an_async_consumer(codes: Codes, handler: str) -> None:
    assert codes(f"""
        def unwrapped(handler):
            def inner(self, event):
                return handler(self, event)
            return inner

        class Callable:
            def __call__(self, event): ...

        class Consumer(AsyncConsumer):
            def _any(self, event, kind): ...

            {handler}
    """) == ["handler-not-async"]


@pytest.mark.parametrize(
    "helper",
    [
        "async def load(self, number): ...",
        "async def step(self, event): ...\n            STEPS = {'step': step}",
        "async def step(self, event): ...\n            STEPS = [step]",
        "more = made",
        "async def on_start(self, event): ...\n            def _find(self, name): return getattr(self, name)",
        "groups = ['news']\n            async def told(self, event): ...",
        "async def websocket_receive(self, event): ...",
    ],
)
def test_a_method_that_may_be_called_otherwise_is_no_handler_without_an_event_type(codes: Codes, helper: str) -> None:
    assert (
        codes(f"""
        class Consumer(AsyncConsumer):
            async def made(self, event): ...

            {helper}
    """)
        == []
    )


@pytest.mark.parametrize("argument", ["event", "_event", "message"])
def test_a_method_that_takes_an_event_looks_like_a_handler(codes: Codes, argument: str) -> None:
    assert codes(f"""
        class Consumer(AsyncConsumer):
            async def made(self, event): ...

            async def gone(self, {argument}): ...
    """) == ["handler-unreached"]
