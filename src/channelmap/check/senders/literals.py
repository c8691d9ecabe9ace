"""What is known of an expression's value without running anything: literals, and names bound once to one.

What is not known is told apart from what is, at every depth. Where there is any doubt, nothing is known: a name
that is bound twice, a dict that is looked at before it is sent and may have been changed there. Constants may be
imported: `Elsewhere` looks them up in other modules.
"""

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, TypeGuard

#: Deeper than people write; the reasons why a deep event is refused may take long to find.
MAX_DEPTH = 8

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Imported:
    """A name that an import binds.

    Attributes:
        module: the dotted module, without its leading dots.
        level: how many leading dots there are: 0 for an absolute import.
        name: the name in that module; empty where the module itself is bound.

    """

    module: str
    level: int = 0
    name: str = ""


Definition = Imported | Function | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a value.

    Attributes:
        node: where it is written.
        value: the value; `None` stands for whatever is not known in it, or for all of it.
        is_known: whether all of it is known.
        is_open: whether a dict may have further keys.
        parts: of a dict or list, by key or position.
        key: where its key is written, when it is a part of a dict.

    """

    node: ast.expr
    value: Any = None
    is_known: bool = False
    is_open: bool = False
    parts: Mapping[Any, "Known"] = field(default_factory=dict)
    key: ast.expr | None = None


class Elsewhere(Protocol):
    """The other modules, as one module sees them."""

    def constant(self, expression: ast.expr, scope: "Scope") -> ast.Constant | None:
        """Return the constant that a name or a dotted name stands for, where another module or a class defines it."""

    def may_hold(self, imported: Imported, name: str) -> bool:
        """Say whether `from … import *` of that module may bind the name."""


class Scope:
    """A module, or a function in it, and the names that are bound there.

    What a function inside looks at counts too: that errs on the safe side.

    Args:
        node: the module or function.
        outer: what is around it; `None` for a module.
        elsewhere: looks up what is imported; the outer scope's unless given.
        arguments: what is known of a function's parameters, for one call of it.

    """

    def __init__(
        self,
        node: ast.AST,
        outer: "Scope | None" = None,
        elsewhere: Elsewhere | None = None,
        arguments: Mapping[str, Known] | None = None,
    ) -> None:
        self._node = node
        self._outer = outer
        self.elsewhere: Elsewhere | None = elsewhere or (outer.elsewhere if outer else None)
        self._arguments = arguments or {}

    # Most functions send nothing, so their names are not needed.
    @cached_property
    def _bound(self) -> Counter[str]:
        return Counter(name for node in _walk(self._node) for name in _bound_by(node))

    @cached_property
    def _loads(self) -> Counter[str]:
        return Counter(node.id for node in ast.walk(self._node) if _is_load(node))

    @cached_property
    def _assigned(self) -> dict[str, ast.expr]:
        return dict(_assigned_in(self._node))

    @cached_property
    def _defined(self) -> dict[str, Definition]:
        return dict(_defined_in(self._node))

    @cached_property
    def stars(self) -> list[Imported]:
        """The modules of which everything is imported here."""
        return [each for name, each in _defined_in(self._node) if name == "*" and isinstance(each, Imported)]

    def binding(self, name: str) -> ast.expr | None:
        """Return the only expression that a name can stand for here; None where that is not sure."""
        if name not in self._bound:
            return self._outer.binding(name) if self._outer else None
        return self._assigned.get(name) if self._binds_once(name) else None

    def definition(self, name: str) -> Definition | None:
        """Return the only import, function or class that a name can stand for here; None where that is not sure."""
        if name not in self._bound:
            return self._outer.definition(name) if self._outer else None
        return self._defined.get(name) if self._binds_once(name) else None

    def binds(self, name: str) -> bool:
        """Say whether this scope, or one around it, binds the name other than by `from … import *`."""
        return name in self._bound or (self._outer is not None and self._outer.binds(name))

    def _binds_once(self, name: str) -> bool:
        if self._bound[name] != 1:
            return False
        elsewhere = self.elsewhere
        return "*" not in self._bound or (
            elsewhere is not None and not any(elsewhere.may_hold(star, name) for star in self.stars)
        )

    def read(self, node: ast.expr, depth: int = 0) -> Known:
        """Tell what is known of an expression's value; `depth` is how deep in another one it stands."""
        match node:
            case ast.Constant():
                return Known(node, node.value, is_known=True)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return Known(node, -number, is_known=True)
        if depth < MAX_DEPTH:
            match node:
                case ast.Name() | ast.Attribute():
                    return self._named(node, depth)
                case ast.List(elts=items) | ast.Tuple(elts=items):
                    return _list(node, [self.read(item, depth + 1) for item in items])
                case ast.Dict():
                    return self._dict(node, depth)
        return Known(node)

    def _named(self, node: ast.Name | ast.Attribute, depth: int) -> Known:
        if isinstance(node, ast.Name):
            if node.id in self._arguments:
                return self._arguments[node.id]
            if bound := self._unchanged(node.id):
                return self.read(bound, depth + 1)
        constant = self.elsewhere.constant(node, self) if self.elsewhere else None
        return Known(node, constant.value, is_known=True) if constant else Known(node)

    def looks(self, name: str) -> int:
        """Count how often a name is looked at, in the scope that binds it."""
        return self._loads[name] if name in self._bound or self._outer is None else self._outer.looks(name)

    def _unchanged(self, name: str) -> ast.expr | None:
        """Return the value of a name, if no other code can have changed it; other code may change a dict."""
        bound = self.binding(name)
        return bound if isinstance(bound, ast.Constant) or self.looks(name) == 1 else None

    def _dict(self, node: ast.Dict, depth: int) -> Known:
        parts: dict[Any, Known] = {}
        is_open = False
        for key_node, value_node in zip(node.keys, node.values, strict=True):
            if isinstance(key_node, ast.Constant):
                parts[key_node.value] = replace(self.read(value_node, depth + 1), key=key_node)
            else:
                # `**rest`, or a key that is computed: it may replace what stands before it.
                is_open = True
                parts = {name: Known(part.node, key=part.key) for name, part in parts.items()}
        value = {name: part.value for name, part in parts.items()}
        is_known = not is_open and all(part.is_known for part in parts.values())
        return Known(node, value, is_known, is_open, parts)


def _list(node: ast.expr, items: list[Known]) -> Known:
    if any(isinstance(item.node, ast.Starred) for item in items):
        return Known(node)
    is_known = all(item.is_known for item in items)
    return Known(node, [item.value for item in items], is_known, parts=dict(enumerate(items)))


def _is_load(name: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(name, ast.Name) and isinstance(name.ctx, ast.Load)


def _bound_by(node: ast.AST) -> Iterator[str]:
    """Name what a node binds, or unbinds; `*` for any name."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield name
        case ast.arg(arg=name):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.alias(name=name, asname=as_name):
            yield as_name or name.partition(".")[0]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            yield from names


def _walk(scope: ast.AST) -> Iterator[ast.AST]:
    """Find the nodes of a module or function; of the functions and classes inside it, what binds names out here."""
    waiting = list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            yield from (each for each in ast.walk(node) if isinstance(each, ast.Global | ast.Nonlocal))
        else:
            waiting.extend(ast.iter_child_nodes(node))


def _assigned_in(scope: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Find `name = value` in a module or function, not in the functions and classes inside it."""
    for node in _walk(scope):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value


def _defined_in(scope: ast.AST) -> Iterator[tuple[str, Definition]]:
    """Find the imports, functions and classes of a module or function, not of the functions and classes inside it."""
    for node in _walk(scope):
        match node:
            case ast.Import(names=names):
                for each in names:
                    # `import a.b` binds `a`.
                    top = each.name.partition(".")[0]
                    yield (each.asname, Imported(each.name)) if each.asname else (top, Imported(top))
            case ast.ImportFrom(module=module, names=names, level=level):
                for each in names:
                    yield each.asname or each.name, Imported(module or "", level, each.name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node
