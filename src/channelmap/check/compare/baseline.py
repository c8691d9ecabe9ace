"""What to compare with: a lock, a directory, a contract file, or a git revision. Never nothing instead of it."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from channelmap.check.compare.lock import LockUnusable, read_lock
from channelmap.check.compare.releases import Release, release_of
from channelmap.check.compare.revision import RevisionUnreadable, Tree, blobs, commit_of
from channelmap.codes import Code
from channelmap.contract import Contract
from channelmap.errors import ChannelMapError, ContractError, quoted
from channelmap.loader import Fetch, load

_WITHOUT_DEFAULT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
#: What an unset variable of an old file may stand for: none of it is compared, it only has to be of the right type.
_HARMLESS = ("memory://", "1")
#: What is found where a variable is unset, or stands for something of the wrong type.
_OF_VARIABLES = {Code.UNSET_VARIABLE, Code.WRONG_SHAPE, Code.CHANNEL_NAME_INVALID}


class BaselineUnreadable(ChannelMapError):
    """What was to be compared with cannot be read; so nothing was compared.

    Args:
        spec: what was asked for.
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


def read_baseline(spec: str, config: str | Path, *, transitive: bool = False) -> tuple[Release, ...]:
    """Read the release to compare a contract with.

    Args:
        spec: a lock (``*.lock.json``), a directory that holds a contract file of the same name, a contract file, or
            else a git revision, of which the files are read as they were committed; ``git:`` before it says so. Of a
            branch that is the merge base with HEAD.
        config: the contract file that is to be compared.
        transitive: all releases of a lock, not only the newest.

    Returns:
        The releases, oldest first, never none.

    Raises:
        BaselineUnreadable: there is no such thing, or something is wrong with it.

    """
    config, path = Path(config), Path(spec)
    try:
        if transitive and not spec.endswith(".lock.json"):
            raise BaselineUnreadable(spec, "only a lock has more than one release", "leave out --transitive")
        if spec.endswith(".lock.json"):
            releases = read_lock(path)
            return releases if transitive else releases[-1:]
        if not spec.startswith("git:") and path.exists():
            file = path / config.name if path.is_dir() else path
            return (release_of(_load(file), spec),)
        return (_of_revision(spec.removeprefix("git:"), config),)
    except (LockUnusable, RevisionUnreadable) as error:
        raise BaselineUnreadable(spec, error.reason, error.hint) from None
    except ContractError as error:
        reason, hint = _first_fault(error)
        raise BaselineUnreadable(spec, reason, hint) from None
    except ValueError:  # a path with a null character
        raise BaselineUnreadable(spec, "it can be neither a path nor a revision") from None


def _of_revision(revision: str, config: Path) -> Release:
    tree = Tree.around(config)
    commit = commit_of(tree.top, revision)
    name = f"{revision} (merge base {commit.name[:12]})" if commit.is_merge_base else revision
    with TemporaryDirectory(prefix="channelmap-") as directory, blobs(tree, commit) as files:
        root = Path(directory).resolve()

        def fetch(path: str) -> None:
            """Write a file of that commit below the root, if the commit has it."""
            content = files.read(tree.prefix + path)
            # No file has a name that the file system refuses.
            with contextlib.suppress(OSError):
                if content is not None:
                    (root / path).parent.mkdir(parents=True, exist_ok=True)
                    (root / path).write_bytes(content)

        fetch(config.name)
        if not (root / config.name).exists():
            raise RevisionUnreadable(f"that revision has no {quoted(tree.prefix + config.name)}", "was it added later?")
        try:
            return release_of(_load(root / config.name, fetch), name)
        except ContractError as error:
            reason, hint = _first_fault(error)
            raise RevisionUnreadable(reason.replace(f"{root}{os.sep}", tree.prefix), hint) from None


def _load(file: Path, fetch: Fetch | None = None) -> Contract:
    """Load a contract as it was, whatever of its environment is not set here."""
    for env in _environments(file):
        try:
            return load(file, env=env, fetch=fetch)
        except ContractError as error:
            if {finding.code for finding in error.diagnostics} - _OF_VARIABLES:
                raise
    return load(file, fetch=fetch)


def _environments(file: Path) -> Iterator[dict[str, str]]:
    yield dict(os.environ)
    try:
        names = _WITHOUT_DEFAULT.findall(file.read_text("utf-8", errors="replace"))
    except OSError:
        return
    for value in _HARMLESS:
        yield dict.fromkeys(names, value) | os.environ


def _first_fault(error: ContractError) -> tuple[str, str]:
    first = error.diagnostics[0]
    return f"{first.location}: {first.message}", first.hint
