"""Related locations of diagnostics, in the user's code or in the contract."""

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from channelmap.check.rules import check
from channelmap.diagnostics import Diagnostic
from channelmap.loader import load

ConsumerModule = Callable[[str], ModuleType]

CODE = """\
    def decorated(handler):
        import functools
        return functools.wraps(handler)(lambda *arguments: handler(*arguments))

    class Consumer(AsyncConsumer):
        async def made(self, event): ...

        def plain(self, event): ...

        async def wrong(self): ...

        @decorated
        def wrapped(self, event): ...

    class Sync(SyncConsumer):
        async def hasty(self, event): ...
"""


def found(consumer: str, *event_types: str) -> tuple[Diagnostic, ...]:
    events = ", ".join(f"{name}: true" for name in event_types)
    text = f"version: 1\nchannels:\n  images: {{consumer: {consumer}, events: {{{events}}}}}\n"
    Path("channels.yaml").write_text(text)
    return check(load())


def related(code: str, consumer: str, *event_types: str) -> list[tuple[str, str]]:
    return [
        (str(place.location), place.message)
        for diagnostic in found(consumer, *event_types)
        if diagnostic.code == code
        for place in diagnostic.related
    ]


@pytest.mark.parametrize(
    ("code", "called", "place", "message"),
    [
        ("handler-missing", "Consumer.gone", "7:1", "Consumer"),
        ("handler-unreached", "Consumer.plain", "8:5", "Consumer.made"),
        ("handler-not-async", "Consumer.plain", "10:5", "Consumer.plain"),
        ("handler-not-async", "Consumer.wrapped", "14:5", "Consumer.wrapped"),
        ("handler-wrong-arguments", "Consumer.wrong", "12:5", "Consumer.wrong"),
        ("handler-not-sync", "Sync.hasty", "18:5", "Sync.hasty"),
    ],
)
def test_a_finding_about_a_handler_has_the_location_of_the_code(
    code: str, called: str, place: str, message: str, consumer_module: ConsumerModule
) -> None:
    module = consumer_module(CODE).__name__
    consumer, event_type = called.split(".")
    assert related(code, f"{module}.{consumer}", event_type) == [(f"{module}.py:{place}", message)]


def test_a_decorated_handler_has_the_location_of_the_handler_and_not_of_the_decorator(
    consumer_module: ConsumerModule,
) -> None:
    decorators = consumer_module("""\
        import functools


        def logged(handler):
            @functools.wraps(handler)
            def wrapper(self, event, more): ...
            return wrapper
    """).__name__
    module = consumer_module(f"""\
        from {decorators} import logged

        class Consumer(AsyncConsumer):
            @logged
            async def made(self, event): ...
    """).__name__
    assert related("handler-wrong-arguments", f"{module}.Consumer", "made") == [(f"{module}.py:6:5", "Consumer.made")]


def test_code_without_a_source_has_no_related_location(consumer_module: ConsumerModule) -> None:
    module = consumer_module("exec('class Made(AsyncConsumer): pass')").__name__
    assert [diagnostic.related for diagnostic in found(f"{module}.Made", "made")] == [()]


@pytest.mark.parametrize("code", ["import os\n\nraise RuntimeError('no')\n", "import os\n\nif:\n"])
def test_a_module_that_cannot_be_imported_has_the_location_at_which_it_raised(code: str, project: Path) -> None:
    name = f"broken_{len(code)}"
    (project / f"{name}.py").write_text(code)
    (diagnostic,) = found(f"{name}.Consumer", "made")
    assert diagnostic.code == "consumer-import-failed"
    assert [str(place.location) for place in diagnostic.related] == [f"{name}.py:3:1"]
    assert f" at {name}.py:3" in diagnostic.message
    assert os.fspath(project) not in diagnostic.message


def test_a_module_that_raises_in_code_without_a_file_has_no_related_location(project: Path) -> None:
    (project / "made_up.py").write_text("exec(compile('raise OSError', '<made up>', 'exec'))\n")
    (diagnostic,) = found("made_up.Consumer", "made")
    assert (diagnostic.code, diagnostic.related) == ("consumer-import-failed", ())


def test_the_first_of_two_similar_names_is_a_related_location(project: Path) -> None:
    Path("channels.yaml").write_text("""version: 1
channels:
  a.b: {consumer: a.B, events: {made: true}}
  a-b: {consumer: a.B, events: {made: true, Made: true}}
""")
    alike = [diagnostic for diagnostic in check(load(), imports=False) if diagnostic.code == "names-alike"]
    assert [(d.channel, d.event_type, str(d.related[0].location), d.related[0].message) for d in alike] == [
        ("a-b", "", "channels.yaml:3:3", "'a.b'"),
        ("a-b", "Made", "channels.yaml:4:33", "'made'"),
    ]
