"""Find the calls in a module that send events, directly or through a helper function.

A helper is a function below the given paths whose body is one call that sends, with arguments that it passes on.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from channelmap.check.senders.literals import FUNCTIONS, Function, KnownValue, Scope
from channelmap.check.senders.modules import Defined, TreeModule

#: The methods of a layer that send, and the names of their second argument; Channels calls it `message`.
_SEND_METHODS = {
    "send": ("event", "message"), "send_sync": ("event",), "send_many": ("events",), "send_on_commit": ("event",),
}  # fmt: skip
#: Further arguments of these, which say nothing about the event.
_OPTIONS = {"delay", "at", "using"}
_BRIDGES = {"async_to_sync", "sync_to_async"}
_LAYER = re.compile(r"(?:^|_)(?:channel_?)?layers?(?:$|_)", re.IGNORECASE)

#: Functions and exceptions of blocks in which tests expect a rejection.
_EXPECT_CALLS = {"raises", "assertRaises", "assertRaisesRegex"}
_REJECTIONS = {"EventRejected", "UnknownChannel", "ChannelMapError", "ValueError", "Exception"}


@dataclass(frozen=True, slots=True)
class SendCall:
    """One call that sends.

    Attributes:
        module: the module that contains it.
        call: the call itself.
        channel: the name of the channel.
        events: the events; `None` if not even their number is known.
        by_layer: whether the called object looks like a channel layer.
        helper: the send in the called helper function, with unknown arguments; `None` if a layer is called directly.
        in_transaction: whether the call is in a visible `atomic` block of Django, and does not wait for its end.

    """

    module: TreeModule
    call: ast.Call
    channel: KnownValue
    events: tuple[KnownValue, ...] | None
    by_layer: bool
    helper: "SendCall | None" = None
    in_transaction: bool = False


def send_calls(module: TreeModule, *, through_helpers: bool) -> Iterator[SendCall]:
    """Find the calls of a module that send, other than those that are expected to be rejected.

    Args:
        module: the module.
        through_helpers: whether the tree has any helper, so that every call is worth following.

    """
    # A list of pending nodes, not recursion: a long sum is a deep tree.
    waiting: list[tuple[ast.AST, Scope, bool]] = [(module.source.tree, module.scope, False)]
    while waiting:
        node, scope, is_atomic = waiting.pop()
        if isinstance(node, ast.Call):
            send = _send_call(module, node, scope)
            if send is None and through_helpers:
                send = _through_helper(module, node, scope)
            if send:
                waits = getattr(_called((send.helper or send).call), "attr", "") == "send_on_commit"
                yield replace(send, in_transaction=is_atomic and not waits)
        if _expects_rejection(node):
            continue
        if isinstance(node, FUNCTIONS):
            scope = Scope(node, scope)
            # Its body runs later, perhaps by `on_commit`.
            is_atomic = any(_is_atomic(each) for each in getattr(node, "decorator_list", ()))
        elif isinstance(node, ast.With | ast.AsyncWith):
            is_atomic = is_atomic or any(_is_atomic(item.context_expr) for item in node.items)
        waiting.extend((child, scope, is_atomic) for child in ast.iter_child_nodes(node))


def helpers(module: TreeModule) -> Iterator[str]:
    """Return the names of the helper functions that a module defines."""
    for node in module.source.tree.body:
        if isinstance(node, Function) and (send := _send_in_helper(Defined(module, node))) and send.by_layer:
            yield node.name


def _only_call(function: Function) -> ast.Call | None:
    """Return the only call in a function, if its body has no other statement and it has no decorator."""
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
    """Return whether the node is a block such as `with pytest.raises(EventRejected):`."""
    if not isinstance(node, ast.With | ast.AsyncWith):
        return False
    calls = (item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call))
    return any(
        _last_name(call.func) in _EXPECT_CALLS and any(_last_name(each) in _REJECTIONS for each in ast.walk(call))
        for call in calls
    )


def _is_atomic(node: ast.expr) -> bool:
    """Return whether an expression is Django's `atomic`, as a decorator or as a block."""
    return _last_name(node.func if isinstance(node, ast.Call) else node) == "atomic"


def _send_call(module: TreeModule, call: ast.Call, scope: Scope) -> SendCall | None:
    method = _called(call)
    if not isinstance(method, ast.Attribute) or method.attr not in _SEND_METHODS:
        return None
    arguments = _arguments(call, _SEND_METHODS[method.attr])
    layers = _layer_kind(method.value, scope)
    if arguments is None or layers == "others":
        return None
    channel, sent = (scope.read(argument) for argument in arguments)
    events: tuple[KnownValue, ...] | None = (sent,)
    if method.attr == "send_many":
        events = tuple(sent.parts.values()) if isinstance(sent.value, list) else None
    return SendCall(module, call, channel, events, layers == "ours")


def _through_helper(module: TreeModule, call: ast.Call, scope: Scope) -> SendCall | None:
    """Return the send of a helper with the arguments of this call; None if the call is not one of a helper."""
    target = module.follow(_called(call), scope)
    if not isinstance(target, Defined) or isinstance(target.node, ast.ClassDef):
        return None
    given = _known_arguments(call, target.node, scope)
    sent, helper = _send_in_helper(target, given), _send_in_helper(target)
    if not given or sent is None:
        return None
    return SendCall(module, call, sent.channel, sent.events, sent.by_layer, helper)


def _send_in_helper(target: Defined, given: Mapping[str, KnownValue] | None = None) -> SendCall | None:
    """Return the send in a helper, called with these arguments; None if the function is not a helper."""
    assert isinstance(target.node, Function)
    call = _only_call(target.node)
    if call is None:
        return None
    return _send_call(target.module, call, Scope(target.node, target.module.scope, arguments=given))


def _known_arguments(call: ast.Call, function: Function, scope: Scope) -> Mapping[str, KnownValue]:
    """Return the known values of a call's arguments, by parameter; empty if they cannot be assigned to parameters."""
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
    """Return the called expression, without `async_to_sync` or `sync_to_async`."""
    function = call.func
    if isinstance(function, ast.Call) and _last_name(function.func) in _BRIDGES and len(function.args) == 1:
        return function.args[0]
    return function


def _arguments(call: ast.Call, names: tuple[str, ...]) -> tuple[ast.expr, ast.expr] | None:
    """Return the arguments for the channel and for the events; None if there are others, or not both."""
    given: dict[str, ast.expr] = dict(zip(("channel", names[0]), call.args, strict=False))
    keywords = [keyword for keyword in call.keywords if keyword.arg not in _OPTIONS]
    for keyword in keywords:
        given[names[0] if keyword.arg in names else keyword.arg or "**"] = keyword.value
    if len(call.args) + len(keywords) != 2 or set(given) != {"channel", names[0]}:
        return None
    return given["channel"], given[names[0]]


def _layer_kind(receiver: ast.expr, scope: Scope) -> Literal["ours", "others", "none"]:
    """Return whether a receiver looks like the contract's layer, another layer, or no layer."""
    if isinstance(receiver, ast.Name):
        bound = scope.binding(receiver.id)
        if isinstance(bound, ast.Call):
            receiver = bound
    nodes = list(ast.walk(receiver))
    if not any(_LAYER.search(_last_name(node)) for node in nodes):
        return "none"
    # `channel_layers["other"]` names another layer, which may have other channels.
    is_named = any(isinstance(node, ast.Constant) and node.value != "default" for node in nodes)
    return "others" if is_named else "ours"


def _last_name(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""
