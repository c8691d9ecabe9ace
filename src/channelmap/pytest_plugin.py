"""`pytest --channelmap`: one test for each event type of a contract, and one for the contract as a whole.

pytest loads this in every run, so nothing but pytest is imported before it is needed.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from channelmap.contract import Contract
    from channelmap.diagnostics import Diagnostic


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("channelmap").addoption(
        "--channelmap",
        nargs="?",
        const="",
        metavar="FILE",
        help="Check a contract file: channels.yaml in the root directory unless FILE is given.",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser, args: list[str]) -> None:
    """Keep a bare `--channelmap` from taking the next word, be it of addopts or of the command line, for its FILE."""
    if "--channelmap" in args:
        args[:] = ["--channelmap=" if word == "--channelmap" else word for word in args]
        # The directories whose conftest.py is loaded next.
        early_config.known_args_namespace.file_or_dir = parser.parse_known_args(args).file_or_dir


def pytest_configure(config: pytest.Config) -> None:
    """Add the contract to what is collected, unless some of it was asked for by name."""
    path = _contract_path(config)
    if path is not None and not path.is_file():
        # pytest would collect nothing from a path that is not a file, and succeed.
        raise pytest.UsageError(f"--channelmap: there is no file '{path}'; expected --channelmap=FILE")
    # pytest before 9 leaves tests out where one argument is in another.
    asked_for = {_absolute(config, argument.partition("::")[0]) for argument in config.args}
    if path is not None and asked_for.isdisjoint([path, *path.parents]):
        config.args.append(str(path))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "ContractFile | None":
    """Collect the contract."""
    if file_path != _contract_path(parent.config):
        return None
    collected: ContractFile = ContractFile.from_parent(parent, path=file_path)
    return collected


def _contract_path(config: pytest.Config) -> Path | None:
    name = config.getoption("channelmap")
    if name is None:
        return None
    return _absolute(config, name) if name else config.rootpath / "channels.yaml"


def _absolute(config: pytest.Config, name: str) -> Path:
    return Path(os.path.normpath(config.invocation_params.dir / name))


class ContractFile(pytest.File):
    """A contract file."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Collect the contract as a whole, then its channels; of one that does not load, why it does not."""
        from channelmap.environment import shown
        from channelmap.errors import ContractError
        from channelmap.loader import load

        try:
            contract = load(self.path)
        except ContractError as error:
            findings = error.diagnostics
            yield ContractItem.from_parent(self, name="contract", find=lambda: findings)
            return
        # Once, when the first test is run: collecting imports no consumers.
        find = cache(partial(_findings, contract))
        yield ContractItem.from_parent(self, name="contract", find=find)
        for channel in contract.channels.values():
            yield ChannelCollector.from_parent(self, name=shown(channel.name), events=list(channel.events), find=find)


class ChannelCollector(pytest.Collector):
    """A channel of a contract."""

    def __init__(self, *, events: list[str], find: Callable[[], "Iterable[Diagnostic]"], **node: Any) -> None:
        super().__init__(**node)
        self._events = events
        self._find = find

    def collect(self) -> Iterator[pytest.Item]:
        """Collect its event types."""
        for event_type in self._events:
            yield ContractItem.from_parent(self, name=event_type, find=self._find, about=(self.name, event_type))


class ContractItem(pytest.Item):
    """What is found about an event type, or about none: the test fails with errors, and warns of warnings."""

    def __init__(
        self, *, find: Callable[[], "Iterable[Diagnostic]"], about: tuple[str, str] | None = None, **node: Any
    ) -> None:
        super().__init__(**node)
        self._find = find
        self._about = about

    def runtest(self) -> None:
        """Fail with all findings when one of them is an error."""
        from channelmap.codes import Severity
        from channelmap.imports import DjangoUnusable

        try:
            found = [finding for finding in self._find() if self._is_about(finding)]
        except DjangoUnusable as error:
            pytest.fail(str(error), pytrace=False)
        if any(finding.severity is Severity.ERROR for finding in found):
            pytest.fail("\n".join(map(str, found)), pytrace=False)
        for finding in found:
            if finding.severity is Severity.WARNING:
                self.warn(pytest.PytestWarning(str(finding)))

    def _is_about(self, finding: "Diagnostic") -> bool:
        if self._about is None:
            return not finding.event_type
        return (finding.channel, finding.event_type) == self._about

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show a warning that is an error, by pytest's `-W error`, as its line alone."""
        if isinstance(excinfo.value, pytest.PytestWarning):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Say where it is, for pytest's own reports."""
        return self.path, 0, self.name


def _findings(contract: "Contract") -> "tuple[Diagnostic, ...]":
    from channelmap.check.rules import check
    from channelmap.check.suppressions import without_suppressed
    from channelmap.imports import prepare_imports

    prepare_imports(contract.path)
    # A suppression that is of no use here may be for what is not looked for here.
    return without_suppressed(contract, check(contract), frozenset(), datetime.now(UTC).date())
