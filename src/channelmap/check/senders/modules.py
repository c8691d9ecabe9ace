"""Resolve names across a tree of Python files, without importing them.

A module is found by its dotted name below the given paths. A name that fits two files is not resolved.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from channelmap.check.senders.files import Module, Unreadable, read_module
from channelmap.check.senders.literals import Function, Imported, Scope

#: Maximum length of a chain of imports; a longer one is circular.
_MAX_STEPS = 20

#: Base classes of enumerations whose members are texts.
_TEXT_ENUMS = {"str", "StrEnum", "TextChoices"}


@dataclass(frozen=True, slots=True)
class Defined:
    """A function or a class, and the module that defines it."""

    module: "TreeModule"
    node: Function | ast.ClassDef


#: The results of resolving a name; `Imported` is a package without a file, that is a directory.
Target = ast.Constant | Defined | Path | Imported


class Tree:
    """Python files, parsed on demand, each once.

    Args:
        paths: all files of the tree.

    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._modules: dict[Path, TreeModule | Unreadable] = {}
        self._by_name: defaultdict[str, list[Path]] = defaultdict(list)
        for path in paths:
            self._by_name[_dotted(path)[-1]].append(path)

    def module(self, path: Path) -> "TreeModule | Unreadable":
        """Parse a file of the tree; return a finding if it cannot be parsed."""
        if path not in self._modules:
            module = read_module(path)
            self._modules[path] = TreeModule(self, module) if isinstance(module, Module) else module
        return self._modules[path]

    def find(self, imported: Imported, importer: Path) -> Path | None:
        """Return the file of a module; None if it is not in the tree, or more than one file fits."""
        if imported.level:
            directory = importer.absolute().parents[imported.level - 1]
            wanted = (*directory.parts, *filter(None, imported.module.split(".")))
            return self._only(path for path in self._by_name[wanted[-1]] if _dotted(path) == wanted)
        parts = tuple(imported.module.split("."))
        candidates = {path: root for path in self._by_name[parts[-1]] if (root := _root(path, parts)) is not None}
        near = (path for path, root in candidates.items() if root in importer.absolute().parents)
        return self._only(candidates) or self._only(near)

    @staticmethod
    def _only(paths: Iterable[Path]) -> Path | None:
        found = list(paths)
        return found[0] if len(found) == 1 else None


class TreeModule:
    """A parsed module of the tree; it resolves its imports from the others."""

    def __init__(self, tree: Tree, module: Module) -> None:
        self.source = module
        self.scope = Scope(module.tree, imports=self)
        self._tree = tree

    def constant(self, expression: ast.expr, scope: Scope) -> ast.Constant | None:
        """Return the constant that a name or dotted name refers to, if another module or a class defines it."""
        target = self.follow(expression, scope)
        return target if isinstance(target, ast.Constant) else None

    def follow(self, expression: ast.expr, scope: Scope, steps: int = 0) -> Target | None:
        """Resolve a name or dotted name in a scope of this module; None if the result is not certain."""
        match expression:
            case ast.Name(id=name):
                return self.look_up(name, scope, steps)
            case ast.Attribute(value=owner, attr=name):
                return self._member(self.follow(owner, scope, steps), name, steps)
        return None

    def may_hold(self, imported: Imported, name: str) -> bool:
        """Return whether `from … import *` of that module may bind the name."""
        module = self._import(imported)
        if module is None or module.scope.stars:
            return True
        return module.scope.binds(name) and module.exports(name)

    def exports(self, name: str) -> bool:
        """Return whether `from … import *` of this module binds a name that the module binds."""
        if not self.scope.binds("__all__"):
            return not name.startswith("_")
        names = self._all
        return names is None or name in names

    @cached_property
    def _all(self) -> set[str] | None:
        binding = self.scope.binding("__all__")
        known = self.scope.read(binding) if binding else None
        return set(known.value) if known and known.is_known and isinstance(known.value, list) else None

    def look_up(self, name: str, scope: Scope, steps: int) -> Target | None:
        """Resolve a name in a scope of this module; None if the result is not certain."""
        if steps > _MAX_STEPS:
            return None
        if not scope.binds(name):
            return self._from_stars(name, steps)
        definition = scope.definition(name)
        if isinstance(definition, Imported):
            return self._imported(definition, steps)
        if definition is not None:
            return Defined(self, definition)
        binding = scope.binding(name)
        return binding if isinstance(binding, ast.Constant) else None

    def _imported(self, imported: Imported, steps: int) -> Target | None:
        module = Imported(imported.module, imported.level)
        owner = self._tree.find(module, self.source.path) or module
        return self._member(owner, imported.name, steps) if imported.name else owner

    def _member(self, owner: Target | None, name: str, steps: int) -> Target | None:
        match owner:
            case Imported():
                submodule = Imported(".".join(filter(None, (owner.module, name))), owner.level)
                return self._tree.find(submodule, self.source.path) or submodule
            case Defined(node=ast.ClassDef() as node):
                return _class_constant(node, name)
            case Path():
                module = self._tree.module(owner)
                if isinstance(module, TreeModule) and (module.scope.binds(name) or module.scope.stars):
                    return module.look_up(name, module.scope, steps + 1)
                return self._tree.find(Imported(name, level=1), owner) if owner.name == "__init__.py" else None
        return None

    def _from_stars(self, name: str, steps: int) -> Target | None:
        holders = [star for star in self.scope.stars if self.may_hold(star, name)]
        module = self._import(holders[0]) if len(holders) == 1 else None
        if module is None or not module.exports(name):
            return None
        return module.look_up(name, module.scope, steps + 1)

    def _import(self, imported: Imported) -> "TreeModule | None":
        path = self._tree.find(imported, self.source.path)
        module = self._tree.module(path) if path else None
        return module if isinstance(module, TreeModule) else None


def _class_constant(node: ast.ClassDef, name: str) -> ast.Constant | None:
    """Return the constant that the body of a class, or of an enumeration of texts, assigns to the name."""
    bases = {base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases}
    if node.keywords or node.decorator_list or (bases and not bases & _TEXT_ENUMS):
        return None
    values = list(_assigned(node, name))
    if len(values) != 1:
        return None
    value = values[0]
    if "TextChoices" in bases and isinstance(value, ast.Tuple) and value.elts:
        value = value.elts[0]
    return value if isinstance(value, ast.Constant) else None


def _assigned(node: ast.ClassDef, name: str) -> Iterator[ast.expr]:
    for statement in node.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                yield value
            case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value) if target == name:
                yield value


def _dotted(path: Path) -> tuple[str, ...]:
    """Return the parts of a module's path, as an import names them."""
    absolute = path.absolute()
    return absolute.parent.parts if path.name == "__init__.py" else absolute.with_suffix("").parts


def _root(path: Path, parts: tuple[str, ...]) -> Path | None:
    """Return the directory from which that dotted name imports the file; None if there is none."""
    dotted = _dotted(path)
    if dotted[-len(parts) :] != parts:
        return None
    root = Path(*dotted[: -len(parts)])
    # If the directory is a package itself, the dotted name of the file is longer.
    return None if (root / "__init__.py").exists() else root
