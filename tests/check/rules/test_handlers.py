"""Findings about handlers, and none about handlers of ordinary consumers."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from channelmap.check.rules import check
from channelmap.diagnostics import Diagnostic
from channelmap.loader import load
from channelmap.preflight import preflight

ConsumerModule = Callable[[str], ModuleType]


@pytest.fixture
def codes(project: Path, consumer_module: ConsumerModule) -> Callable[[str], list[str]]:
    """Write a class `Consumer` with the handler `made`, check it, and return the codes of the findings."""

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


@pytest.fixture
def find(project: Path, consumer_module: ConsumerModule) -> Callable[..., list[Diagnostic]]:
    """Write a handler `made` with this body, imports and decorator, or other code, and return the findings."""
    (project / "errors.py").write_text(
        "def other(): raise Retry\nfrom channelmap import Retry\nclass Busy(Retry): ...\nclass Late(Retry): ...\n"
    )

    def write(imports: str, body: str = "pass", decorator: str = "", made: str = "made") -> list[Diagnostic]:
        module = consumer_module(
            f"import functools\nimport errors\nfrom errors import Busy\n{imports}\n"
            "def wrapping(handler):\n"
            "    @functools.wraps(handler)\n"
            "    async def inner(self, event): await handler(self, event)\n"
            "    return inner\n"
            "class Consumer(AsyncConsumer):\n"
            f"    {decorator}\n"
            f"    async def made(self, event):\n{textwrap.indent(body, ' ' * 8)}\n"
            f"    made = {made}\n"
        )
        consumer = f"{module.__name__}.Consumer"
        (project / "channels.yaml").write_text(
            f"version: 1\nchannels:\n  images: {{consumer: {consumer}, events: {{made: true}}}}\n"
        )
        return list(check(load()))

    return write


Find = Callable[..., list[Diagnostic]]


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
def test_any_callable_that_returns_a_coroutine_may_handle_events_of_an_async_consumer(
    codes: Codes, handler: str
) -> None:
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
def test_a_callable_that_returns_no_coroutine_cannot_handle_events_of_an_async_consumer(
    codes: Codes, handler: str
) -> None:
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
def test_a_method_that_other_code_may_call_is_not_an_unreached_handler(codes: Codes, helper: str) -> None:
    assert (
        codes(f"""
        class Consumer(AsyncConsumer):
            async def made(self, event): ...

            {helper}
    """)
        == []
    )


@pytest.mark.parametrize("argument", ["event", "_event", "message"])
def test_a_method_that_takes_an_event_and_has_no_event_type_is_an_unreached_handler(
    codes: Codes, argument: str
) -> None:
    assert codes(f"""
        class Consumer(AsyncConsumer):
            async def made(self, event): ...

            async def gone(self, {argument}): ...
    """) == ["handler-unreached"]


@pytest.mark.parametrize(
    ("imports", "body"),
    [
        ("from channelmap import Retry", "raise Retry"),
        ("from channelmap import Retry as Later", "raise Later(after=1)"),
        ("import channelmap", "raise channelmap.Retry(after=1)"),
        ("import channelmap as cm", "raise cm.Retry"),
        ("", "from channelmap import Retry; raise Retry()"),
        ("", "import channelmap.handling as h; raise h.Retry()"),
        ("", "import channelmap.handling; raise channelmap.handling.Retry()"),
        ("", "raise Busy()"),
        ("", "raise errors.Late"),
        ("from channelmap import Retry", "[event for event in []] or event; raise Retry()"),
        ("from channelmap import Retry", "async with event:\n    for _ in event:\n        if _: raise Retry()"),
        ("from channelmap import Retry", "match event:\n    case {}: raise Retry()"),
        ("from channelmap import Retry", "try: pass\nexcept Exception: raise Retry()"),
        ("from channelmap import Retry", "try: pass\nexcept* Exception: pass\nelse: raise Retry()"),
        ("from channelmap import Retry", "try: pass\nexcept: pass\nfinally: raise Retry()"),
        ("from channelmap import Retry", "try: raise Retry()\nexcept (KeyError, ValueError): pass"),
        ("from channelmap import Retry", "try: raise Retry()\nfinally: pass"),
        ("from channelmap import Retry", "'ä'; raise Retry()\n'''less\n'''"),
    ],
)
@pytest.mark.parametrize("decorator", ["", "@wrapping"])
def test_a_handler_of_an_at_most_once_channel_that_raises_retry_is_found(
    find: Find, imports: str, body: str, decorator: str
) -> None:
    (found,) = find(imports, body, decorator)
    assert found.code == "handler-retry-at-most-once"
    (raised,) = found.related
    line = Path(raised.location.path).read_text().splitlines()[raised.location.line - 1]
    assert line[raised.location.column - 1 :].startswith("raise ")


@pytest.mark.parametrize(
    ("imports", "body"),
    [
        ("from channelmap import Retry", "raise ValueError(Retry)"),
        ("from channelmap import Retry, Reject", "raise Reject('gone')"),
        ("from channelmap import Retry", "try: raise Retry()\nexcept Retry: raise"),
        ("from channelmap import Retry", "try: raise Retry()\nexcept (KeyError, Exception): pass"),
        ("from channelmap import Retry", "try: raise Retry()\nexcept: pass"),
        ("from channelmap import Retry", "try: raise Retry()\nexcept event: pass"),
        ("from channelmap import Retry", "try: raise Retry()\nexcept* Exception: pass"),
        ("from channelmap import Retry", "def later(): raise Retry()\nassert Retry\nawait event(later)"),
        ("from channelmap import Retry", "class Later:\n    def go(self): raise Retry()\nLater(Retry)"),
        ("from channelmap import Retry", "Retry = event.Retry; raise Retry()"),
        ("", "class Retry(Exception): ...\nraise Retry()"),
        ("", "from redis.retry import Retry; raise Retry()"),
        ("", "from .errors import Retry; raise Retry()"),
        ("Retry = ValueError", "raise Retry()"),
        ("", "raise Retry()"),
        ("", "raise event.Retry()"),
    ],
)
def test_a_retry_that_does_not_leave_the_handler_is_not_reported(find: Find, imports: str, body: str) -> None:
    assert find(imports, body) == []


@pytest.mark.parametrize("file", ["'<string>'", "errors.__file__"])
def test_a_handler_without_a_source_is_not_reported(find: Find, file: str) -> None:
    code = "async def hidden(self, event): raise Retry()"
    assert find(f"from channelmap import Retry\nexec(compile('{code}', {file}, 'exec'))", made="hidden") == []


@pytest.mark.parametrize(
    ("arguments", "made"), [("event", "staticmethod(function)"), ("cls, event", "classmethod(function)")]
)
def test_static_methods_and_class_methods_are_checked_for_retry_too(find: Find, arguments: str, made: str) -> None:
    imports = f"from channelmap import Retry\nasync def function({arguments}): raise Retry()"
    assert [one.code for one in find(imports, made=made)] == ["handler-retry-at-most-once"]


def test_retry_is_found_in_a_class_of_a_closure(find: Find) -> None:
    imports = (
        "from channelmap import Retry\n"
        "def make(kind):\n"
        "    async def made(self, event): raise kind()\n"
        "    return made\n"
    )
    assert [one.code for one in find(imports, made="make(Retry)")] == ["handler-retry-at-most-once"]
    assert find(imports, made="make(ValueError)") == []
    empty = imports.replace("make(kind)", "make()") + "    kind = 1\n"
    assert find(empty, made="make()") == []


def test_handlers_of_a_class_that_is_not_a_consumer_are_not_checked(codes: Codes) -> None:
    assert (
        codes("""
        from channelmap import Retry

        class Consumer:
            @classmethod
            def as_asgi(cls): ...

            async def made(self, event): raise Retry()
    """)
        == []
    )


def test_a_retry_on_an_at_most_once_channel_does_not_stop_a_worker_from_starting(find: Find) -> None:
    assert len(find("", "raise Busy()")) == 1
    assert preflight(load()) == ()
