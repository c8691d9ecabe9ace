"""docs/python-api.md has every public name, with its signature and its docstring."""

import ast
import inspect
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import channelmap
from channelmap import observer, testing
from channelmap.monitor import sending as monitor_sending

API = Path(__file__).parents[2] / "docs" / "python-api.md"
#: The line that ends the hand-written part.
MARK = "<!-- What follows is written by tests/docs/test_python_api.py, from the docstrings. -->\n"

#: The names below each heading.
GROUPS = {
    "Sending": ("get_channel_layer", "ContractLayer", "Counts", "DeadLetter", "Delivery", "Purged", "WorkerInfo"),
    "Consumers": (
        *("AsyncConsumer", "SyncConsumer", "StopConsumer", "Retry", "Reject"),
        *("CurrentDelivery", "current_delivery"),
    ),
    "Contracts": ("load", "Contract", "Channel", "EventType", "Diagnostic", "Location", "Severity"),
    "Routing and serving": ("load_router", "ChannelNameRouter", "ProtocolTypeRouter", "Worker", "ChannelLayer"),
    "Observing": (
        *(f"observer.{name}" for name in (
            *("Step", "EventStep", "Sent", "Rejected", "Taken", "Started", "Finished", "Failed", "Retried", "Dead"),
            *("Renewed", "Lost", "LayerAway", "LayerBack"),
        )),
        "monitor.sending.export_metrics",
    ),
    "Testing": tuple(
        f"testing.{name}" for name in (
            *("memory_layer", "MemoryLayerMixin", "sent_events", "SentEvent", "drain", "adrain", "InProcessWorker"),
            "event_for",
        )
    ),
    "Errors": (
        *("ChannelMapError", "ContractError", "EventRejected", "Violation", "UnknownChannel"),
        *("LayerError", "ChannelFull", "LayerUnavailable"),
    ),
}  # fmt: skip

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

_SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields):$")
_ENTRY = re.compile(r"^    (\*{0,2}[\w., ]+): (.*)$")


def test_every_public_name_is_listed_once() -> None:
    names = [name for group in GROUPS.values() for name in group]
    observed = [f"observer.{name}" for name in observer.__all__]
    exported = [f"monitor.sending.{name}" for name in monitor_sending.__all__]
    tested = [f"testing.{name}" for name in testing.__all__]
    assert sorted(names) == sorted([*channelmap.__all__, *observed, *exported, *tested])


def test_the_reference_consists_of_the_docstrings() -> None:
    by_hand, mark, written = API.read_text(encoding="utf-8").partition(MARK)
    assert mark, f"docs/python-api.md lacks the line {MARK}"
    expected = "".join(f"\n## {heading}\n{''.join(map(entry, names))}" for heading, names in GROUPS.items())
    if "RENEW" in os.environ:
        API.write_text(by_hand + MARK + expected, encoding="utf-8")
    else:
        assert written == expected, "docs/python-api.md is older than the docstrings; to write it anew, `make renew`"


def entry(name: str) -> str:
    code = definition(name)
    lines = [f"\n### {name}\n", *signature(code), *text(code)]
    if isinstance(code, ast.ClassDef):
        for method in public_methods(code):
            lines += [f"\n#### {name}.{method.name}\n", *signature(method), *text(method)]
    return "\n".join(lines) + "\n"


def definition(name: str) -> Definition:
    """Return the source of a public name, so that signatures are shown as written in any version of Python."""
    below, _, own = name.rpartition(".")
    module = inspect.getmodule(getattr(sys.modules[f"channelmap.{below}".rstrip(".")], own))
    assert module is not None
    for code in ast.parse(inspect.getsource(sys.modules[module.__name__])).body:
        if isinstance(code, Definition) and code.name == own:
            return code
    raise AssertionError(f"{module.__name__} does not define {name}")


def public_methods(code: ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for part in code.body:
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            is_public = not part.name.startswith("_") and ast.get_docstring(part)
            if is_public and not any(ast.unparse(mark).endswith(".setter") for mark in part.decorator_list):
                yield part


def signature(code: Definition) -> list[str]:
    if isinstance(code, ast.ClassDef):
        made = next((part for part in code.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None)
        if made is None:
            return []
        return ["```text", f"{code.name}({without_self(made)})", "```", ""]
    marks = {ast.unparse(mark) for mark in code.decorator_list}
    if marks & {"property", "cached_property"}:
        return [f"A property: `{ast.unparse(code.returns) if code.returns else 'Any'}`.", ""]
    kind = "async " if isinstance(code, ast.AsyncFunctionDef) else ""
    returned = f" -> {ast.unparse(code.returns)}" if code.returns else ""
    return ["```text", f"{kind}{code.name}({without_self(code)}){returned}", "```", ""]


def without_self(code: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return re.sub(r"^(self|cls)(, |$)", "", ast.unparse(code.args)).removeprefix("/, ")


def text(code: Definition) -> list[str]:
    """Convert a docstring to markdown; sections become lists."""
    shown: list[str] = []
    section = ""
    for line in (ast.get_docstring(code) or "").replace("``", "`").splitlines():
        if found := _SECTION.match(line):
            section = found[1]
            shown += [f"{section}:", ""]
        elif section and (part := _ENTRY.match(line)):
            shown.append(f"- `{part[1]}`: {part[2]}")
        elif section and line.startswith("    "):
            shown.append("  " + line.strip())
        else:
            section = section if line.strip() == "" else ""
            shown.append(line)
    return shown
