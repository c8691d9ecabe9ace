"""The comment for a pull request."""

import textwrap
from dataclasses import replace
from itertools import pairwise

import pytest
from markdown_it import MarkdownIt

from channelmap.check.report import Checked, Report, render
from channelmap.codes import Code, Severity
from channelmap.diagnostics import Diagnostic, Location

A_FINDING = Diagnostic(Location("channels.yaml", 3, 1), Code.WRONG_SHAPE, "expected text")


def test_the_deploy_order_is_above_the_table_and_events_are_folded(report: Report) -> None:
    expected = """\
        ### channelmap: 1 error, 1 warning, 1 info

        **Deploy order:** deploy the senders first

        Checked channels.yaml: 2 channels, 3 event types.

        | | where | what is wrong |
        | --- | --- | --- |
        | error | `channels.yaml:7:7` | MailConsumer has no method 'mail\\_sent' for event type 'mail.sent'; \
did you mean 'mail\\_send'? (`handler-missing`) |
        | warning | `channels.yaml:6:18` | 'mail.send' refuses events that it used to accept (`breaks-senders`) |

        <details><summary>Events that prove it</summary>

        `channels.yaml:6:18` `breaks-senders`:

        ```json
        {"type": "mail.send", "to": null}
        ```

        </details>
    """
    assert render(report, "markdown") == textwrap.dedent(expected)


def test_without_findings_markdown_says_that_everything_is_fine() -> None:
    fine = Report((Checked("channels.yaml", (("a", "b"),)),), ())
    assert render(fine, "markdown") == (
        "### channelmap: everything is fine\n\nChecked channels.yaml: 1 channel, 1 event type.\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "a|b \\| c",
        "`code` and ``more``",
        "<script>alert(1)</script> &amp; <!-- x",
        "*bold* _it_ ~~gone~~ **x**",
        "[text](https://example.com) ![x](y)",
        "costs $1 and $.size",
        "\\",
        "ends with `",
    ],
)
def test_text_is_escaped_for_markdown(text: str) -> None:
    finding = replace(A_FINDING, message=text, location=Location(text))
    tokens = (
        MarkdownIt("commonmark", {"html": True})
        .enable(["table", "strikethrough"])
        .parse(render(Report((), (finding,)), "markdown"))
    )
    cells = [token for before, token in pairwise(tokens) if before.type == "td_open"]
    assert len(cells) == 3
    for cell, shown in zip(cells[1:], (text, f"{text} (wrong-shape)"), strict=True):
        parts = cell.children or []
        assert "".join(part.content for part in parts) == shown
        assert {part.type for part in parts} <= {"text", "text_special", "code_inline"}


def test_a_text_mentions_no_user_and_links_to_no_issue() -> None:
    finding = replace(A_FINDING, message="@octocat in #12 and org/repo#3", location=Location("@octocat/c.yaml"))
    text = render(Report((), (finding,)), "markdown")
    assert "@&#8203;octocat in \\#&#8203;12 and org/repo\\#&#8203;3" in text
    assert "@octocat" not in text


def test_a_line_break_does_not_break_the_table() -> None:
    text = render(Report((), (replace(A_FINDING, message="one\n\ntwo"),)), "markdown")
    assert text.splitlines()[-1] == "| error | `channels.yaml:3:1` | one\\\\n\\\\ntwo (`wrong-shape`) |"


def test_an_event_cannot_leave_its_block() -> None:
    text = render(Report((), (replace(A_FINDING, witness='"````"\n```\n</details>'),)), "markdown")
    assert '`````json\n"````"\\n```\\n</details>\n`````\n' in text


@pytest.mark.parametrize("output", ["full", "markdown", "sarif"])
def test_a_very_long_event_is_cut_for_people_and_complete_for_programs(output: str) -> None:
    event = '{"text":"' + "a" * 5_001 + '"}'
    report = Report((), (replace(A_FINDING, witness=event),))
    text = render(report, output)
    assert "a… (5,012 characters; all of it with --output json)" in text.replace("\\u2026", "…")
    assert "a" * 1_001 not in text
    assert "a" * 5_001 in render(report, "json")


def test_a_comment_is_limited_and_says_how_many_findings_it_leaves_out() -> None:
    warnings = [replace(A_FINDING, severity=Severity.WARNING, message=f"w{number}") for number in range(120)]
    text = render(Report((), (*warnings, A_FINDING)), "markdown")
    assert text.count("\n| warning |") == 99
    assert text.count("\n| error |") == 1
    assert text.endswith("\n\nAnd 21 more.\n")
