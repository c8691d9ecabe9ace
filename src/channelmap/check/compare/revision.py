"""The files of a git revision, written into a directory as they were committed; git does the reading.

Only the files that a contract names are read, as blobs: attributes such as `export-ignore` do not change them.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from channelmap.errors import quoted
from channelmap.source.document import MAX_BYTES

_SHALLOW = "fetch it first; on a CI runner the clone may be shallow: actions/checkout needs 'fetch-depth: 0'"
#: In a hook these say what is being committed; what is asked here is about the repository around the contract.
_OF_HOOKS = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"})
_BRANCHES = ("refs/heads/", "refs/remotes/", "FETCH_HEAD")
_SUBMODULE = "160000"


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


@dataclass(frozen=True, slots=True)
class Commit:
    """The commit to compare with.

    Attributes:
        name: its full object name.
        is_merge_base: whether it is older than the tip of the branch that was asked for.

    """

    name: str
    is_merge_base: bool = False


def commit_of(top: Path, revision: str) -> Commit:
    """Find the commit of a revision: of a branch, the merge base with HEAD, so that its newer commits do not count.

    Args:
        top: the root of the work tree.
        revision: a branch, a tag, a commit, or another expression of git. All but branches are taken exactly.

    Raises:
        RevisionUnreadable: there is no such revision, or the branch and HEAD have no commit in common here.

    """
    if revision.startswith("-") or "\0" in revision:
        raise RevisionUnreadable("a revision cannot begin with '-'")
    tip = _git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if not tip:
        raise RevisionUnreadable(f"there is no git revision, file or directory {quoted(revision)}", _SHALLOW)
    tip = tip.strip()
    if not (_git(top, "rev-parse", "--symbolic-full-name", revision) or "").startswith(_BRANCHES):
        return Commit(tip)
    base = _git(top, "merge-base", tip, "HEAD")
    if not base:
        hint = f"{quoted(f'{revision}^0')} compares with its newest commit"
        if (_git(top, "rev-parse", "--is-shallow-repository") or "").strip() == "true":
            hint = f"the clone is shallow: actions/checkout needs 'fetch-depth: 0'; or {hint}"
        raise RevisionUnreadable(f"the branch {quoted(revision)} and HEAD have no commit in common here", hint)
    base = base.strip()
    return Commit(base, is_merge_base=base != tip)


class Blobs:
    """The files of one commit of a repository, each read when it is asked for.

    Args:
        repository: a directory of the repository.
        commit: the commit.

    """

    def __init__(self, repository: Path, commit: str) -> None:
        self._repository = repository
        self._commit = commit
        self._submodules: dict[str, Blobs | None] = {}
        self._processes = ExitStack()
        command = ["git", "-C", str(repository), "cat-file", "--batch", "--follow-symlinks"]
        process = subprocess.Popen(  # noqa: S603  (no shell; the only input is the names of blobs)
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment()
        )
        self._process = self._processes.enter_context(process)
        assert process.stdin is not None
        assert process.stdout is not None
        self._requests: IO[bytes] = process.stdin
        self._answers: IO[bytes] = process.stdout

    def close(self) -> None:
        """End the git processes."""
        self._processes.close()

    def read(self, path: str) -> bytes | None:
        """Return the content of a file, its first `MAX_BYTES` and one more; `None` where the commit has no such file.

        Args:
            path: its path from the root of the repository, with slashes.

        Raises:
            RevisionUnreadable: it is in a submodule whose objects are not here.

        """
        if "\n" in path or "\0" in path:
            return None
        with suppress(BrokenPipeError):
            self._requests.write(os.fsencode(f"{self._commit}:{path}\n"))
            self._requests.flush()
        answer = self._answers.readline().split()
        if not answer:
            raise RevisionUnreadable("git ended while it was asked for the files")
        if b":" in answer[0] or len(answer) != 3:
            self._pass_over(answer)
            return self._of_submodule(path)
        size = int(answer[2])
        content = self._answers.read(min(size, MAX_BYTES + 1))
        self._skip(size + 1 - len(content))
        return content if answer[1] == b"blob" else None

    def _pass_over(self, answer: list[bytes]) -> None:
        """Skip what git adds about a symbolic link that leads outside of the repository, or nowhere."""
        if answer[0] in {b"symlink", b"dangling", b"loop", b"notdir"}:
            self._skip(int(answer[-1]) + 1)

    def _skip(self, size: int) -> None:
        while size > 0 and (chunk := self._answers.read(min(size, MAX_BYTES))):
            size -= len(chunk)

    def _of_submodule(self, path: str) -> bytes | None:
        for directory in reversed(PurePosixPath(path).parents[:-1]):
            name = directory.as_posix()
            if name not in self._submodules:
                self._submodules[name] = self._submodule(name)
            inner = self._submodules[name]
            if inner is not None:
                return inner.read(path.removeprefix(f"{name}/"))
        return None

    def _submodule(self, directory: str) -> "Blobs | None":
        entry = _git(self._repository, "ls-tree", "--full-tree", "-z", self._commit, "--", directory) or ""
        mode, _, rest = entry.partition(" ")
        if mode != _SUBMODULE:
            return None
        commit = rest.split()[1]
        for repository in self._repositories(directory):
            if _git(repository, "cat-file", "-e", f"{commit}^{{commit}}") is not None:
                inner = Blobs(repository, commit)
                self._processes.callback(inner.close)
                return inner
        reason = f"{quoted(directory)} is a git submodule, and its commit {commit[:12]} is not here"
        raise RevisionUnreadable(
            reason, "'git submodule update --init' fetches the one of today; fetch older ones in it"
        )

    def _repositories(self, directory: str) -> Iterator[Path]:
        """Find where the objects of a submodule may be: its work tree, or what git has kept of it."""
        if (self._repository / directory / ".git").exists():
            yield self._repository / directory
        kept = (_git(self._repository, "rev-parse", "--git-path", f"modules/{directory}") or "").rstrip("\n")
        if kept and (self._repository / kept).is_dir():
            yield self._repository / kept


@contextmanager
def blobs(tree: Tree, commit: Commit) -> Iterator[Blobs]:
    """Open the files of a commit."""
    found = Blobs(tree.top, commit.name)
    try:
        yield found
    finally:
        found.close()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _OF_HOOKS}


def _git(directory: Path, *arguments: str) -> str | None:
    """Run git; return what it says, or `None` where it refuses."""
    try:
        done = subprocess.run(  # noqa: S603  (no shell; what users write is checked and stands behind --end-of-options)
            ["git", "-C", str(directory), *arguments],  # noqa: S607  (git is where the user has it)
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env=_environment(),
        )
    except FileNotFoundError:
        raise RevisionUnreadable("git is not installed") from None
    except OSError as error:
        raise RevisionUnreadable(f"git cannot be run: {error.strerror}") from None
    if b"dubious ownership" in done.stderr:
        hint = "'git config --global --add safe.directory' with its path allows it"
        raise RevisionUnreadable("git does not trust the owner of the repository", hint)
    return None if done.returncode else done.stdout.decode(errors="replace")
