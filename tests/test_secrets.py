"""What comes from the environment may be a secret: it is in no finding, report, log, exception or `repr`."""

import asyncio
import re
import traceback
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from pickle import dumps, loads
from typing import Any

import pytest

from channelmap.check.report import FORMATS
from channelmap.cli import channelmap
from channelmap.cli.exits import Exit
from channelmap.cli.exits import run as run_command
from channelmap.contract import Contract
from channelmap.environment import FilledText, shown
from channelmap.errors import ContractError, EventRejected, LayerError, LayerUnavailable, UnknownChannel
from channelmap.loader import load
from channelmap.sending import ContractLayer, get_channel_layer, open_contract_layer

from .layers.redis_servers import VOLATILE, Server, running

SECRET = "mark3r-s3cret"
WRITTEN = '"${DEPLOY_TOKEN}"'

#: Every scalar and every key that can hold a variable stands on a line of its own.
EVERYTHING = """\
version: 1
layer:
  url: sqlite:///channels.db
  options:
    capacity: 5
    group_expiry: 5
    prefix: asgi
    serializer_format: json
    random_prefix_length: 5
    symmetric_encryption_keys:
      - some key
    channel_capacity:
      chat: 5
defaults:
  owner: somebody
  concurrency: 2
  validate: enforce
  delivery: at-least-once
  timeout: 5
  capacity: 5
  expiry: 5
  dead_letters: 5
  retry:
    attempts: 5
    delay: 5
    backoff: 5
    max_delay: 5
    jitter: 1
check:
  warn:
    - file-unused
  ignore:
    - code: schema-missing
      reason: because
      channel: jobs
      event: job
      until: "2099-01-01"
channels:
  jobs:
    consumer: nowhere.Consumer
    description: jobs
    owner: somebody
    events:
      job: job.json
      inline:
        description: text
        schema:
          properties:
            n:
              const: text
        accepts:
          - type: inline
            n: text
        rejects:
          - type: inline
  others:
    consumer: nowhere.Consumer
    events:
      job: true
"""
BACKEND = """\
version: 1
layer:
  backend: nowhere.Layer
  config:
    hosts:
      - text
    other: text
channels:
  jobs:
    consumer: nowhere.Consumer
    events:
      job: true
"""


def variants(text: str) -> list[Any]:
    """The file with one scalar from the environment, each in turn; and with one name of a channel."""
    lines = text.splitlines()
    found = []
    for number, line in enumerate(lines):
        replaced = re.sub(r"^( *(?:- )?(?:[\w-]+: )?(?:- )?)(\S[^:]*|\S*://\S*|\"\S+\")$", rf"\1{WRITTEN}", line)
        if line.strip() in {"jobs:", "others:"}:
            replaced = f"  {WRITTEN}:"
        if replaced != line:
            found.append(pytest.param("\n".join([*lines[:number], replaced, *lines[number + 1 :]]), id=line.strip()))
    return found


@pytest.fixture(autouse=True)
def environment(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOY_TOKEN", SECRET)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    (project / "job.json").write_text('{"properties": {"id": {"type": "integer"}}}')


@pytest.mark.parametrize("text", [*variants(EVERYTHING), *variants(BACKEND)])
def test_no_scalar_from_the_environment_is_shown_by_any_command_or_value(
    text: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "channels.yaml").write_text(text)
    told = [tell(lambda: told_by_values(load()))]

    for output in FORMATS:
        run_command(channelmap, "channelmap", ["check", "--output", output])
    run_command(channelmap, "channelmap", ["check", "--layer", "--senders", "."])
    run_command(channelmap, "channelmap", ["lock", "1.0"])
    run_command(channelmap, "channelmap", ["send", "jobs", '{"type": "job", "id": "no number"}'])
    run_command(channelmap, "channelmap", ["dead", "list"])

    told += [*capsys.readouterr(), *(path.read_text() for path in project.glob("*.lock.json"))]
    assert SECRET not in "\n".join(told)
    assert told[1].strip(), "nothing was told at all"


def tell(do: Callable[[], object]) -> str:
    """All that a caller, a log or a debugger shows of what is returned or raised."""
    try:
        value = do()
    except Exception as error:  # noqa: BLE001  (whatever it is, it may tell a secret)
        findings = getattr(error, "diagnostics", ())
        return "\n".join([str(error), repr(error), *map(repr, findings), traceback.format_exc(), repr(vars(error))])
    return f"{value} {value!r}"


def told_by_values(contract: Contract) -> str:
    layer = tell(lambda: open_contract_layer(contract))
    unknown = tell(lambda: contract.channel("nowhere"))
    rejected = [channel.judge({"type": "nothing"}) for channel in contract.channels.values()]
    values = (contract, contract.channels, contract.document, rejected)
    return "\n".join([*map(repr, values), layer, unknown, *map(str, rejected)])


def test_a_finding_shows_the_text_as_it_was_written(project: Path) -> None:
    (project / "channels.yaml").write_text(
        "version: 1\nlayer: memory://\ndefaults:\n  concurrency: ${DEPLOY_TOKEN}\n  owner: [a]\n  timeout: ${MINUS}\n"
        "channels:\n  a:\n    consumer: b.C\n    capacity: x${DEPLOY_TOKEN}y\n    events: {c: true}\n"
    )
    with pytest.raises(ContractError) as caught:
        load(env={"DEPLOY_TOKEN": SECRET, "MINUS": "-5"})
    assert [finding.message for finding in caught.value.diagnostics] == [
        "'concurrency' expected an integer of at least 1, got text '${DEPLOY_TOKEN}'",
        "'owner' expected text, got a list",
        "'timeout' expected a number above 0 or null, got a number '${MINUS}'",
        "'capacity' expected an integer of at least 1, got text 'x${DEPLOY_TOKEN}y'",
    ]


def test_a_default_is_no_secret(project: Path) -> None:
    (project / "channels.yaml").write_text(
        "version: ${UNSET:-2}\nchannels: {a: {consumer: b.C, capacity: '${UNSET:-many}', events: {c: true}}}\n"
    )
    with pytest.raises(ContractError, match=r"expected 1, got 2\n.*got text 'many'"):
        load(env={})


def test_text_from_the_environment_is_that_text_to_all_code() -> None:
    text = FilledText("secret", "${X}")
    assert text == "secret"
    assert "secret" in {text: 1}
    assert f"{text}" == str(text) == "secret"
    assert (repr(text), shown(text)) == ("'${X}'", "${X}")
    for copied in (deepcopy(text), loads(dumps(text))):
        assert (copied, shown(copied)) == ("secret", "${X}")


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}@127.0.0.1:1/0", f"redis://{SECRET}:1/0", f"redis://127.0.0.1:{SECRET}", f"unix:///{SECRET}",
        f"redis+sentinel://127.0.0.1:1/{SECRET}/0", f"redis+cluster://:{SECRET}@127.0.0.1:1", f"rediss://{SECRET}:1",
        f"redis://127.0.0.1:1/0?{SECRET}=1", f"sqlite:///{SECRET}/x.db", f"sqlite://{SECRET}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("layer", ["${URL}", "{url: '${URL}'}"])
def test_no_error_of_a_layer_shows_a_url_from_the_environment(url: str, layer: str, project: Path) -> None:
    (project / "channels.yaml").write_text(
        f"version: 1\nlayer: {layer}\nchannels: {{jobs: {{consumer: b.C, events: {{job: true}}}}}}\n"
    )
    contract = load(env={"URL": url})
    with pytest.raises(LayerUnavailable) as caught:
        asyncio.run(send_and_close(contract))
    error = caught.value
    assert error.url == "${URL}"
    assert SECRET not in "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))


async def send_and_close(contract: Contract) -> None:
    layer = ContractLayer(contract)
    try:
        await layer.send("jobs", {"type": "job"})
    finally:
        await layer.close()


def test_a_password_in_the_file_is_cut_from_a_url_that_holds_a_variable_too(project: Path) -> None:
    (project / "channels.yaml").write_text(
        "version: 1\nlayer: redis://:open@${HOST}:1/0\nchannels: {jobs: {consumer: b.C, events: {job: true}}}\n"
    )
    with pytest.raises(LayerUnavailable, match=r"^redis://\$\{HOST\}:1/0: the connection was refused"):
        ContractLayer(load(env={"HOST": "127.0.0.1"})).send_sync("jobs", {"type": "job"})


def test_a_full_channel_is_told_by_the_layer_as_it_was_written(project: Path) -> None:
    (project / "channels.yaml").write_text(
        "version: 1\nlayer: ${URL}\nchannels: {jobs: {consumer: b.C, capacity: 1, events: {job: true}}}\n"
    )
    layer = ContractLayer(load(env={"URL": f"sqlite:///{SECRET}.db"}))
    layer.send_sync("jobs", {"type": "job"})
    with pytest.raises(LayerError, match=r"^\$\{URL\}: channel 'jobs' is full"):
        layer.send_sync("jobs", {"type": "job"})
    assert (project / f"{SECRET}.db").exists()


BACKENDS = """\
class Picky:
    def __init__(self, **config):
        raise ValueError(f"cannot use {config}")

class Broken:
    def __init__(self, **config):
        self.config = config

    async def send(self, channel, event):
        raise ConnectionError(f"cannot reach {self.config}")

    async def receive(self, channel): ...
"""


@pytest.mark.parametrize("backend", ["Picky", "Broken"])
def test_what_another_layer_says_of_a_configuration_from_the_environment_is_not_shown(
    backend: str, project: Path
) -> None:
    (project / "backends_of_secrets.py").write_text(BACKENDS)
    (project / "channels.yaml").write_text(
        f"version: 1\nlayer: {{backend: backends_of_secrets.{backend}, config: {{a: ['b:${{DEPLOY_TOKEN}}'], n: 1}}}}\n"
        "channels: {jobs: {consumer: b.C, events: {job: true}}}\n"
    )
    with pytest.raises(LayerUnavailable, match="Error; its text is not shown") as caught:
        asyncio.run(send_and_close(load()))
    assert SECRET not in "".join(traceback.format_exception(caught.value))


NAMED = """\
version: 1
layer: ${LAYER}
defaults: {delivery: at-least-once, retry: {attempts: 1}}
channels:
  "${DEPLOY_TOKEN}-jobs":
    consumer: work_of_secrets.Jobs
    description: of ${DEPLOY_TOKEN}
    timeout: 0.2
    events: {job: job.json, fail: true, hang: true}
  sync.${DEPLOY_TOKEN}:
    consumer: work_of_secrets.${CLASS}
    events: {job: job.json, fail: true}
"""
WORK = """\
import asyncio
from channelmap import AsyncConsumer, SyncConsumer

class Jobs(AsyncConsumer):
    async def job(self, event):
        print(self.scope["channel"] if hasattr(self, "scope") else "", event["id"], flush=True)

    async def fail(self, event):
        raise RuntimeError("no luck")

    async def hang(self, event):
        await asyncio.sleep(60)

class SyncJobs(SyncConsumer):
    def job(self, event):
        print(event["id"], flush=True)

    def fail(self, event):
        raise RuntimeError("no luck")
"""


@pytest.fixture
def named(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (project / "channels.yaml").write_text(NAMED)
    (project / "work_of_secrets.py").write_text(WORK)
    monkeypatch.setenv("LAYER", f"sqlite:///{SECRET}.db")
    monkeypatch.setenv("CLASS", "SyncJobs")
    return project


@pytest.fixture(params=["text", "json"])
def log_format(request: pytest.FixtureRequest, project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The format of the log; in JSON that of a worker on Valkey, elsewhere on SQLite."""
    if request.param == "text":
        yield request.param
        return
    server = Server(project / "server", *VOLATILE, password=SECRET)
    with running(server):
        monkeypatch.setenv("LAYER", server.url)
        yield request.param


def test_a_worker_serves_channels_named_by_the_environment_and_logs_them_as_written(
    named: Path, log_format: str, run: Callable[..., Any]
) -> None:
    layer = get_channel_layer()
    for name, events in ((f"{SECRET}-jobs", ("job", "fail", "hang")), (f"sync.{SECRET}", ("job", "fail"))):
        for kind in events:
            layer.send_sync(name, {"type": kind, "id": 7})
        # Past the contract, for the gate.
        layer.layer.send_sync(name, {"type": "job", "id": "no number"})
        layer.layer.send_sync(name, {"id": 7})

    process = run("runworker", "--burst", "--log-format", log_format, "--log-level", "debug")

    assert process.popen.returncode == Exit.FINE
    assert process.output.split().count("7") == 2
    assert "'${DEPLOY_TOKEN}-jobs', 'sync.${DEPLOY_TOKEN}' from ${LAYER}; 9 waiting" in process.errors
    assert "the handler took longer" in process.errors
    assert "'${DEPLOY_TOKEN}-jobs': the event has no type" in process.errors
    assert SECRET not in process.errors


def test_a_worker_that_must_poll_calls_the_file_as_it_was_written(
    named: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layer = get_channel_layer().layer
    layer.send_sync("jobs", {"type": "job", "id": 1})
    (named / f"{SECRET}.db-wake").rmdir()
    (named / f"{SECRET}.db-wake").write_text("in the way")

    async def take_two() -> None:
        await layer.take("jobs", 1)
        asyncio.get_running_loop().call_later(0.02, layer.send_sync, "jobs", {"type": "job", "id": 2})
        await layer.take("jobs", 1)
        await layer.close()

    with caplog.at_level("INFO", "channelmap.layers.sqlite"):
        asyncio.run(asyncio.wait_for(take_two(), 20))

    assert "${LAYER}: no notification socket (" in caplog.text
    assert SECRET not in caplog.text


def test_reports_and_pytest_call_channels_as_they_are_written(
    named: Path, run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for output in FORMATS:
        run_command(channelmap, "channelmap", ["check", "--output", output])
    assert SECRET not in capsys.readouterr().out

    (named / "work_of_secrets.py").write_text("class Jobs: ...\n")
    for output in FORMATS:
        run_command(channelmap, "channelmap", ["check", "--no-import", "--output", output])
    assert SECRET not in capsys.readouterr().out


def test_pytest_calls_channels_as_they_are_written(named: Path, start: Callable[..., Any]) -> None:
    process = start("--channelmap", "-v", "-rA", command=("-m", "pytest"), DEPLOY_TOKEN=SECRET)
    process.wait()
    assert "channels.yaml::${DEPLOY_TOKEN}-jobs::hang PASSED" in process.output
    assert SECRET not in process.output + process.errors


def test_a_name_that_is_filled_in_is_held_to_the_rules_of_names(project: Path) -> None:
    channel = "{consumer: b.C, events: {c: true}}"
    (project / "channels.yaml").write_text(
        f"version: 1\nchannels:\n  a-jobs: {channel}\n  '${{HOST}}-jobs': {channel}\n  ${{BAD}}: {channel}\n"
    )
    with pytest.raises(ContractError) as caught:
        load(env={"HOST": "a", "BAD": "a"})
    assert [str(finding) for finding in caught.value.diagnostics] == [
        "channels.yaml:4:3: error[duplicate-key] '${HOST}-jobs' is declared twice; first at 3:3"
    ]
    with pytest.raises(ContractError, match=r"'\$\{BAD\}' cannot be the name of a channel"):
        load(env={"HOST": "b", "BAD": "not a name"})


def test_only_keys_of_channels_are_filled_in(project: Path) -> None:
    (project / "channels.yaml").write_text(
        "version: 1\nchannels: {'${HOST:-here}': {consumer: b.C, events: {'${HOST}': true}}}\n"
    )
    (channel,) = load(env={"HOST": "a"}).channels.values()
    assert (channel.name, list(channel.events)) == ("a", ["${HOST}"])


def test_an_unset_name_in_a_key_is_found_at_its_place(project: Path) -> None:
    (project / "channels.yaml").write_text("version: 1\nchannels:\n  ${HOST}: {consumer: b.C, events: {c: true}}\n")
    with pytest.raises(ContractError, match=r"channels.yaml:3:3: error\[unset-variable\]"):
        load(env={})


def test_a_lock_knows_a_channel_by_its_written_name_so_it_holds_on_every_machine(
    named: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_command(channelmap, "channelmap", ["lock", "1.0"])
    text = (named / "channelmap.lock.json").read_text()
    assert '"${DEPLOY_TOKEN}-jobs"' in text
    assert SECRET not in text

    monkeypatch.setenv("DEPLOY_TOKEN", "other-machine")
    against = ["check", "--no-import", "--against", "channelmap.lock.json"]
    assert run_command(channelmap, "channelmap", against) == Exit.FINE
    assert "other-machine" not in capsys.readouterr().out
    changed = NAMED.replace("hang: true", "new: true, hang: {schema: {required: [id]}}")
    (named / "channels.yaml").write_text(changed)
    assert run_command(channelmap, "channelmap", against) == Exit.FINDINGS
    printed = capsys.readouterr().out
    assert "channels.yaml:9:41: info[event-type-added]" in printed
    assert "error[breaks-senders]" in printed
    assert "other-machine" not in printed


def test_a_suppression_names_a_channel_as_it_is_written(named: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suppression = 'check: {ignore: [{code: names-alike, reason: meant, channel: "${DEPLOY_TOKEN}.jobs"}]}\n'
    alike = '  "${DEPLOY_TOKEN}.jobs": {consumer: work_of_secrets.Jobs, events: {job: true}}\n'
    (named / "channels.yaml").write_text(NAMED + alike)
    assert run_command(channelmap, "channelmap", ["check", "--select", "names-alike"]) == Exit.FINE
    assert "'${DEPLOY_TOKEN}.jobs' is easily taken for '${DEPLOY_TOKEN}-jobs'" in capsys.readouterr().out
    (named / "channels.yaml").write_text(NAMED + alike + suppression)
    assert run_command(channelmap, "channelmap", ["check", "--select", "names-alike,ignore-unused"]) == Exit.FINE
    assert "names-alike" not in capsys.readouterr().out


def test_a_sender_is_told_of_channels_by_their_written_names(named: Path) -> None:
    layer = get_channel_layer()
    with pytest.raises(UnknownChannel) as unknown:
        layer.send_sync("nowhere", {"type": "job"})
    assert "declares '${DEPLOY_TOKEN}-jobs', 'sync.${DEPLOY_TOKEN}'" in str(unknown.value)
    assert SECRET not in str(unknown.value) + repr(unknown.value)
    with pytest.raises(EventRejected) as rejected:
        layer.send_sync(f"{SECRET}-jobs", {"type": "nothing"})
    assert "channel '${DEPLOY_TOKEN}-jobs'" in str(rejected.value)
    assert SECRET not in str(rejected.value) + repr(rejected.value)
