"""Outputs of a report: terminal, pipe, files, and the job summary of GitHub."""

import os
from pathlib import Path
from typing import NamedTuple, TextIO

import click
from click.shell_completion import CompletionItem

from channelmap.check.report import FORMATS, Report, render
from channelmap.check.report.wording import one_line, summary
from channelmap.cli.colours import is_colourful
from channelmap.errors import did_you_mean, quoted


class Output(NamedTuple):
    """A format, and the file to write; `None` for stdout."""

    format: str
    path: Path | None


class OutputType(click.ParamType[Output]):
    """Parameter type of `FORMAT` and `FORMAT:FILE`."""

    name = "FORMAT[:FILE]"

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> "list[CompletionItem[str]]":
        """Complete the name of a format."""
        return [CompletionItem(name) for name in FORMATS if name.startswith(incomplete)]

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Output:
        """Return an output; fail if the format is unknown."""
        name, separator, path = value.partition(":")
        if name not in FORMATS:
            hint = did_you_mean(name, FORMATS) or f"expected one of {', '.join(FORMATS)}"
            self.fail(f"there is no format {quoted(name)}; {hint}", param, ctx)
        if separator and not path:
            self.fail(f"{quoted(value)} names no file after the colon", param, ctx)
        # /dev/stdout leads elsewhere while user code runs.
        return Output(name, None if path in {"", "-", "/dev/stdout"} else Path(path))


def write(report: Report, outputs: tuple[Output, ...], stdout: TextIO, *, verbose: bool) -> None:
    """Write a report to all outputs, and to stdout in any case; with `verbose`, list the unread sends as well."""
    if all(output.path for output in outputs):
        # First, so that it is written even if a file cannot be.
        outputs = (Output(_default_format(stdout), None), *outputs)
    for output in outputs:
        if output.path is not None:
            output.path.write_text(render(report, output.format), encoding="utf-8")
        else:
            stdout.write(render(report, output.format, colour=is_colourful(stdout)))
            stdout.flush()
            if output.format == "github":
                _add_to_summary(report)
    if verbose and report.sends:
        for location, reason in report.sends.unread:
            click.echo(one_line(f"{location}: not checked: {reason}"), err=True)
    if Output("full", None) not in outputs:
        click.echo(summary(report), err=True)


def _default_format(stdout: TextIO) -> str:
    if os.environ.get("GITHUB_ACTIONS") == "true":
        return "github"
    return "full" if stdout.isatty() else "concise"


def _add_to_summary(report: Report) -> None:
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        with Path(path).open("a", encoding="utf-8") as summary:
            summary.write(render(report, "markdown"))
