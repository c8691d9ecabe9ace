"""`channelmap check`: check that contract, schemas, examples, consumers, senders and the last release agree."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from channelmap.check.report import FORMATS, Checked, Report, Sends
from channelmap.check.suppressions import Selection, without_suppressed
from channelmap.cli.exits import Exit
from channelmap.cli.guests import importable, own_stdout
from channelmap.cli.help import Command
from channelmap.cli.outputs import Output, OutputType, write
from channelmap.codes import Code, Group, Severity
from channelmap.contract import Contract
from channelmap.diagnostics import Diagnostic, Location
from channelmap.environment import shown
from channelmap.errors import ContractError, did_you_mean, quoted
from channelmap.garbage import collection_paused
from channelmap.loader import load
from channelmap.loader.files import label_of

if TYPE_CHECKING:
    from channelmap.check.senders import Senders
    from channelmap.layer import ChannelLayer

_ALL_CODES: frozenset[str] = frozenset(Code)
_WEIGHT = {Severity.INFO: 0, Severity.WARNING: 1, Severity.ERROR: 2}


class _CodesType(click.ParamType[frozenset[str]]):
    """Parameter type of a comma-separated list of codes."""

    name = "CODE,..."

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[str]:
        codes = frozenset(filter(None, value.replace(" ", "").split(",")))
        for code in codes - _ALL_CODES:
            hint = did_you_mean(code, _ALL_CODES) or "`channelmap explain` lists them"
            self.fail(f"there is no code {quoted(code)}; {hint}", param, ctx)
        return codes

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> "list[CompletionItem[str]]":
        """Complete the last code."""
        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(f"{before}{comma}{code}") for code in sorted(_ALL_CODES) if code.startswith(last)]


class Steps(NamedTuple):
    """The options that choose what to check besides the files themselves."""

    imports: bool
    senders: tuple[str, ...]
    against: str | None
    transitive: bool
    strict: bool
    layer: bool

    @property
    def judged(self) -> frozenset[str]:
        """The codes that these checks can report."""
        requested = {
            Group.CONSUMER: self.imports,
            Group.SENDER: bool(self.senders),
            Group.COMPARISON: self.against is not None,
            Group.LAYER: self.layer,
        }
        return frozenset(code for code in Code if requested.get(code.group, True))


@click.command(
    "check",
    cls=Command,
    examples=[
        "channelmap check",
        "channelmap check --senders src --against origin/main",
        "channelmap check jobs.yaml --output json --fail-on warning",
    ],
    exits={
        Exit.FINE: "No finding is as severe as --fail-on.",
        Exit.FINDINGS: "A finding is at least as severe as --fail-on.",
        Exit.USAGE: "Wrong arguments, a missing file, or an unusable layer.",
    },
)
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path())
@click.option("--select", type=_CodesType(), multiple=True, help="Report only these findings.")
@click.option("--ignore", type=_CodesType(), multiple=True, help="Do not report these findings.")
@click.option("--warn", type=_CodesType(), multiple=True, help="Report these findings as warnings, not as errors.")
@click.option("--no-import", "imports", flag_value=False, default=True, help="Do not import the consumers.")
@click.option(
    "--senders",
    metavar="PATH",
    type=click.Path(),
    multiple=True,
    help="Also check the sends in these Python files. Repeatable.",
)
@click.option("--verbose", is_flag=True, help="List the sends that --senders could not check, with the reason.")
@click.option(
    "--against",
    metavar="REF|DIR|FILE|LOCK",
    type=click.Path(),
    help="Compare with a release and report what would break.",
)
@click.option("--transitive", is_flag=True, help="Compare with every release of a lock, not only with the last.")
@click.option("--strict", is_flag=True, help="Assume that undeclared properties are used when comparing.")
@click.option("--layer", is_flag=True, help="Also check the events and dead letters in the layer.")
@click.option(
    "--output",
    type=OutputType(),
    multiple=True,
    help=f"Format: {', '.join(FORMATS)}. With a file, write it there. Repeatable.",
)
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning", "info", "never"], case_sensitive=False),
    default="error",
    show_default=True,
    help="Exit with 1 from this severity on.",
)
def command(  # noqa: PLR0913, PLR0917  (click hands over each option by its name)
    files: tuple[str, ...],
    select: tuple[frozenset[str], ...],
    ignore: tuple[frozenset[str], ...],
    warn: tuple[frozenset[str], ...],
    output: tuple[Output, ...],
    fail_on: str,
    verbose: bool,  # noqa: FBT001  (click hands over each option by its name)
    **options: Any,
) -> int:
    """Check contracts, schemas and consumers.

    FILE is a contract; without it, $CHANNELMAP_CONFIG or channels.yaml is checked. Each finding has a code in
    brackets, which `channelmap explain CODE` explains.
    """
    steps = Steps(**options)
    _require_consistent_options(files, steps, output)
    if verbose and not steps.senders:
        raise click.UsageError("--verbose needs --senders")
    selection = Selection(*(frozenset().union(*codes) for codes in (select, ignore, warn)))
    contracts = _load_all(files or (os.environ.get("CHANNELMAP_CONFIG") or "channels.yaml",))
    sends = _SendCounts() if steps.senders else None
    with collection_paused(), own_stdout() as stdout:
        found = _check_all(contracts, steps, sends)
        checked = tuple(Checked(path, _event_types_of(contract)) for path, contract in contracts.items())
        report = Report(checked, selection.apply(found), sends.counted() if sends else None)
        write(report, output, stdout, verbose=verbose)
    return _exit_code(report, fail_on)


def _require_consistent_options(files: tuple[str, ...], steps: Steps, outputs: tuple[Output, ...]) -> None:
    if steps.against == "":
        # Such as an unset variable in CI: it must not pass as a comparison without changes.
        raise click.UsageError("--against is empty: expected a git revision, a directory, a file or a lock")
    if steps.against is None and (steps.transitive or steps.strict):
        raise click.UsageError(f"--{'transitive' if steps.transitive else 'strict'} needs --against")
    if steps.against is not None and len(files) > 1 and os.path.isfile(steps.against):  # noqa: PTH113  (as typed)
        raise click.UsageError("--against with one file compares with one FILE, not with several")
    if len({output.path for output in outputs}) < len(outputs):
        raise click.UsageError(
            "two outputs are written to the same file or stream; name a file for one of them, such as 'json:FILE'"
        )


def _load_all(configs: tuple[str, ...]) -> dict[str, Contract | ContractError]:
    """Load each file once; return contracts and errors by the name of the file in messages."""
    loaded: dict[str, Contract | ContractError] = {}
    for config in configs:
        try:
            contract = load(config)
        except ContractError as error:
            if error.is_missing_file:
                raise
            loaded[label_of(Path(config))] = error
        else:
            loaded[contract.path] = contract
    return loaded


class _SendCounts:
    """Counts the sends over all contracts: a send counts as judged if one contract could check it."""

    def __init__(self) -> None:
        self._judged: set[Location] = set()
        self._unread: dict[Location, str] = {}

    def add(self, senders: "Senders") -> None:
        """Add the sends of the check of one contract."""
        self._judged |= senders.judged
        self._unread |= dict(senders.unread)

    def counted(self) -> Sends:
        """Return the counts."""
        unread = tuple(sorted(each for each in self._unread.items() if each[0] not in self._judged))
        return Sends(len(self._judged), unread)


def _check_all(
    contracts: dict[str, Contract | ContractError], steps: Steps, sends: _SendCounts | None
) -> list[Diagnostic]:
    found: list[Diagnostic] = []
    unknown_channels: dict[Location, list[Diagnostic]] = {}
    today = datetime.now(UTC).date()
    loaded = [contract for contract in contracts.values() if isinstance(contract, Contract)]
    for contract in contracts.values():
        if isinstance(contract, ContractError):
            found += contract.diagnostics
            continue
        for finding in without_suppressed(contract, _check(contract, loaded, steps, sends), steps.judged, today):
            if finding.code == Code.SENDER_UNKNOWN_CHANNEL:
                unknown_channels.setdefault(finding.location, []).append(finding)
            else:
                found.append(finding)
    # A channel is unknown only if no contract declares it.
    return found + [same[0] for same in unknown_channels.values() if len(same) == len(contracts)]


def _check(contract: Contract, beside: list[Contract], steps: Steps, sends: _SendCounts | None) -> Iterator[Diagnostic]:
    """Run the requested checks; each is imported when needed."""
    from channelmap.check.rules import check

    with importable(contract) if steps.imports else nullcontext():
        found = check(contract, beside=beside, imports=steps.imports)
    yield from found
    if sends is not None:
        from channelmap.check.senders import check_senders

        senders = check_senders(contract, steps.senders)
        sends.add(senders)
        yield from senders.findings
    if steps.against is not None:
        yield from _compare(contract, steps)
    if steps.layer:
        yield from _check_layer(contract)


def _compare(contract: Contract, steps: Steps) -> Iterator[Diagnostic]:
    from channelmap.check.compare import compare, findings, read_baseline, release_of

    assert steps.against is not None
    now = release_of(contract, contract.path)
    releases = read_baseline(steps.against, contract.path, transitive=steps.transitive)
    yield from findings([compare(release, now, strict=steps.strict) for release in releases], contract)


def _check_layer(contract: Contract) -> tuple[Diagnostic, ...]:
    url = contract.layer.url
    if url.startswith("memory:"):
        raise click.UsageError(
            f"--layer: {shown(url)}: a layer in memory belongs to one process, so this process sees no events of others"
        )
    file = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:") and file.parent.is_dir() and not file.exists():
        click.echo(f"{shown(url)}: there is no such file yet, so there are no events to check", err=True)
    with importable(contract) if contract.layer.backend else nullcontext():
        from channelmap.sending import open_contract_layer

        return asyncio.run(_check_events_of(contract, open_contract_layer(contract)))


async def _check_events_of(contract: Contract, layer: "ChannelLayer") -> tuple[Diagnostic, ...]:
    from channelmap.check.stored_events import check_stored_events

    try:
        return await check_stored_events(contract, layer)
    finally:
        await layer.close()


def _event_types_of(contract: Contract | ContractError) -> tuple[tuple[str, str], ...]:
    if isinstance(contract, ContractError):
        return ()
    return tuple(
        (shown(channel.name), event_type) for channel in contract.channels.values() for event_type in channel.events
    )


def _exit_code(report: Report, fail_on: str) -> int:
    if fail_on == "never":
        return Exit.FINE
    least = _WEIGHT[Severity(fail_on)]
    return Exit.FINDINGS if any(_WEIGHT[finding.severity] >= least for finding in report.diagnostics) else Exit.FINE
