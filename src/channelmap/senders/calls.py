"""The calls in a module that look like the sending of an event."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from channelmap.senders.literals import FUNCTIONS, Known, Scope

#: The methods of a layer that send, and what their second argument is called; Channels calls an event a message.
_SENDING = {"send": ("event", "message"), "send_sync": ("event",), "send_many": ("events",)}
_LAYER = re.compile(r"(?:^|_)(?:channel_?)?layers?(?:$|_)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sending:
    """One call that sends.

    Attributes:
        channel: the name of the channel.
        events: what is sent there.
        by_layer: whether what is called is a channel layer, to all appearance.

    """

    channel: Known
    events: tuple[Known, ...]
    by_layer: bool


def sendings(module: ast.Module) -> Iterator[Sending]:
    """Find the calls of a module that send to a channel that is known."""
    # A list of what is still to be seen, not recursion: a long sum is a deep tree.
    waiting: list[tuple[ast.AST, Scope]] = [(module, Scope(module))]
    while waiting:
        node, scope = waiting.pop()
        if isinstance(node, ast.Call):
            yield from _sending(node, scope)
        if isinstance(node, FUNCTIONS):
            scope = Scope(node, scope)
        waiting.extend((child, scope) for child in ast.iter_child_nodes(node))


def _sending(call: ast.Call, scope: Scope) -> Iterator[Sending]:
    method = call.func
    if isinstance(method, ast.Call) and _last_name(method.func) == "async_to_sync" and len(method.args) == 1:
        method = method.args[0]
    if not isinstance(method, ast.Attribute) or method.attr not in _SENDING:
        return
    arguments = _arguments(call, _SENDING[method.attr])
    if arguments is None:
        return
    layers = _layers(method.value, scope)
    channel, sent = (scope.read(argument) for argument in arguments)
    if layers == "others" or not isinstance(channel.value, str):
        return
    if method.attr != "send_many":
        yield Sending(channel, (sent,), layers == "ours")
    elif isinstance(sent.value, list):
        yield Sending(channel, tuple(sent.parts.values()), layers == "ours")


def _arguments(call: ast.Call, names: tuple[str, ...]) -> tuple[ast.expr, ast.expr] | None:
    """Return what stands for the channel and for what is sent; None where there is not exactly that."""
    given: dict[str, ast.expr] = dict(zip(("channel", names[0]), call.args, strict=False))
    for keyword in call.keywords:
        given[names[0] if keyword.arg in names else keyword.arg or "**"] = keyword.value
    if len(call.args) + len(call.keywords) != 2 or set(given) != {"channel", names[0]}:
        return None
    return given["channel"], given[names[0]]


def _layers(receiver: ast.expr, scope: Scope) -> Literal["ours", "others", "none"]:
    """Say whose layer it is that is called, if it looks like one."""
    if isinstance(receiver, ast.Name):
        bound = scope.binding(receiver.id)
        if isinstance(bound, ast.Call):
            receiver = bound
    nodes = list(ast.walk(receiver))
    if not any(_LAYER.search(_last_name(node)) for node in nodes):
        return "none"
    # `channel_layers["other"]` is one of several; it may have other channels.
    is_named = any(isinstance(node, ast.Constant) and node.value != "default" for node in nodes)
    return "others" if is_named else "ours"


def _last_name(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""
