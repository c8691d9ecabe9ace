"""Read files of a git revision as they were committed, with the git command.

Files are read as blobs, one by one, so attributes such as `export-ignore` do not change them.
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
#: Variables that git sets for hooks; here, the repository is the one that contains the contract.
_HOOK_VARIABLES = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"})
_BRANCHES = ("refs/heads/", "refs/remotes/", "FETCH_HEAD")
_SUBMODULE = "160000"


class RevisionUnreadable(Exception):
    """The files of a revision cannot be read, for `reason`; `hint` is the likely remedy."""

    def __init__(self, reason: str, hint: str = "") -> None:
        self.reason = reason
        self.hint = hint
        super().__init__(reason, hint)


@dataclass(frozen=True, slots=True)
class WorkTree:
    """The directory of a contract in its repository.

    Attributes:
        top: the root of the work tree.
        prefix: the path from there to the directory, with a slash at the end; empty for the root itself.

    """

    top: Path
    prefix: str

    @classmethod
    def containing(cls, contract: Path) -> "WorkTree":
        """Find the repository that contains a contract."""
        directory = contract.absolute().parent
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
        is_merge_base: whether it is a merge base, older than the tip of the requested branch.

    """

    name: str
    is_merge_base: bool = False


def commit_of(top: Path, revision: str) -> Commit:
    """Find the commit of a revision; for a branch, its merge base with HEAD, so that newer commits do not count.

    Args:
        top: the root of the work tree.
        revision: a branch, a tag, a commit, or another expression of git.

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


class CommitFiles:
    """The files of one commit of a repository, read on demand.

    Args:
        repository: a directory of the repository.
        commit: the commit.

    """

    def __init__(self, repository: Path, commit: str) -> None:
        self._repository = repository
        self._commit = commit
        self._submodules: dict[str, CommitFiles | None] = {}
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
        """Return the content of a file, at most `MAX_BYTES` + 1; `None` if the commit has no such file.

        Args:
            path: its path from the root of the repository, with slashes.

        Raises:
            RevisionUnreadable: the file is in a submodule whose commit has not been fetched.

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
            self._skip_link_target(answer)
            return self._read_from_submodule(path)
        size = int(answer[2])
        content = self._answers.read(min(size, MAX_BYTES + 1))
        self._skip(size + 1 - len(content))
        return content if answer[1] == b"blob" else None

    def _skip_link_target(self, answer: list[bytes]) -> None:
        """Skip the text that git adds for a symbolic link that leaves the repository or is broken."""
        if answer[0] in {b"symlink", b"dangling", b"loop", b"notdir"}:
            self._skip(int(answer[-1]) + 1)

    def _skip(self, size: int) -> None:
        while size > 0 and (chunk := self._answers.read(min(size, MAX_BYTES))):
            size -= len(chunk)

    def _read_from_submodule(self, path: str) -> bytes | None:
        for directory in reversed(PurePosixPath(path).parents[:-1]):
            name = directory.as_posix()
            if name not in self._submodules:
                self._submodules[name] = self._submodule(name)
            inner = self._submodules[name]
            if inner is not None:
                return inner.read(path.removeprefix(f"{name}/"))
        return None

    def _submodule(self, directory: str) -> "CommitFiles | None":
        entry = _git(self._repository, "ls-tree", "--full-tree", "-z", self._commit, "--", directory) or ""
        mode, _, rest = entry.partition(" ")
        if mode != _SUBMODULE:
            return None
        commit = rest.split()[1]
        for repository in self._repositories(directory):
            if _git(repository, "cat-file", "-e", f"{commit}^{{commit}}") is not None:
                inner = CommitFiles(repository, commit)
                self._processes.callback(inner.close)
                return inner
        reason = f"{quoted(directory)} is a git submodule, and its commit {commit[:12]} is not here"
        raise RevisionUnreadable(
            reason, "'git submodule update --init' fetches the one of today; fetch older ones in it"
        )

    def _repositories(self, directory: str) -> Iterator[Path]:
        """Find the repositories that may have the objects of a submodule: its work tree, and git's own copy."""
        if (self._repository / directory / ".git").exists():
            yield self._repository / directory
        kept = (_git(self._repository, "rev-parse", "--git-path", f"modules/{directory}") or "").rstrip("\n")
        if kept and (self._repository / kept).is_dir():
            yield self._repository / kept


@contextmanager
def open_commit(tree: WorkTree, commit: Commit) -> Iterator[CommitFiles]:
    """Open the files of a commit."""
    found = CommitFiles(tree.top, commit.name)
    try:
        yield found
    finally:
        found.close()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _HOOK_VARIABLES}


def _git(directory: Path, *arguments: str) -> str | None:
    """Run git; return its output, or `None` if it fails."""
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
