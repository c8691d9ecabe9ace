"""`pytest --channelmap`: one test for each event type of a contract, and one for the contract as a whole.

`pytest --channelmap-fuzz`: one test for each event type of the channels that the setting `channelmap_fuzz` names, which
gives generated events to the handler. The fixtures `channelmap_layer` and `channelmap_worker` are for other tests.

pytest loads this in every run, so nothing but pytest is imported before it is needed.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from channelmap.contract import Contract
    from channelmap.diagnostics import Diagnostic
    from channelmap.testing import InProcessWorker
    from channelmap.testing.memory import TestLayer


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("channelmap")
    group.addoption(
        "--channelmap",
        nargs="?",
        const="",
        metavar="FILE",
        help="Check a contract file: channels.yaml in the root directory unless FILE is given.",
    )
    group.addoption(
        "--channelmap-fuzz",
        action="store_true",
        help="Give generated events to the handlers of the channels that the setting channelmap_fuzz names.",
    )
    group.addoption(
        "--channelmap-fuzz-examples",
        type=int,
        default=100,
        metavar="NUMBER",
        help="Number of generated events for each event type (100).",
    )
    parser.addini("channelmap_fuzz", "Channels whose handlers --channelmap-fuzz may call.", type="args", default=[])


@pytest.fixture(scope="session")
def channelmap_contract() -> "str | Path | Contract":
    """Return the contract of `channelmap_layer`: by default the file that `get_channel_layer()` reads.

    To use another one, define a fixture of this name that returns its path.
    """
    from channelmap.loader import load
    from channelmap.sending import contract_file

    return load(contract_file())


@pytest.fixture
def channelmap_layer(channelmap_contract: "str | Path | Contract") -> "Iterator[TestLayer]":
    """Use a layer in memory in the whole process until the test ends, and return it; see `channelmap.testing`."""
    from channelmap.testing import memory_layer

    with memory_layer(channelmap_contract) as layer:
        yield layer


@pytest.fixture
def channelmap_worker(channelmap_layer: "TestLayer") -> "InProcessWorker":
    """Return a worker for the events of `channelmap_layer`, with the methods `drain` and `adrain`."""
    from channelmap.testing import InProcessWorker

    return InProcessWorker(channelmap_layer)


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
    if config.getoption("channelmap_fuzz"):
        _require_fuzz(config)
    # pytest before 9 leaves tests out where one argument is in another.
    asked_for = {_absolute(config, argument.partition("::")[0]) for argument in config.args}
    if path is not None and asked_for.isdisjoint([path, *path.parents]):
        config.args.append(str(path))


def _require_fuzz(config: pytest.Config) -> None:
    if not config.getini("channelmap_fuzz"):
        raise pytest.UsageError(
            "--channelmap-fuzz calls handlers with generated events, so it needs the names of the channels for which "
            "this is safe; write 'channelmap_fuzz = CHANNEL …' in the configuration of pytest"
        )
    if find_spec("hypothesis") is None:
        raise pytest.UsageError("--channelmap-fuzz needs Hypothesis: pip install 'channelmap[testing]'")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "ContractFile | None":
    """Collect the contract."""
    if file_path != _contract_path(parent.config):
        return None
    collected: ContractFile = ContractFile.from_parent(parent, path=file_path)
    return collected


def _contract_path(config: pytest.Config) -> Path | None:
    name = config.getoption("channelmap")
    if name is None and not config.getoption("channelmap_fuzz"):
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
        find = cache(partial(_findings, contract)) if self.config.getoption("channelmap") is not None else None
        fuzzed = self._fuzzed_channels(contract)
        if find is not None:
            yield ContractItem.from_parent(self, name="contract", find=find)
        for channel in contract.channels.values():
            fuzz = partial(_fuzz, contract, channel.name) if channel.name in fuzzed else None
            yield ChannelCollector.from_parent(
                self, name=shown(channel.name), events=list(channel.events), find=find, fuzz=fuzz
            )

    def _fuzzed_channels(self, contract: "Contract") -> frozenset[str]:
        from channelmap.errors import UnknownChannel

        if not self.config.getoption("channelmap_fuzz"):
            return frozenset()
        try:
            return frozenset(channel.name for channel in contract.chosen(self.config.getini("channelmap_fuzz")))
        except UnknownChannel as error:
            raise self.CollectError(f"the setting channelmap_fuzz: {error}") from None


class ChannelCollector(pytest.Collector):
    """A channel of a contract."""

    def __init__(
        self,
        *,
        events: list[str],
        find: Callable[[], "Iterable[Diagnostic]"] | None,
        fuzz: Callable[[pytest.Config, str], None] | None,
        **node: Any,
    ) -> None:
        super().__init__(**node)
        self._events = events
        self._find = find
        self._fuzz = fuzz

    def collect(self) -> Iterator[pytest.Item]:
        """Collect its event types."""
        for event_type in self._events:
            if self._find is not None:
                yield ContractItem.from_parent(self, name=event_type, find=self._find, about=(self.name, event_type))
            if self._fuzz is not None:
                yield FuzzItem.from_parent(
                    self, name=f"{event_type}[fuzz]", callobj=_without_arguments(self._fuzz, self.config, event_type)
                )


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


class FuzzItem(pytest.Function):
    """A test that gives generated events to a handler. As for a test function, autouse fixtures are set up."""

    def __init__(self, **node: Any) -> None:
        super().__init__(**node)
        if self.config.pluginmanager.hasplugin("django") and os.environ.get("DJANGO_SETTINGS_MODULE"):
            # pytest-django then sets up its test database.
            self.add_marker("django_db")

    def reportinfo(self) -> tuple[Path, int, str]:
        """Say where it is, for pytest's own reports."""
        return self.path, 0, self.name


def _without_arguments(
    fuzz: Callable[[pytest.Config, str], None], config: pytest.Config, event_type: str
) -> Callable[[], None]:
    """Return a function that pytest calls: it takes arguments for names of fixtures."""

    def fuzz_handler() -> None:
        fuzz(config, event_type)

    return fuzz_handler


def _fuzz(contract: "Contract", channel: str, config: pytest.Config, event_type: str) -> None:
    from channelmap.errors import ChannelMapError
    from channelmap.imports import prepare_imports, uses_django
    from channelmap.testing.fuzzing import fuzz

    try:
        prepare_imports(contract.path)
        if uses_django() and not config.pluginmanager.hasplugin("django"):
            pytest.fail(
                "--channelmap-fuzz needs pytest-django in a Django project: without it, handlers would change the real "
                "database",
                pytrace=False,
            )
        fuzz(contract, channel, event_type, config.getoption("channelmap_fuzz_examples"))
    except ChannelMapError as error:
        pytest.fail("\n".join([str(error), *getattr(error, "__notes__", ())]), pytrace=False)


def _findings(contract: "Contract") -> "tuple[Diagnostic, ...]":
    from channelmap.check.rules import check
    from channelmap.check.suppressions import without_suppressed
    from channelmap.imports import prepare_imports

    prepare_imports(contract.path)
    # A suppression that is of no use here may be for what is not looked for here.
    return without_suppressed(contract, check(contract), frozenset(), datetime.now(UTC).date())
