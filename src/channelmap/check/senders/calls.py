"""The calls in a module that look like the sending of an event, directly or through a helper function.

A helper is a function of the tree whose body is one call that sends, with arguments that are passed on. A call of it
sends what the helper would, with what the caller gives.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from channelmap.check.senders.literals import FUNCTIONS, Function, Known, Scope
from channelmap.check.senders.modules import Defined, TreeModule

#: The methods of a layer that send, and what their second argument is called; Channels calls an event a message.
_SENDING = {"send": ("event", "message"), "send_sync": ("event",), "send_many": ("events",)}
_LAYER = re.compile(r"(?:^|_)(?:channel_?)?layers?(?:$|_)", re.IGNORECASE)

#: Tests send what must be rejected, in a block that expects these.
_EXPECTING = {"raises", "assertRaises", "assertRaisesRegex"}
_REJECTIONS = {"EventRejected", "UnknownChannel", "ChannelMapError", "ValueError", "Exception"}


@dataclass(frozen=True, slots=True)
class Sending:
    """One call that sends.

    Attributes:
        module: where it is.
        call: the call itself.
        channel: the name of the channel.
        events: what is sent there; `None` where not even their number is known.
        by_layer: whether what is called is a channel layer, to all appearance.
        helper: what the called helper function sends, whatever its arguments; `None` where a layer is called.

    """

    module: TreeModule
    call: ast.Call
    channel: Known
    events: tuple[Known, ...] | None
    by_layer: bool
    helper: "Sending | None" = None


def sendings(module: TreeModule, *, through_helpers: bool) -> Iterator[Sending]:
    """Find the calls of a module that send, other than those that are expected to be rejected.

    Args:
        module: the module.
        through_helpers: whether the tree has any helper, so that every call is worth following.

    """
    # A list of what is still to be seen, not recursion: a long sum is a deep tree.
    waiting: list[tuple[ast.AST, Scope]] = [(module.source.tree, module.scope)]
    while waiting:
        node, scope = waiting.pop()
        if isinstance(node, ast.Call):
            sending = _sending(module, node, scope)
            if sending is None and through_helpers:
                sending = _through_helper(module, node, scope)
            if sending:
                yield sending
        if _expects_rejection(node):
            continue
        if isinstance(node, FUNCTIONS):
            scope = Scope(node, scope)
        waiting.extend((child, scope) for child in ast.iter_child_nodes(node))


def helpers(module: TreeModule) -> Iterator[str]:
    """Name the helper functions that a module defines."""
    for node in module.source.tree.body:
        if isinstance(node, Function) and (sending := _sent_by(Defined(module, node))) and sending.by_layer:
            yield node.name


def _only_call(function: Function) -> ast.Call | None:
    """Return the only call in the body of a function, if there is nothing else in it, nor around it."""
    if function.decorator_list:
        return None
    statements = [each for each in function.body if not _is_docstring(each)]
    if len(statements) != 1 or not isinstance(statements[0], ast.Expr | ast.Return):
        return None
    value = statements[0].value
    value = value.value if isinstance(value, ast.Await) else value
    return value if isinstance(value, ast.Call) else None


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _expects_rejection(node: ast.AST) -> bool:
    """Say whether the node is a block such as `with pytest.raises(EventRejected):`."""
    if not isinstance(node, ast.With | ast.AsyncWith):
        return False
    calls = (item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call))
    return any(
        _last_name(call.func) in _EXPECTING and any(_last_name(each) in _REJECTIONS for each in ast.walk(call))
        for call in calls
    )


def _sending(module: TreeModule, call: ast.Call, scope: Scope) -> Sending | None:
    method = _called(call)
    if not isinstance(method, ast.Attribute) or method.attr not in _SENDING:
        return None
    arguments = _arguments(call, _SENDING[method.attr])
    layers = _layers(method.value, scope)
    if arguments is None or layers == "others":
        return None
    channel, sent = (scope.read(argument) for argument in arguments)
    events: tuple[Known, ...] | None = (sent,)
    if method.attr == "send_many":
        events = tuple(sent.parts.values()) if isinstance(sent.value, list) else None
    return Sending(module, call, channel, events, layers == "ours")


def _through_helper(module: TreeModule, call: ast.Call, scope: Scope) -> Sending | None:
    """Read what a helper sends with the arguments of this call."""
    target = module.follow(_called(call), scope)
    if not isinstance(target, Defined) or isinstance(target.node, ast.ClassDef):
        return None
    given = _given(call, target.node, scope)
    sent, helper = _sent_by(target, given), _sent_by(target)
    if not given or sent is None:
        return None
    return Sending(module, call, sent.channel, sent.events, sent.by_layer, helper)


def _sent_by(target: Defined, given: Mapping[str, Known] | None = None) -> Sending | None:
    """Read what a helper sends when these arguments are given to it; None where it is not a helper."""
    assert isinstance(target.node, Function)
    call = _only_call(target.node)
    if call is None:
        return None
    return _sending(target.module, call, Scope(target.node, target.module.scope, arguments=given))


def _given(call: ast.Call, function: Function, scope: Scope) -> Mapping[str, Known]:
    """Return what is known of the arguments of a call, by parameter; empty where they cannot be told apart."""
    parameters = function.args
    if parameters.vararg or parameters.kwarg:
        return {}
    positional = [each.arg for each in (*parameters.posonlyargs, *parameters.args)]
    names = {*positional, *(each.arg for each in parameters.kwonlyargs)}
    given = dict(zip(positional, call.args, strict=False)) | {each.arg or "**": each.value for each in call.keywords}
    if any(isinstance(each, ast.Starred) for each in call.args) or not names >= set(given):
        return {}
    return {name: scope.read(value) for name, value in given.items()}


def _called(call: ast.Call) -> ast.expr:
    """Return what is called, through `async_to_sync` or not."""
    function = call.func
    if isinstance(function, ast.Call) and _last_name(function.func) == "async_to_sync" and len(function.args) == 1:
        return function.args[0]
    return function


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
