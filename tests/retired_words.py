"""Find words that the project no longer uses: `make lint` runs this. Each has a plainer one in docs/architecture.md.

Identifiers are split at underscores and capitals, and all of `src` is looked at. Phrases are looked for in comments,
docstrings, messages and documents. Exit code 1: a retired word was found.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: Words in identifiers, with those in their place.
NAMES = {
    "hoard": "prefetched",
    "insist": "retry",
    "insistence": "backoff",
    "exemption": "suppression",
    "unfit": "undeliverable",
    "rope": "listener",
    "doorbell": "listener",
    "bell": "listener",
    "ringer": "notifier",
    "alien": "foreign",
    "hurdle": "break",
    "spot": "shard",
    "wire": "connection",
    "blocker": "blocking pop",
    "mailroom": "local queues",
}
#: Phrases in text, with those in their place.
PHRASES = {
    "for ever": "forever",
    "is no string": "is not a string",
    "last words": "shutdown flush",
    "make rooms": "make imports",
}


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name):
                yield node.lineno, name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case _:
                pass


def retired_names() -> Iterator[str]:
    for path in sorted((ROOT / "src").rglob("*.py")):
        named = [(1, path.stem), *identifiers(ast.parse(path.read_text(encoding="utf-8")))]
        for line, name in named:
            for word in {word.lower() for word in re.findall(r"[A-Z]?[a-z]+", name)} & NAMES.keys():
                yield f"{path.relative_to(ROOT)}:{line}: '{word}' in {name} is retired; write '{NAMES[word]}'"


def retired_phrases() -> Iterator[str]:
    prose = [*(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.md"), *(ROOT / "docs").glob("*.md")]
    for path in sorted([*prose, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]):
        for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            for phrase, instead in PHRASES.items():
                if re.search(rf"\b{phrase}\b", text):
                    yield f"{path.relative_to(ROOT)}:{line}: '{phrase}' is retired; write '{instead}'"


def main() -> int:
    found = [*retired_names(), *retired_phrases()]
    for complaint in found:
        sys.stdout.write(f"{complaint}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
