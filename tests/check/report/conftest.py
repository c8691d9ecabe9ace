"""Fixtures for tests of reports: a small project with findings of all kinds."""

import textwrap
from pathlib import Path

import pytest

from channelmap.check.report import Checked, Report
from channelmap.codes import Code, Severity
from channelmap.diagnostics import Diagnostic, Location, Related

CONTRACT = """\
version: 1
channels:
  mail:
    consumer: app.MailConsumer
    events:
      mail.send: schemas/send.json
      mail.sent: true
  sms:
    consumer: app.SmsConsumer
    events: {sms.send: true}
"""
CONSUMERS = """\
class MailConsumer:
    async def mail_send(self, event): ...


class SmsConsumer:
    async def sms_send(self, event): ...
"""


@pytest.fixture(autouse=True)
def _no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset the variables of a service that runs these tests."""
    for name in ("GITHUB_WORKSPACE", "CI_PROJECT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def report(project: Path) -> Report:
    """A report with an error with two related locations, a warning with an event that proves it, and an info."""
    (project / "channels.yaml").write_text(CONTRACT)
    (project / "app.py").write_text(textwrap.dedent(CONSUMERS))
    missing = Diagnostic(
        Location("channels.yaml", 7, 7),
        Code.HANDLER_MISSING,
        "MailConsumer has no method 'mail_sent' for event type 'mail.sent'",
        "did you mean 'mail_send'?",
        related=(
            Related(Location("app.py", 1, 1), "the consumer"),
            Related(Location("channels.yaml", 4, 15), "it is named here"),
            Related(Location("app.py", 2, 5), "the nearest handler"),
        ),
        channel="mail",
        event_type="mail.sent",
    )
    breaks = Diagnostic(
        Location("channels.yaml", 6, 18),
        Code.BREAKS_SENDERS,
        "'mail.send' refuses events that it used to accept",
        severity=Severity.WARNING,
        channel="mail",
        event_type="mail.send",
        witness='{"type": "mail.send", "to": null}',
    )
    order = Diagnostic(
        Location("channels.yaml"), Code.DEPLOY_ORDER, "deploy the senders first", severity=Severity.INFO, channel=""
    )
    cases = (("mail", "mail.send"), ("mail", "mail.sent"), ("sms", "sms.send"))
    return Report((Checked("channels.yaml", cases),), (order, breaks, missing))
