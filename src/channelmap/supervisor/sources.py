"""Source files: the loaded ones, those below a directory, and the changed ones.

Changes are found by polling with `stat`. Polling follows symbolic links, notices replaced files, works on network
mounts, and needs none of the system's limited watches.
"""

import os
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_SUFFIXES = (".py", ".yaml", ".yml", ".json")
#: Directories of installed code; hidden directories are skipped as well.
_SKIPPED_DIRECTORIES = frozenset({"node_modules", "site-packages", "dist-packages", "__pycache__"})

#: Seconds by which a file's time may lag behind `time.time()`: file systems use the tick of the kernel.
_MTIME_RESOLUTION_SECS = 0.01
#: Maximum number of consecutive restarts for a file that changes during each of them.
_MAX_REWRITES = 3


class _Version(NamedTuple):
    """A fingerprint of a file, which differs between two versions."""

    inode: int
    modified: int
    size: int


class Watch:
    """Find the files that have changed between two checks.

    Args:
        since: start time of the watched processes, in seconds since the epoch. A file that changed later may have
            been loaded before.
        rewritten: number of consecutive starts during which each file changed; updated here. Only the first few
            count: a process that writes a source file at each start would be restarted forever.

    """

    def __init__(self, since: float, rewritten: Counter[Path]) -> None:
        self._since = since
        self._rewritten = rewritten
        self._known: dict[Path, _Version | None] | None = None

    def changed_files(self, files: Iterable[Path], listed: float, *, complete: bool = False) -> list[Path]:
        """Return the changed files.

        Args:
            files: the files to check; new ones may have been added.
            listed: time at which `files` were listed, in seconds since the epoch. A file that is new at the next
                check was loaded after this time. It counts as changed if it was written after this time as well.
            complete: `files` lists all files, so a new one was just created.

        """
        found = {file: _stat(file) for file in files}
        versions = {
            file: status and _Version(status.st_ino, status.st_mtime_ns, status.st_size)
            for file, status in found.items()
        }
        later = {
            file for file, status in found.items() if status and status.st_ctime > self._since - _MTIME_RESOLUTION_SECS
        }
        if self._known is None:
            for file in versions:
                self._rewritten[file] = self._rewritten[file] + 1 if file in later else 0
            changed = {file for file in later if self._rewritten[file] <= _MAX_REWRITES}
        else:
            new = versions.keys() - self._known.keys()
            gone = self._known.keys() - versions.keys() if complete else set()
            other = {file for file in self._known.keys() & versions.keys() if self._known[file] != versions[file]}
            changed = other | gone | (new if complete else new & later)
        self._known, self._since = versions, listed
        return sorted(changed)


def loaded_modules() -> Iterator[Path]:
    """Yield the files of imported modules, except those of Python and of installed packages."""
    installed = tuple({f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib", "purelib", "platlib")})
    for module in [*sys.modules.values()]:
        # Not `module.__file__`: attributes of a lazily imported module may have any value, and may raise.
        file = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(file, str) and not file.startswith(installed):
            yield Path(file).absolute()


def source_files(directories: Sequence[Path]) -> frozenset[Path]:
    """Return the Python, YAML and JSON files below the directories, except hidden and installed ones."""
    return frozenset(file for directory in directories for file in _walk(directory))


def _walk(directory: Path) -> Iterator[Path]:
    for parent, directories, files in os.walk(directory):
        directories[:] = [
            name
            for name in directories
            if not name.startswith(".")
            and name not in _SKIPPED_DIRECTORIES
            and not Path(parent, name, "pyvenv.cfg").exists()
        ]
        yield from (Path(parent, name) for name in files if name.endswith(_SUFFIXES))


def _stat(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except OSError:
        return None
