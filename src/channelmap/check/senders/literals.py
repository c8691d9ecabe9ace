"""Evaluate expressions without running them: literals, and names that are bound once to a literal.

A value may be known in part, at any depth. In doubt it is unknown: that of a name that is bound twice, or of a dict
that other code uses before it is sent, and may have changed. `ImportResolver` looks up constants of other modules.
"""

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, TypeGuard

#: Values nested deeper are unknown; validating a deep event may take long.
MAX_DEPTH = 8

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Imported:
    """A name that an import binds.

    Attributes:
        module: the dotted module, without its leading dots.
        level: the number of leading dots; 0 for an absolute import.
        name: the name in that module; empty if the module itself is bound.

    """

    module: str
    level: int = 0
    name: str = ""


Definition = Imported | Function | ast.ClassDef


@dataclass(frozen=True, slots=True)
class KnownValue:
    """A value that is known completely, in part, or not at all.

    Attributes:
        node: the expression.
        value: the value, with `None` in the place of each unknown part.
        is_known: whether all of it is known.
        is_open: whether a dict may have further keys.
        parts: the items of a dict or list, by key or position.
        key: the expression of its key, if it is an item of a dict.

    """

    node: ast.expr
    value: Any = None
    is_known: bool = False
    is_open: bool = False
    parts: Mapping[Any, "KnownValue"] = field(default_factory=dict)
    key: ast.expr | None = None


class ImportResolver(Protocol):
    """Looks up names that a module imports."""

    def constant(self, expression: ast.expr, scope: "Scope") -> ast.Constant | None:
        """Return the constant that a name or dotted name refers to, if another module or a class defines it."""

    def may_hold(self, imported: Imported, name: str) -> bool:
        """Return whether `from … import *` of that module may bind the name."""


class Scope:
    """The names that are bound in a module or function.

    A use of a name in an inner function counts as a use in this scope, which is the safe side.

    Args:
        node: the module or function.
        outer: the enclosing scope; `None` for a module.
        imports: looks up imported names; that of the outer scope by default.
        arguments: known values of a function's parameters, for one call of it.

    """

    def __init__(
        self,
        node: ast.AST,
        outer: "Scope | None" = None,
        imports: ImportResolver | None = None,
        arguments: Mapping[str, KnownValue] | None = None,
    ) -> None:
        self._node = node
        self._outer = outer
        self.imports: ImportResolver | None = imports or (outer.imports if outer else None)
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
        """Return the only expression that is bound to a name here; None if there may be another one."""
        if name not in self._bound:
            return self._outer.binding(name) if self._outer else None
        return self._assigned.get(name) if self._binds_once(name) else None

    def definition(self, name: str) -> Definition | None:
        """Return the only import, function or class that is bound to a name here; None if there may be another one."""
        if name not in self._bound:
            return self._outer.definition(name) if self._outer else None
        return self._defined.get(name) if self._binds_once(name) else None

    def binds(self, name: str) -> bool:
        """Return whether this scope, or an enclosing one, binds the name other than by `from … import *`."""
        return name in self._bound or (self._outer is not None and self._outer.binds(name))

    def _binds_once(self, name: str) -> bool:
        if self._bound[name] != 1:
            return False
        imports = self.imports
        return "*" not in self._bound or (
            imports is not None and not any(imports.may_hold(star, name) for star in self.stars)
        )

    def read(self, node: ast.expr, depth: int = 0) -> KnownValue:
        """Return the value of an expression, as far as it is known; `depth` is its depth in the value around it."""
        match node:
            case ast.Constant():
                return KnownValue(node, node.value, is_known=True)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return KnownValue(node, -number, is_known=True)
        if depth < MAX_DEPTH:
            match node:
                case ast.Name() | ast.Attribute():
                    return self._named(node, depth)
                case ast.List(elts=items) | ast.Tuple(elts=items):
                    return _list(node, [self.read(item, depth + 1) for item in items])
                case ast.Dict():
                    return self._dict(node, depth)
        return KnownValue(node)

    def _named(self, node: ast.Name | ast.Attribute, depth: int) -> KnownValue:
        if isinstance(node, ast.Name):
            if node.id in self._arguments:
                return self._arguments[node.id]
            if bound := self._unchanged(node.id):
                return self.read(bound, depth + 1)
        constant = self.imports.constant(node, self) if self.imports else None
        return KnownValue(node, constant.value, is_known=True) if constant else KnownValue(node)

    def load_count(self, name: str) -> int:
        """Count the uses of a name, in the scope that binds it."""
        return self._loads[name] if name in self._bound or self._outer is None else self._outer.load_count(name)

    def _unchanged(self, name: str) -> ast.expr | None:
        """Return the value of a name, if no other code can have changed it; other code may change a dict."""
        bound = self.binding(name)
        return bound if isinstance(bound, ast.Constant) or self.load_count(name) == 1 else None

    def _dict(self, node: ast.Dict, depth: int) -> KnownValue:
        parts: dict[Any, KnownValue] = {}
        is_open = False
        for key_node, value_node in zip(node.keys, node.values, strict=True):
            if isinstance(key_node, ast.Constant):
                parts[key_node.value] = replace(self.read(value_node, depth + 1), key=key_node)
            else:
                # `**rest` or a computed key may replace any earlier item.
                is_open = True
                parts = {name: KnownValue(part.node, key=part.key) for name, part in parts.items()}
        value = {name: part.value for name, part in parts.items()}
        is_known = not is_open and all(part.is_known for part in parts.values())
        return KnownValue(node, value, is_known, is_open, parts)


def _list(node: ast.expr, items: list[KnownValue]) -> KnownValue:
    if any(isinstance(item.node, ast.Starred) for item in items):
        return KnownValue(node)
    is_known = all(item.is_known for item in items)
    return KnownValue(node, [item.value for item in items], is_known, parts=dict(enumerate(items)))


def _is_load(name: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(name, ast.Name) and isinstance(name.ctx, ast.Load)


def _bound_by(node: ast.AST) -> Iterator[str]:
    """Return the names that a node binds or unbinds; `*` for any name."""
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
    """Find the nodes of a module or function; of inner functions and classes, only `global` and `nonlocal`."""
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
