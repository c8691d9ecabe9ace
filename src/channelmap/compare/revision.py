"""The files of a git revision, written into a directory as they were; git does the reading."""

import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from channelmap.errors import quoted
from channelmap.source.document import MAX_BYTES

_SHALLOW = "fetch it first; on a CI runner the clone may be shallow: actions/checkout needs 'fetch-depth: 0'"
#: In a hook these say what is being committed; what is asked here is about the repository around the contract.
_OF_HOOKS = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"})


class RevisionUnreadable(Exception):
    """The files of a revision cannot be had: says why, and what may help."""

    def __init__(self, reason: str, hint: str = "") -> None:
        self.reason = reason
        self.hint = hint
        super().__init__(reason, hint)


@dataclass(frozen=True, slots=True)
class Tree:
    """The directory of a contract in its repository.

    Attributes:
        top: the root of the work tree.
        prefix: the way from there to the directory, with a slash at its end; empty for the root itself.

    """

    top: Path
    prefix: str

    @classmethod
    def around(cls, config: Path) -> "Tree":
        """Find the repository that a contract is in."""
        directory = config.absolute().parent
        if not directory.is_dir():
            raise RevisionUnreadable(f"there is no directory {quoted(directory)}")
        answer = _git(directory, "rev-parse", "--show-toplevel", "--show-prefix")
        if answer is None:
            raise RevisionUnreadable("the contract is in no git repository, and there is no file of that name")
        top, prefix = answer.split("\n")[:2]
        return cls(Path(top), prefix)


def materialise(tree: Tree, revision: str, target: Path) -> None:
    """Write what a revision has in that directory below `target`, at the same path as in the repository.

    Raises:
        RevisionUnreadable: there is no such revision, or it has no such directory.

    """
    if revision.startswith("-") or "\0" in revision:
        raise RevisionUnreadable("a revision cannot begin with '-'")
    commit = _git(tree.top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if not commit:
        raise RevisionUnreadable(f"there is no git revision, file or directory {quoted(revision)}", _SHALLOW)
    command = ("archive", "--format=tar", commit.strip(), "--", tree.prefix or ".")
    with TemporaryFile() as archive:
        if _git(tree.top, *command, output=archive) is None:
            raise RevisionUnreadable(f"that revision has no directory {quoted(tree.prefix)}", "was it added later?")
        archive.seek(0)
        with tarfile.open(fileobj=archive) as files:
            for member in files:
                _write(files, member, target)


def _write(files: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    """Write one file, except what no contract can name: what leads outside, or is larger than is ever read."""
    path = target / member.name
    content = files.extractfile(member) if member.isfile() and member.size <= MAX_BYTES else None
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is not None:
        path.write_bytes(content.read())
    elif member.issym() and _is_inside(path.parent / member.linkname, target):
        path.symlink_to(member.linkname)


def _is_inside(path: Path, directory: Path) -> bool:
    return Path(os.path.normpath(path)).is_relative_to(directory)


def _git(directory: Path, *arguments: str, output: IO[bytes] | None = None) -> str | None:
    """Run git; return what it says, or `None` where it refuses."""
    try:
        done = subprocess.run(  # noqa: S603  (no shell; what users write is checked and stands behind --end-of-options)
            ["git", "-C", str(directory), *arguments],  # noqa: S607  (git is where the user has it)
            stdin=subprocess.DEVNULL,
            stdout=output or subprocess.PIPE,
            stderr=subprocess.PIPE,
            check=False,
            env={name: value for name, value in os.environ.items() if name not in _OF_HOOKS},
        )
    except FileNotFoundError:
        raise RevisionUnreadable("git is not installed") from None
    except OSError as error:
        raise RevisionUnreadable(f"git cannot be run: {error.strerror}") from None
    if b"dubious ownership" in done.stderr:
        hint = "'git config --global --add safe.directory' with its path allows it"
        raise RevisionUnreadable("git does not trust the owner of the repository", hint)
    if done.returncode:
        return None
    return "" if output else done.stdout.decode(errors="replace")
