"""The format `full`: it shows the right line, with marks below the right word."""

import os
import re
import textwrap
from pathlib import Path

import pytest
from rich.cells import cell_len

from channelmap.check.report import Checked, Report, render
from channelmap.codes import Code, Severity
from channelmap.diagnostics import Diagnostic, Location, Related


def shown(path: str, line: int, column: int) -> str:
    """Render a finding without a message at that location, and return the lines below its arrow."""
    text = render(Report((), (Diagnostic(Location(path, line, column), Code.WRONG_SHAPE, "wrong"),)), "full")
    return "\n".join(text.splitlines()[2:-2])


def underlined(line: str, column: int = 1, path: str = "channels.yaml") -> str:
    """Return the marked text of a finding in a file with that one line."""
    Path(path).write_text(line, encoding="utf-8")
    below = shown(path, 1, column).splitlines()
    text, marks = below[1].partition("| ")[2], below[2].partition("| ")[2]
    start, end = marks.index("^"), len(marks)
    # The terminal cells, counted by another library.
    return "".join(char for at, char in enumerate(text) if start <= cell_len(text[:at]) < end)


def test_a_finding_is_a_block_and_a_report_ends_with_a_summary(report: Report) -> None:
    expected = """\
        info[deploy-order]: deploy the senders first
          --> channels.yaml

        warning[breaks-senders]: 'mail.send' refuses events that it used to accept
          --> channels.yaml:6:18
           |
         6 |       mail.send: schemas/send.json
           |                  ^^^^^^^^^^^^^^^^^
           |
           = event: {"type": "mail.send", "to": null}

        error[handler-missing]: MailConsumer has no method 'mail_sent' for event type 'mail.sent'
          --> channels.yaml:7:7
           |
         7 |       mail.sent: true
           |       ^^^^^^^^^
           |
          ::: channels.yaml:4:15
           |
         4 |     consumer: app.MailConsumer
           |               ---------------- it is named here
           |
          ::: app.py:1:1
           |
         1 | class MailConsumer:
           | ------------------ the consumer
           |
          ::: app.py:2:5
           |
         2 |     async def mail_send(self, event): ...
           |     ------------------- the nearest handler
           |
           = help: did you mean 'mail_send'?

        checked channels.yaml: 2 channels, 3 event types; 1 error, 1 warning, 1 info
    """
    assert render(report, "full") == textwrap.dedent(expected)


def test_colours_add_nothing_but_colours(report: Report) -> None:
    coloured = render(report, "full", colour=True)
    assert "\x1b[1;31merror[handler-missing]\x1b[0m" in coloured
    assert "\x1b[1;33m^^^^^^^^^^^^^^^^^\x1b[0m" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == render(report, "full")


@pytest.mark.parametrize(
    ("checked", "severities", "summary"),
    [
        ((Checked("c.yaml", (("a", "b"),)),), [], "checked c.yaml: 1 channel, 1 event type; everything is fine"),
        ((Checked("c.yaml"),), [Severity.ERROR], "checked c.yaml; 1 error"),
        ((), [Severity.ERROR, Severity.INFO, Severity.INFO, Severity.ERROR], "2 errors, 2 infos"),
        (
            (Checked("c.yaml", (("a", "b"), ("a", "c"))), Checked("d.yaml", (("a", "b"),))),
            [Severity.WARNING],
            "checked c.yaml, d.yaml: 2 channels, 3 event types; 1 warning",
        ),
    ],
)
def test_the_summary_counts(checked: tuple[Checked, ...], severities: list[Severity], summary: str) -> None:
    found = [Diagnostic(Location("gone"), Code.WRONG_SHAPE, "x", severity=severity) for severity in severities]
    assert render(Report(checked, tuple(found)), "full").splitlines()[-1] == summary


@pytest.mark.parametrize(
    ("line", "column", "word"),
    [
        ('"quo\\"ted, text": 1', 1, '"quo\\"ted, text"'),
        ("'it''s': 1", 1, "'it''s'"),
        ("'never closed, ", 1, "'never closed"),
        ("key: value  # why", 1, "key"),
        ("key: value  # why", 6, "value"),
        ("key: a#b", 6, "a#b"),
        ("last:", 1, "last"),
        ("[one, two words, three]", 7, "two words"),
        ("{a: one, b: two}", 13, "two"),
        ("{a: one}", 1, "{"),
        ("a, b", 2, ","),
        ("layer: ${LAYER:-sqlite:///x.db}/y", 8, "${LAYER:-sqlite:///x.db}/y"),
        ("at: 12:30", 5, "12:30"),
        ("\t\ttabs: here", 3, "tabs"),
        ("größe: 漢字 x", 8, "漢字 x"),
        ("漢字: \uff57\uff49\uff44\uff45, x", 5, "\uff57\uff49\uff44\uff45"),
        ("e\u0301tat: cafe\u0301s", 8, "cafe\u0301s"),
        ("👍: 🎉", 4, "🎉"),
    ],
)
def test_the_word_at_the_location_is_underlined(project: Path, line: str, column: int, word: str) -> None:
    assert underlined(line, column) == word


@pytest.mark.parametrize(
    ("line", "column", "word"),
    [
        ("class Chat(Consumer):", 1, "class Chat"),
        ("@abc.abstractmethod", 1, "@abc.abstractmethod"),
        ("    async def send(self, event):", 5, "async def send"),
        ('layer.send("mail", {"type": "x"})', 12, '"mail"'),
        ("layer.send(name)", 1, "layer.send"),
    ],
)
def test_in_python_the_word_is_a_name_a_text_or_the_head_of_a_definition(
    project: Path, line: str, column: int, word: str
) -> None:
    assert underlined(line, column, "app.py") == word


def test_a_location_at_the_end_of_a_line_gets_a_mark(project: Path) -> None:
    (project / "c.yaml").write_text("a: [1\n")
    assert shown("c.yaml", 1, 6) == "   |\n 1 | a: [1\n   |      ^"
    assert shown("c.yaml", 2, 1) == "   |\n 2 |\n   | ^"


def test_a_long_line_is_shown_around_the_word(project: Path) -> None:
    line = "[" + ", ".join(f"item-{number}" for number in range(1500)) + "]"
    assert len(line) > 10_000
    column = line.index("item-777") + 1
    assert underlined(line, column) == "item-777"
    text = shown("channels.yaml", 1, column).splitlines()[1]
    assert text.startswith(" 1 | …")
    assert text.endswith("…")
    assert len(text) < 110


def test_a_long_word_is_underlined_as_far_as_it_is_shown(project: Path) -> None:
    (project / "c.yaml").write_text("k: " + "x" * 10_000)
    _, text, marks = shown("c.yaml", 1, 4).splitlines()
    assert marks.rstrip() == "   |    " + "^" * 97
    assert text == " 1 | k: " + "x" * 97 + "…"


def test_without_a_column_the_line_is_shown_without_a_mark(project: Path) -> None:
    (project / "c.yaml").write_text("a: 1\n")
    assert shown("c.yaml", 1, 0) == "   |\n 1 | a: 1"


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_as_the_loader_counts_them(project: Path, line_end: str) -> None:
    (project / "c.yaml").write_bytes(f"\ufeffa: 1\u2028\x0b{line_end}b: 2{line_end}".encode())
    assert shown("c.yaml", 1, 4) == "   |\n 1 | a: 1\ufffd\ufffd\n   |    ^"
    assert shown("c.yaml", 2, 1) == "   |\n 2 | b: 2\n   | ^"


def test_a_line_that_is_not_utf_8_is_shown_with_replacement_characters(project: Path) -> None:
    (project / "c.yaml").write_bytes(b"name: caf\xe9\n")
    assert shown("c.yaml", 1, 10) == "   |\n 1 | name: caf\ufffd\n   |          ^"


def test_control_characters_are_replaced_for_the_terminal(project: Path) -> None:
    (project / "c.yaml").write_bytes("a: \x1b[2J\u202eb\n".encode())
    assert shown("c.yaml", 1, 1).splitlines()[1] == " 1 | a: \ufffd[2J\ufffdb"


def test_a_finding_without_a_readable_line_is_shown_without_an_excerpt(project: Path) -> None:
    (project / "short.yaml").write_text("a: 1\n")
    (project / "binary.yaml").write_bytes(b"a: 1\x00\n")
    (project / "huge.yaml").write_bytes(b"a: 1\n" * 3_400_000)
    os.mkfifo(project / "pipe.yaml")
    for path in ("gone.yaml", "binary.yaml", "huge.yaml", "pipe.yaml", ".", "", "no\0file", "x" * 300):
        assert shown(path, 1, 1) == "", path
    assert shown("short.yaml", 9, 1) == ""
    assert shown("short.yaml", 1, 9) == ""


def test_a_related_location_without_a_line_keeps_its_message(project: Path) -> None:
    related = (Related(Location("gone.py", 12), "was here"),)
    report = Report((), (Diagnostic(Location("gone.yaml"), Code.WRONG_SHAPE, "wrong", related=related),))
    assert render(report, "full").splitlines()[:4] == [
        "error[wrong-shape]: wrong",
        "   --> gone.yaml",
        "    |",
        "   ::: gone.py:12: was here",
    ]
