"""Read the release to compare with: from a lock, a directory, a contract file, or a git revision."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from channelmap.check.compare.lock import LockUnusable, read_lock
from channelmap.check.compare.releases import Release, release_of
from channelmap.check.compare.revision import RevisionUnreadable, WorkTree, commit_of, open_commit
from channelmap.codes import Code
from channelmap.contract import Contract
from channelmap.errors import ChannelMapError, ContractError, quoted
from channelmap.loader import Fetch, load

_WITHOUT_DEFAULT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
#: Values for unset variables of an old file: a text and a number. They are not compared, only their type matters.
_PLACEHOLDERS = ("memory://", "1")
#: Codes of findings for an unset variable, and for a value of the wrong type.
_VARIABLE_CODES = {Code.UNSET_VARIABLE, Code.WRONG_SHAPE, Code.CHANNEL_NAME_INVALID}


class BaselineUnreadable(ChannelMapError):
    """The release to compare with cannot be read, so nothing was compared.

    Args:
        spec: the release as it was given.
        reason: what is wrong with it.
        hint: the likely remedy.

    """

    def __init__(self, spec: str, reason: str, hint: str = "") -> None:
        self.spec = spec
        self.reason = reason
        self.hint = hint
        super().__init__(spec, reason, hint)

    def __str__(self) -> str:
        text = f"cannot compare with {quoted(self.spec)}: {self.reason}"
        return f"{text}; {self.hint}" if self.hint else text


def read_baseline(spec: str, contract: str | Path, *, transitive: bool = False) -> tuple[Release, ...]:
    """Read the release to compare a contract with.

    Args:
        spec: a lock (``*.lock.json``), a directory with a contract file of the same name, a contract file, or
            otherwise a git revision; a prefix ``git:`` makes it a revision in any case. Its files are read as they were
            committed. For a branch, its merge base with HEAD is read.
        contract: the contract file to compare.
        transitive: read all releases of a lock, not only the newest.

    Returns:
        The releases, oldest first; at least one.

    Raises:
        BaselineUnreadable: there is no such release, or its contract cannot be loaded.

    """
    contract, path = Path(contract), Path(spec)
    try:
        if transitive and not spec.endswith(".lock.json"):
            raise BaselineUnreadable(spec, "only a lock has more than one release", "leave out --transitive")
        if spec.endswith(".lock.json"):
            releases = read_lock(path)
            return releases if transitive else releases[-1:]
        if not spec.startswith("git:") and path.exists():
            file = path / contract.name if path.is_dir() else path
            return (release_of(_load(file), spec),)
        return (_release_at_revision(spec.removeprefix("git:"), contract),)
    except (LockUnusable, RevisionUnreadable) as error:
        raise BaselineUnreadable(spec, error.reason, error.hint) from None
    except ContractError as error:
        reason, hint = _first_fault(error)
        raise BaselineUnreadable(spec, reason, hint) from None
    except ValueError:  # a path with a null character
        raise BaselineUnreadable(spec, "it can be neither a path nor a revision") from None


def _release_at_revision(revision: str, contract: Path) -> Release:
    tree = WorkTree.containing(contract)
    commit = commit_of(tree.top, revision)
    name = f"{revision} (merge base {commit.name[:12]})" if commit.is_merge_base else revision
    with TemporaryDirectory(prefix="channelmap-") as directory, open_commit(tree, commit) as files:
        root = Path(directory).resolve()

        def fetch(path: str) -> None:
            """Write a file of that commit below the root, if the commit has it."""
            content = files.read(tree.prefix + path)
            # A file whose name the file system does not allow is missing.
            with contextlib.suppress(OSError):
                if content is not None:
                    (root / path).parent.mkdir(parents=True, exist_ok=True)
                    (root / path).write_bytes(content)

        fetch(contract.name)
        if not (root / contract.name).exists():
            raise RevisionUnreadable(
                f"that revision has no {quoted(tree.prefix + contract.name)}", "was it added later?"
            )
        try:
            return release_of(_load(root / contract.name, fetch), name)
        except ContractError as error:
            reason, hint = _first_fault(error)
            raise RevisionUnreadable(reason.replace(f"{root}{os.sep}", tree.prefix), hint) from None


def _load(file: Path, fetch: Fetch | None = None) -> Contract:
    """Load an old contract, even if environment variables that it needs are not set here."""
    for env in _environments(file):
        try:
            return load(file, env=env, fetch=fetch)
        except ContractError as error:
            if {finding.code for finding in error.diagnostics} - _VARIABLE_CODES:
                raise
    return load(file, fetch=fetch)


def _environments(file: Path) -> Iterator[dict[str, str]]:
    yield dict(os.environ)
    try:
        names = _WITHOUT_DEFAULT.findall(file.read_text("utf-8", errors="replace"))
    except OSError:
        return
    for value in _PLACEHOLDERS:
        yield dict.fromkeys(names, value) | os.environ


def _first_fault(error: ContractError) -> tuple[str, str]:
    first = error.diagnostics[0]
    return f"{first.location}: {first.message}", first.hint
