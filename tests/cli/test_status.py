"""`channelmap status`, `peek` and `purge`, beside real workers on real layers."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from channelmap.layer import WORKER_TIMEOUT_SECS
from tests.layers.redis_servers import VOLATILE, Server
from tests.monitor.site import handled, send, write_site

ROOT = Path(__file__).parent.parent.parent
SCHEMA = json.loads((ROOT / "docs/status.schema.json").read_text())

Start = Callable[..., Any]
Wait = Callable[..., None]


@pytest.fixture
def site(project: Path) -> Path:
    write_site(project)
    return project


@pytest.fixture(params=["sqlite", "redis"])
def layer(request: pytest.FixtureRequest, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a layer, which the contract of the site names."""
    if request.param == "sqlite":
        yield "sqlite:///channels.db"
        return
    server = Server(tmp_path / "server", *VOLATILE)
    server.start()
    monkeypatch.setenv("URL", server.url)
    yield server.url
    server.kill()


def status(run: Start, *arguments: str) -> Any:
    command = run("status", "--json", *arguments)
    assert command.popen.returncode == 0, command.errors
    found = json.loads(command.output)
    jsonschema.Draft7Validator(SCHEMA).validate(found)
    return found


def test_the_status_before_during_and_after_workers(
    site: Path, layer: str, start: Start, run: Start, wait_until: Wait
) -> None:
    send(site, "async", count=3)
    send(site, "sync", "fail")
    before = status(run)
    assert before["workers"] == []
    assert {name: channel["waiting"] for name, channel in before["channels"].items()} == {
        "async": 3, "sync": 1, "loose": 0,
    }  # fmt: skip
    assert before["channels"]["async"]["oldest_seconds"] > 0
    assert before["channels"]["loose"]["oldest_seconds"] is None

    stopping, killed = start("runworker", "async"), start("runworker", "sync", "loose")
    wait_until(lambda: len(status(run)["workers"]) == 2, "both workers")
    send(site, "loose", count=5)
    wait_until(lambda: handled(site) == 8, "the events")
    send(site, "sync", "block")
    wait_until(lambda: status(run)["channels"]["sync"]["in_flight"] == 1, "the event in flight")
    during = status(run)
    assert [(worker["pid"], worker["channels"]) for worker in during["workers"]] == [
        (worker.popen.pid, channels)
        for worker, channels in sorted(
            ((stopping, ["async"]), (killed, ["sync", "loose"])),
            key=lambda pair: next(w["started"] for w in during["workers"] if w["pid"] == pair[0].popen.pid),
        )
    ]
    assert len({worker["contract"] for worker in during["workers"]}) == 1
    wait_until(lambda: status(run)["channels"]["loose"]["totals"]["handled"] == 5, "the totals")

    stopping.signal(signal.SIGTERM)
    assert stopping.wait() == 0
    after = status(run)
    assert [worker["pid"] for worker in after["workers"]] == [killed.popen.pid]
    assert after["channels"]["async"]["totals"]["handled"] == 3
    assert after["channels"]["sync"]["dead"] == {"failed": 1}

    killed.signal(signal.SIGKILL)
    killed.wait()
    wait_until(lambda: status(run)["workers"] == [], "the dead worker to disappear", WORKER_TIMEOUT_SECS + 10)
    assert status(run)["channels"]["loose"]["totals"]["handled"] == 5


def test_the_table_names_channels_and_workers(site: Path, start: Start, run: Start, wait_until: Wait) -> None:
    send(site, "async", count=3)
    assert "no worker runs" in run("status").output
    start("runworker", "sync")
    wait_until(lambda: "no worker runs" not in run("status").output, "the worker")
    lines = [line.split() for line in run("status", COLUMNS="200").output.splitlines()]
    assert lines[0][:3] == ["CHANNEL", "WAITING", "OLDEST"]
    assert lines[1][:2] == ["async", "3"]


def test_only_the_named_channels_are_shown(site: Path, run: Start) -> None:
    assert [*status(run, "sync")["channels"]] == ["sync"]
    command = run("status", "snyc")
    assert command.popen.returncode == 2
    assert "did you mean 'sync'?" in command.errors


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("waiting>2", "channel 'async': waiting is 3 (waiting>2)"),
        ("waiting >= 3", "channel 'async': waiting is 3 (waiting >= 3)"),
        ("workers<1", "channel 'async': workers is 0 (workers<1)"),
        ("oldest>0s", "channel 'async': oldest is "),
        ("waiting>3", ""),
        ("oldest>1h", ""),
        ("dead>0", ""),
    ],
)
def test_a_condition_that_is_met_ends_with_1(site: Path, run: Start, condition: str, said: str) -> None:
    send(site, "async", count=3)
    command = run("status", "async", "--fail-on", condition)
    assert command.popen.returncode == (1 if said else 0), command.errors
    assert said in command.errors
    assert bool(said) or command.errors == ""


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ("waiting", "'waiting': expected a quantity, an operator and a number, as in 'oldest>60s'"),
        ("wating>3", "'wating>3': 'wating' is not a quantity; did you mean 'waiting'?"),
        ("dead>3s", "'dead>3s': dead is a number without a unit"),
        ("oldest>60 weeks", "'oldest>60 weeks': expected a quantity"),
    ],
)
def test_a_wrong_condition_is_a_wrong_argument(site: Path, run: Start, condition: str, problem: str) -> None:
    command = run("status", "--fail-on", condition)
    assert command.popen.returncode == 2
    assert problem in " ".join(command.errors.split())


def test_watching_goes_on_until_it_is_interrupted(site: Path, start: Start, wait_until: Wait) -> None:
    watching = start("status", "--watch")
    wait_until(lambda: "CHANNEL" in watching.output, "the first screen")
    send(site, "async", count=12)
    wait_until(lambda: "12" in watching.output, "the next screen")
    watching.signal(signal.SIGINT)
    assert watching.wait() == 130
    assert "Traceback" not in watching.errors


def test_the_keys_are_those_of_redis(site: Path, tmp_path: Path, run: Start) -> None:
    server = Server(tmp_path / "server", *VOLATILE)
    server.start()
    command = run("status", "async", "--keys", URL=server.url)
    assert command.popen.returncode == 0, command.errors
    assert command.output.splitlines()[0] == "async\twaiting\tasgiasync"
    server.kill()
    refused = run("status", "--keys")
    assert refused.popen.returncode == 2
    assert "has no keys; only a layer in Redis has" in refused.errors


@pytest.mark.parametrize("command", [["status"], ["peek", "async"], ["purge", "async", "--yes"]])
def test_a_layer_in_memory_or_of_somebody_else_has_no_status(site: Path, run: Start, command: list[str]) -> None:
    refused = run(*command, URL="memory://")
    assert (refused.popen.returncode, "memory" in refused.errors) == (2, True)
    assert "Traceback" not in refused.errors
    (site / "channels.yaml").write_text(
        (site / "channels.yaml").read_text().replace(
            "${URL:-sqlite:///channels.db}",
            "{backend: channels_redis.core.RedisChannelLayer, config: {hosts: ['redis://127.0.0.1:1']}}",
        ).replace("delivery: at-least-once", "delivery: at-most-once").replace("retry: {attempts: 2, delay: 0.01}", "")
    )  # fmt: skip
    refused = run(*command)
    assert refused.popen.returncode == 2
    assert "Traceback" not in refused.errors


def test_a_layer_that_is_away_is_named(site: Path, run: Start) -> None:
    command = run("status", URL="redis://127.0.0.1:1")
    assert command.popen.returncode == 2
    assert "the connection was refused; is the server running?" in command.errors
    assert "Traceback" not in command.errors


def test_peek_shows_events_and_leaves_them(site: Path, layer: str, run: Start) -> None:
    send(site, "async", count=3, secret="s3cret")
    shown = run("peek", "async", "--limit", "2")
    lines = [line.split("\t") for line in shown.output.splitlines()]
    assert [(attempt, event_type) for _, _, attempt, event_type in lines] == [("1", "job")] * 2
    assert "showed the first 2 events" in shown.errors
    assert "s3cret" not in shown.output
    assert '"secret": "s3cret"' in run("peek", "async", "--payload").output
    assert status(run)["channels"]["async"]["waiting"] == 3


def test_purge_deletes_what_waits_and_asks_first(site: Path, layer: str, run: Start, start: Start) -> None:
    send(site, "async", count=3)
    asking = run("purge", "async")
    assert asking.popen.returncode != 0
    assert "3 waiting and 0 scheduled events would be deleted" in asking.errors
    assert status(run)["channels"]["async"]["waiting"] == 3
    done = run("purge", "async", "--yes")
    assert (done.popen.returncode, "deleted 3 waiting and 0 scheduled events" in done.errors) == (0, True)
    assert status(run)["channels"]["async"]["waiting"] == 0


def test_purge_without_an_answer_deletes_nothing_and_says_how_to(site: Path, run: Start) -> None:
    send(site, "async", count=3)
    asking = run("purge", "async")
    assert asking.popen.returncode == 1
    assert "no answer; --yes deletes without asking" in asking.errors
    assert "Traceback" not in asking.errors


def test_purge_of_an_empty_channel_asks_nothing(site: Path, run: Start) -> None:
    done = run("purge", "async")
    assert (done.popen.returncode, "Delete them?" in done.errors) == (0, False)
