"""Find handlers that raise `Retry` on an at-most-once channel, from their source, without running them."""

import ast
import builtins
import inspect
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import CellType, FunctionType, ModuleType
from typing import Any

from channelmap.codes import Code
from channelmap.consumers import handler_name, handlers_of
from channelmap.contract import Channel, EventType
from channelmap.diagnostics import Diagnostic, Location, Related
from channelmap.errors import quoted
from channelmap.handling import Retry
from channelmap.loader.files import label_of
from channelmap.preflight.handlers import framework_bases

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def handler_retry_at_most_once(
    consumer: type, channel: Channel, event_type: EventType, location: Location
) -> Iterator[Diagnostic]:
    """Find a handler that raises `Retry` itself although its channel is at-most-once.

    Args:
        consumer: the consumer's class.
        channel: its channel.
        event_type: the event type of the handler.
        location: where the event type is declared.

    """
    name = handler_name(event_type.name)
    if channel.service.retry is not None or not framework_bases(consumer) or name not in handlers_of(consumer):
        return
    handler = inspect.unwrap(getattr(consumer, name))
    function = getattr(handler, "__func__", handler)
    if isinstance(function, FunctionType) and (raised := _first_retry(function)):
        message = f"{consumer.__name__}.{name} raises Retry, but channel {quoted(channel.name)} is at-most-once"
        hint = "add 'delivery: at-least-once', or raise Reject"
        related = (Related(raised, "raised here"),)
        yield Diagnostic(location, Code.HANDLER_RETRY_AT_MOST_ONCE, message, hint, related=related)


def _first_retry(function: FunctionType) -> Location | None:
    """Return the first location at which a function raises `Retry`; `None` if none is found."""
    names = _Names(function)
    # A quick test first: reading and parsing the source is slow.
    if not names.may_lead_to_retry(function.__code__.co_names + function.__code__.co_freevars):
        return None
    try:
        path, (lines, first) = inspect.getsourcefile(function), inspect.getsourcelines(function)
        definition, above = _definition("".join(lines))
    except (OSError, TypeError, ValueError, SyntaxError):
        return None
    # Generated code may have the file and line of other code.
    if path is None or getattr(definition, "name", "") != function.__name__:
        return None
    names.add_imports(definition)
    for statement in _raises(ast.iter_child_nodes(definition), names):
        number = statement.lineno - above - 1
        column = len(lines[number].encode()[: statement.col_offset].decode()) + 1
        return Location(label_of(Path(path)), first + number, column)
    return None


def _definition(source: str) -> tuple[ast.stmt, int]:
    """Parse the source of a function, which may be indented; return it, and the number of lines added above it."""
    above = int(source[:1].isspace())
    tree: Any = ast.parse("if True:\n" * above + source)
    return (tree.body[0].body[0] if above else tree.body[0]), above


def _raises(nodes: Iterable[ast.AST], names: "_Names") -> Iterator[ast.Raise]:
    """Yield the statements that raise `Retry` out of a function, in order."""
    for node in nodes:
        if isinstance(node, ast.Raise):
            raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if names.is_retry(raised):
                yield node
        elif isinstance(node, (ast.Try, ast.TryStar)) and any(map(names.may_catch_retry, node.handlers)):
            for handler in node.handlers:
                yield from _raises(handler.body, names)
            yield from _raises([*node.orelse, *node.finalbody], names)
        elif not isinstance(node, _SCOPES):
            yield from _raises(ast.iter_child_nodes(node), names)


class _Names:
    """What the names in a function's source refer to, as far as that is known without running it."""

    def __init__(self, function: FunctionType) -> None:
        code = function.__code__
        local = {*code.co_varnames, *code.co_cellvars}
        cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
        closure = {name: cell.cell_contents for name, cell in cells if cell != CellType()}
        known = {**vars(builtins), **function.__globals__, **closure}
        self._known = {name: value for name, value in known.items() if name not in local}

    def add_imports(self, function: ast.AST) -> None:
        """Add the names that the function itself imports from modules that are already imported."""
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    name = alias.asname or alias.name.partition(".")[0]
                    self._known[name] = sys.modules.get(alias.name if alias.asname else name)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                module = sys.modules.get(node.module or "")
                for alias in node.names:
                    self._known[alias.asname or alias.name] = _attribute(module, alias.name)

    def may_lead_to_retry(self, names: Sequence[str]) -> bool:
        """Whether code that uses these names may raise `Retry`."""
        values = [self._known.get(name) for name in names]
        held = [_attribute(value, name) for value in values if isinstance(value, ModuleType) for name in names]
        return "Retry" in names or any(map(_is_retry, [*values, *held]))

    def is_retry(self, node: ast.AST | None) -> bool:
        """Whether an expression is the class `Retry` or one that derives from it."""
        return _is_retry(self._value(node))

    def may_catch_retry(self, handler: ast.ExceptHandler) -> bool:
        """Whether an `except` may catch `Retry`; true in doubt."""
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        return any(not isinstance(kind, type) or issubclass(Retry, kind) for kind in map(self._value, kinds))

    def _value(self, node: ast.AST | None) -> Any:
        if isinstance(node, ast.Name):
            return self._known.get(node.id)
        return _attribute(self._value(node.value), node.attr) if isinstance(node, ast.Attribute) else None


def _attribute(value: Any, name: str) -> Any:
    """Return an attribute of a module, without running user code."""
    if value is sys.modules["channelmap"]:
        return getattr(value, name, None)
    return vars(value).get(name) if isinstance(value, ModuleType) else None


def _is_retry(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Retry)
