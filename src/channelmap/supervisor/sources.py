"""Source files: which are loaded, which lie in a directory, and which have changed.

They are looked at by `stat` again and again, which follows symbolic links, notices a file that was replaced, works on
network mounts, and needs none of the system's limited watches.
"""

import os
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_SUFFIXES = (".py", ".yaml", ".yml", ".json")
#: Directories of other people's code; hidden ones are passed over too.
_FOREIGN = frozenset({"node_modules", "site-packages", "dist-packages", "__pycache__"})

#: Seconds that the time of a file may lie before that of `time.time()`: file systems use the tick of the kernel.
_COARSE = 0.01
#: Starts in a row that a file which changes during each of them is worth.
_MOST_REWRITES = 3


class _Version(NamedTuple):
    """What differs between two versions of a file."""

    inode: int
    modified: int
    size: int


class Watch:
    """Finds the files that have changed between two looks.

    Args:
        since: when the watched processes started, in seconds since the epoch: a file that changed later may have been
            loaded before.
        rewritten: how often, in a row, each file changed before the first look; it is kept up to date. A process that
            writes a source file at each start would be replaced forever, so this counts only a few times.

    """

    def __init__(self, since: float, rewritten: Counter[Path]) -> None:
        self._since = since
        self._rewritten = rewritten
        self._known: dict[Path, _Version | None] | None = None

    def look(self, files: Iterable[Path], listed: float, *, complete: bool = False) -> list[Path]:
        """Return the changed files.

        Args:
            files: what is watched now; it may have grown.
            listed: when `files` were listed, in seconds since the epoch. A file that is new at the next look was
                loaded later than this, and counts as changed if it was written later: another version may be loaded.
            complete: `files` is all that there is, so a new one has just been made.

        """
        found = {file: _stat(file) for file in files}
        versions = {
            file: status and _Version(status.st_ino, status.st_mtime_ns, status.st_size)
            for file, status in found.items()
        }
        later = {file for file, status in found.items() if status and status.st_ctime > self._since - _COARSE}
        if self._known is None:
            for file in versions:
                self._rewritten[file] = self._rewritten[file] + 1 if file in later else 0
            changed = {file for file in later if self._rewritten[file] <= _MOST_REWRITES}
        else:
            new = versions.keys() - self._known.keys()
            gone = self._known.keys() - versions.keys() if complete else set()
            other = {file for file in self._known.keys() & versions.keys() if self._known[file] != versions[file]}
            changed = other | gone | (new if complete else new & later)
        self._known, self._since = versions, listed
        return sorted(changed)


def loaded_modules() -> Iterator[Path]:
    """Yield the files of the imported modules, without those of Python and of installed packages."""
    installed = tuple({f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib", "purelib", "platlib")})
    for module in [*sys.modules.values()]:
        # Not by attribute: those of a module that is imported lazily may be anything, and may raise.
        file = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(file, str) and not file.startswith(installed):
            yield Path(file).absolute()


def source_files(directories: Sequence[Path]) -> frozenset[Path]:
    """Return the Python, YAML and JSON files below the directories, without hidden and installed ones."""
    return frozenset(file for directory in directories for file in _walk(directory))


def _walk(directory: Path) -> Iterator[Path]:
    for parent, directories, files in os.walk(directory):
        directories[:] = [
            name
            for name in directories
            if not name.startswith(".") and name not in _FOREIGN and not Path(parent, name, "pyvenv.cfg").exists()
        ]
        yield from (Path(parent, name) for name in files if name.endswith(_SUFFIXES))


def _stat(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except OSError:
        return None
