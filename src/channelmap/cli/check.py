"""`channelmap check`: prove that file, schemas, examples, consumers, senders and the last release agree."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from datetime import UTC, datetime
from typing import Any, NamedTuple, get_args

import click

from channelmap.cli.exits import Exit
from channelmap.cli.options import prepare_imports
from channelmap.cli.outputs import Output, OutputType, write
from channelmap.contract import Contract
from channelmap.diagnostics import BREAKS, Code, Diagnostic, Location, Severity
from channelmap.errors import ContractError, did_you_mean, quoted
from channelmap.loader import load
from channelmap.report import Checked, Report
from channelmap.selection import Selection, without_exempt

_ALL: frozenset[str] = frozenset(get_args(Code))
_OF_SENDERS = frozenset(code for code in _ALL if code.startswith("sender-"))
_OF_CONSUMERS = frozenset(code for code in _ALL if code.startswith(("consumer-", "handler-", "not-a-consumer")))
_OF_COMPARISON = BREAKS | {
    "compatibility-undecided", "property-dropped", "channel-added", "event-type-added", "deploy-order",
}  # fmt: skip
_OF_LAYER = frozenset({"waiting-refused", "dead-letter-refused"})
_WEIGHT = {Severity.INFO: 0, Severity.WARNING: 1, Severity.ERROR: 2}


class _Codes(click.ParamType[frozenset[str]]):
    """Reads codes with commas between them."""

    name = "CODE,..."

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[str]:
        codes = frozenset(filter(None, value.replace(" ", "").split(",")))
        for code in codes - _ALL:
            hint = did_you_mean(code, _ALL) or "`channelmap explain` lists them"
            self.fail(f"there is no code {quoted(code)}; {hint}", param, ctx)
        return codes


class Steps(NamedTuple):
    """What is to be checked beside the files themselves; the names are those of the options."""

    imports: bool
    senders: tuple[str, ...]
    against: str | None
    transitive: bool
    strict: bool
    layer: bool

    @property
    def judged(self) -> frozenset[str]:
        """The codes that are looked for."""
        unjudged: frozenset[str] = frozenset()
        for is_done, codes in (
            (self.imports, _OF_CONSUMERS),
            (bool(self.senders), _OF_SENDERS),
            (self.against is not None, _OF_COMPARISON),
            (self.layer, _OF_LAYER),
        ):
            unjudged |= frozenset() if is_done else codes
        return _ALL - unjudged


@click.command("check")
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--select", type=_Codes(), multiple=True, help="Only these findings.")
@click.option("--ignore", type=_Codes(), multiple=True, help="None of these findings.")
@click.option("--warn", type=_Codes(), multiple=True, help="These findings are warnings, no errors.")
@click.option("--no-import", "imports", flag_value=False, default=True, help="Import no consumers.")
@click.option("--senders", metavar="PATH", multiple=True, help="Judge what the Python files there send, too.")
@click.option("--against", metavar="REF|DIR|FILE|LOCK", help="Compare with a release: what would break?")
@click.option("--transitive", is_flag=True, help="Compare with all releases of a lock, not with the last alone.")
@click.option("--strict", is_flag=True, help="Count names that no schema declares as used, when comparing.")
@click.option("--layer", is_flag=True, help="Judge what waits in the layer, too.")
@click.option("--output", type=OutputType(), multiple=True, help="A format, and a file for it; may be repeated.")
@click.option(
    "--fail-on", type=click.Choice(["error", "warning", "info", "never"]), default="error", show_default=True,
    help="The least finding for which the exit code is 1.",
)  # fmt: skip
def command(  # noqa: PLR0913, PLR0917  (click hands over each option by its name)
    files: tuple[str, ...],
    select: tuple[frozenset[str], ...],
    ignore: tuple[frozenset[str], ...],
    warn: tuple[frozenset[str], ...],
    output: tuple[Output, ...],
    fail_on: str,
    **options: Any,
) -> int:
    """Check contract files: schemas, examples, consumers, and what else is asked for.

    FILE is $CHANNELMAP_CONFIG or channels.yaml unless given. Each finding has a code in brackets, which
    `channelmap explain CODE` explains.
    """
    steps = Steps(**options)
    _refuse_the_pointless(files, steps)
    selection = Selection(*(frozenset().union(*codes) for codes in (select, ignore, warn)))
    checked, found = _check_all(files or (os.environ.get("CHANNELMAP_CONFIG") or "channels.yaml",), steps)
    report = Report(tuple(checked), selection.apply(found))
    write(report, output)
    return _exit_code(report, fail_on)


def _refuse_the_pointless(files: tuple[str, ...], steps: Steps) -> None:
    if steps.against is None and (steps.transitive or steps.strict):
        raise click.UsageError(f"--{'transitive' if steps.transitive else 'strict'} needs --against")
    if steps.against is not None and len(files) > 1 and os.path.isfile(steps.against):  # noqa: PTH113  (as typed)
        raise click.UsageError("--against with one file compares with one FILE, not with several")


def _check_all(configs: tuple[str, ...], steps: Steps) -> tuple[list[Checked], list[Diagnostic]]:
    checked: list[Checked] = []
    found: list[Diagnostic] = []
    contracts: list[Contract] = []
    for config in configs:
        try:
            contract = load(config)
        except ContractError as error:
            if {finding.code for finding in error.diagnostics} == {"file-missing"}:
                raise
            checked.append(Checked(config))
            found += error.diagnostics
            continue
        contracts.append(contract)
        checked.append(Checked(contract.path, _cases(contract)))
    unknown_to: dict[Location, list[Diagnostic]] = {}
    for contract in contracts:
        findings = list(_check(contract, steps))
        kept = without_exempt(contract, findings, steps.judged, datetime.now(UTC).date())
        for finding in kept:
            if finding.code == "sender-unknown-channel":
                unknown_to.setdefault(finding.location, []).append(finding)
            else:
                found.append(finding)
    # A channel that one of the files declares is known.
    found += [same[0] for same in unknown_to.values() if len(same) == len(contracts)]
    return checked, found


def _check(contract: Contract, steps: Steps) -> Iterator[Diagnostic]:
    """Take the steps that were asked for; each is imported when it is."""
    from channelmap.checks import check

    if steps.imports:
        prepare_imports(contract.path)
    # What a consumer's module prints is no part of a report.
    with redirect_stdout(sys.stderr):
        yield from check(contract, imports=steps.imports)
    if steps.senders:
        from channelmap.senders import check_senders

        yield from check_senders(contract, steps.senders)
    if steps.against is not None:
        yield from _compared(contract, steps)
    if steps.layer:
        yield from asyncio.run(_waiting(contract))


def _compared(contract: Contract, steps: Steps) -> Iterator[Diagnostic]:
    from channelmap.compare import compare, findings, read_baseline, release_of

    assert steps.against is not None
    now = release_of(contract, contract.path)
    for release in read_baseline(steps.against, contract.path, transitive=steps.transitive):
        yield from findings(compare(release, now, strict=steps.strict), contract)


async def _waiting(contract: Contract) -> tuple[Diagnostic, ...]:
    from channelmap.sending import open_contract_layer
    from channelmap.waiting import check_waiting

    layer = open_contract_layer(contract)
    try:
        return await check_waiting(contract, layer)
    finally:
        await layer.close()


def _cases(contract: Contract) -> tuple[tuple[str, str], ...]:
    return tuple((channel.name, event_type) for channel in contract.channels.values() for event_type in channel.events)


def _exit_code(report: Report, fail_on: str) -> int:
    if fail_on == "never":
        return Exit.FINE
    least = _WEIGHT[Severity(fail_on)]
    return Exit.FINDINGS if any(_WEIGHT[finding.severity] >= least for finding in report.diagnostics) else Exit.FINE
