"""docs/operations.md: its files are parsed, its commands exist, and what it says of KEDA is tried on real servers."""

import configparser
import errno
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import click
import pytest
import redis
import yaml
from redis.cluster import RedisCluster

from channelmap.cli.logs import _EVENT_FIELDS
from channelmap.cli.runworker import _KILL_AFTER_SECS
from channelmap.cli.runworker import command as runworker
from channelmap.worker.timing import Timing
from tests.layers.redis_servers import VOLATILE, Cluster, Server, free_port, running
from tests.monitor.site import Client

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "operations.md").read_text(encoding="utf-8")


def files_of(text: str) -> dict[str, str]:
    """Return the files that a document shows, by their names."""
    return dict(re.findall(r"^<!-- file: (.+?) -->\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


FILES = files_of(TEXT)

Start = Callable[..., Any]
Wait = Callable[..., None]


def options_of(arguments: list[str]) -> dict[str, Any]:
    """Return the options that `runworker` reads from arguments; fail if it does not know one."""
    with runworker.make_context("runworker", list(arguments), resilient_parsing=False) as context:
        return context.params


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(s|min|m)?", text).groups()  # type: ignore[union-attr]
    return float(number) * (60 if unit in {"m", "min"} else 1)


def shortest_stop(options: dict[str, Any]) -> float:
    """Return how long a service manager must wait, at least, before it kills a worker that stops."""
    grace = _KILL_AFTER_SECS if options["processes"] > 1 else Timing().grace
    return float(options["drain_timeout"]) + grace


def test_the_table_of_grace_periods_has_what_is_needed() -> None:
    single, several = (
        shortest_stop(options_of(["--processes", processes, "--drain-timeout", "25"])) for processes in ("1", "2")
    )
    for row in re.findall(r"^\| (?:systemd|Kubernetes|Docker) \| .*$", TEXT, re.MULTILINE):
        needed = row.split(" | ")[-1]
        alone, supervised = map(int, re.findall(r"(\d+) s", needed))
        assert (alone >= single, supervised >= several) == (True, True), row


# systemd


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have capitals
    parser.read_string(FILES["channelmap.service"])
    return parser


def test_the_unit_waits_longer_than_the_drain_and_feeds_its_watchdog() -> None:
    service = unit()["Service"]
    program, *arguments = shlex.split(service["ExecStart"])
    options = options_of(arguments)

    assert Path(program).name == "runworker"
    assert service["Type"] == "notify"
    assert float(service["TimeoutStopSec"]) > shortest_stop(options)
    # The worker sends a message every half a second.
    assert float(service["WatchdogSec"]) >= 2
    assert service["RestartPreventExitStatus"].split() == ["1", "2"]


def test_systemd_reads_the_unit_without_a_complaint(tmp_path: Path) -> None:
    text = FILES["channelmap.service"].replace("/srv/app/.venv/bin/runworker", "/bin/true")
    path = tmp_path / "channelmap.service"
    path.write_text(text, encoding="utf-8")
    assert unit().sections() == ["Unit", "Service", "Install"]
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return
    broken = tmp_path / "broken.service"
    broken.write_text(text.replace("WatchdogSec=30", "WatchdogSex=30"), encoding="utf-8")
    if "WatchdogSex" not in complaints_of(analyze, broken):
        return  # it does not work here
    assert complaints_of(analyze, path) == ""


def complaints_of(analyze: str, path: Path) -> str:
    """Return what systemd-analyze says about a unit file; it also reads the units that this one names."""
    done = subprocess.run([analyze, "verify", "--man=no", str(path)], capture_output=True, text=True, check=False)
    return "".join(line for line in (done.stdout + done.stderr).splitlines(keepends=True) if path.name in line)


# Docker


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", FILES["Dockerfile"], flags=re.MULTILINE))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def test_the_dockerfile_starts_a_worker_in_exec_form_as_a_user_with_a_number() -> None:
    found = instructions()
    last = dict(found)
    known = {"FROM", "ENV", "WORKDIR", "COPY", "RUN", "VOLUME", "USER", "EXPOSE", "ENTRYPOINT", "CMD"}

    assert found[0][0] == "FROM"
    assert {name for name, _ in found} <= known
    entrypoint, arguments = json.loads(last["ENTRYPOINT"]), json.loads(last["CMD"])
    assert entrypoint == ["runworker"]
    options = options_of(arguments)
    assert options["monitor"] == f"0.0.0.0:{last['EXPOSE']}"
    assert last["USER"].isdecimal()
    assert last["USER"] != "0"
    assert any("PYTHONUNBUFFERED=1" in rest for name, rest in found if name == "ENV")
    # The directory of the database, which the user owns, is a volume: the root is read-only.
    (layer,) = (rest.partition("=")[2] for name, rest in found if name == "ENV" and rest.startswith("CHANNELMAP_LAYER"))
    assert layer.startswith(f"sqlite:///{last['VOLUME']}/")
    (made,) = (rest for name, rest in found if name == "RUN" and "install --directory" in rest)
    assert f"--owner={last['USER']}" in made
    assert made.endswith(last["VOLUME"])
    assert found.index(("RUN", made)) < found.index(("VOLUME", last["VOLUME"])) < found.index(("USER", last["USER"]))


def test_compose_stops_the_container_in_time_and_mounts_the_volume() -> None:
    content = yaml.safe_load(FILES["compose.yaml"])
    service = content["services"]["worker"]
    options = options_of(service["command"])

    assert seconds(service["stop_grace_period"]) > shortest_stop(options)
    assert service["read_only"] is True
    (name, _, mounted) = service["volumes"][0].partition(":")
    assert name in content["volumes"]
    assert mounted == dict(instructions())["VOLUME"]


# Kubernetes


def test_the_deployment_has_probes_that_exist_and_a_grace_period_above_the_drain() -> None:
    deployment = yaml.safe_load(FILES["kubernetes/worker.yaml"])
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    options = options_of(container["args"])
    (port,) = container["ports"]

    assert deployment["spec"]["selector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert pod["terminationGracePeriodSeconds"] >= options["drain_timeout"] + 5
    assert pod["terminationGracePeriodSeconds"] >= shortest_stop(options)
    assert "lifecycle" not in container
    assert options["monitor"] == f"0.0.0.0:{port['containerPort']}"
    for probe, path in {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}.items():
        assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert str(pod["securityContext"]["runAsUser"]) == dict(instructions())["USER"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_every_path_of_the_monitor_is_in_the_table_of_probes() -> None:
    source = (DOCS.parent / "src" / "channelmap" / "monitor" / "server.py").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(/[\w.]+)` \|", TEXT, re.MULTILINE)) == set(re.findall(r'"(/[\w.]+)": self', source))


#: Consumers of the states below.
STATES = """\
import asyncio, os
from pathlib import Path
from channelmap import AsyncConsumer

while Path("importing").exists() and not Path("release").exists():
    pass


class Thumbnails(AsyncConsumer):
    def __init__(self):
        super().__init__()
        if Path("unstartable").exists():
            raise RuntimeError("no model")

    async def image_uploaded(self, event):
        Path("begun").touch()
        if "kill" in event:
            os._exit(9)
        while not Path("release").exists():
            await asyncio.sleep(0.01)
"""


@pytest.fixture
def states(project: Path) -> Path:
    (project / "channels.yaml").write_text(FILES["channels.yaml"])
    (project / "consumers.py").write_text(STATES)
    return project


def documented_codes(what: str) -> tuple[str, str]:
    """Return the cells of `/livez` and `/readyz` in the table of states, without emphasis."""
    found = re.search(rf"^\| {re.escape(what)} \| (.*?) \| (.*?) \| ", TEXT, re.MULTILINE)
    assert found, what
    return found[1].replace("**", ""), found[2].replace("**", "")


def monitored(start: Start, *options: str) -> tuple[Any, Client]:
    port = free_port()
    return start("runworker", "--monitor", str(port), *options), Client(port)


def codes_of(client: Client) -> tuple[int, int]:
    return client.code("/livez"), client.code("/readyz")


def connected(client: Client, wait_until: Wait) -> socket.socket:
    """Return a connection to the monitor, which listens before it answers."""
    connection = socket.socket()
    wait_until(lambda: connection.connect_ex(("127.0.0.1", client._port)) in {0, errno.EISCONN}, "the port")
    return connection


def is_ready(worker: Any) -> bool:
    return "; ready" in worker.errors


def test_a_worker_whose_handler_hangs_is_alive_and_ready_and_is_not_ready_when_it_drains(
    states: Path, start: Start, run: Start, wait_until: Wait
) -> None:
    worker, client = monitored(start)
    send(run, {"type": "image.uploaded"}, {})
    wait_until(lambda: is_handling(states) and client.metric("channelmap_in_flight", "thumbnails") == 1, "the handler")
    hangs = "a handler hangs: it awaits, or its thread waits, without end"
    assert codes_of(client) == tuple(map(int, documented_codes(hangs))) == (200, 200)

    worker.signal(signal.SIGTERM)
    wait_until(lambda: client.code("/readyz") == 503, "the drain")
    assert codes_of(client) == tuple(map(int, documented_codes("a worker drains"))) == (200, 503)
    (states / "release").touch()
    assert worker.wait() == 0


def test_a_worker_whose_consumer_cannot_start_or_whose_channel_is_paused_is_alive_and_ready(
    states: Path, start: Start, run: Start, wait_until: Wait
) -> None:
    (states / "unstartable").touch()
    worker, client = monitored(start)
    wait_until(lambda: "no model" in worker.errors and client.code("/readyz") == 200, "the failure")
    expected = tuple(map(int, documented_codes("a consumer fails in its constructor")))
    assert codes_of(client) == expected == (200, 200)
    assert run("pause", "thumbnails").popen.returncode == 0
    wait_until(lambda: client.metric("channelmap_paused", "thumbnails") == 1, "the pause")
    assert codes_of(client) == tuple(map(int, documented_codes("a channel is paused"))) == (200, 200)


def test_a_worker_that_imports_does_not_answer_and_its_supervisor_is_not_ready(
    states: Path, start: Start, wait_until: Wait
) -> None:
    (states / "importing").touch()
    alive, ready = documented_codes("a worker imports its consumers")
    assert (alive, ready) == ("no answer yet; a supervisor answers 200", "no answer yet, or 503")
    single, client = monitored(start)
    _, supervised = monitored(start, "--processes", "2")
    wait_until(lambda: codes_of(supervised) == (200, 503), "the supervisor")
    with connected(client, wait_until) as connection:
        connection.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert not is_ready(single)
        (states / "release").touch()
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    wait_until(lambda: codes_of(supervised) == codes_of(client) == (200, 200), "readiness")


def test_a_supervisor_stays_alive_and_ready_while_one_of_its_workers_is_replaced(
    states: Path, start: Start, run: Start, wait_until: Wait
) -> None:
    alive, ready = documented_codes("a worker process crashes")
    assert (alive, ready) == ("200: the supervisor replaces it", "503 if it was the only one")
    worker, client = monitored(start, "--processes", "2")
    wait_until(lambda: worker.errors.count("; ready") == 2, "both workers")
    (states / "importing").touch()  # so the next one takes its time
    send(run, {"type": "image.uploaded", "kill": True}, {})
    wait_until(lambda: "exit code 9" in worker.errors, "the crash")
    # The other worker's next report may come a second later.
    wait_until(lambda: codes_of(client) == (200, 200), "the other worker")
    assert worker.errors.count("; ready") == 2


# KEDA

#: The parameters of KEDA's triggers that the document uses.
PARAMETERS = {
    "redis": {"address", "listName", "listLength"},
    "redis-sentinel": {"addresses", "sentinelMaster", "listName", "listLength"},
    "redis-cluster": {"addresses", "listName", "listLength"},
}
#: What KEDA runs for a trigger: TYPE, and then a command that counts, depending on the type.
COUNT = """
local counting = {zset = 'ZCARD', none = 'LLEN'}
return redis.call(counting[redis.call('TYPE', KEYS[1]).ok], KEYS[1])
"""
#: Its handlers run until there is a file, or fail.
CONSUMERS = """\
import asyncio
from pathlib import Path
from channelmap import AsyncConsumer, Retry


class Thumbnails(AsyncConsumer):
    async def image_uploaded(self, event):
        if "later" in event:
            raise Retry(after=3600)
        Path("begun").touch()
        while not Path("release").exists():
            await asyncio.sleep(0.01)
"""


def triggers() -> list[dict[str, Any]]:
    authentication, scaled = yaml.safe_load_all(FILES["kubernetes/keda.yaml"])
    deployment = yaml.safe_load(FILES["kubernetes/worker.yaml"])
    assert scaled["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    found: list[dict[str, Any]] = scaled["spec"]["triggers"]
    assert {trigger["authenticationRef"]["name"] for trigger in found} == {authentication["metadata"]["name"]}
    return found


def test_the_triggers_have_the_parameters_of_their_types() -> None:
    others = yaml.safe_load(FILES["kubernetes/keda-others.yaml"])["triggers"]
    assert {trigger["type"] for trigger in [*triggers(), *others]} == set(PARAMETERS)
    for trigger in [*triggers(), *others]:
        assert set(trigger["metadata"]) == PARAMETERS[trigger["type"]]
        assert all(isinstance(value, str) for value in trigger["metadata"].values()), "KEDA takes text only"


@pytest.fixture
def site(project: Path) -> Path:
    """The project of the document, with handlers that wait."""
    (project / "channels.yaml").write_text(FILES["channels.yaml"])
    (project / "consumers.py").write_text(CONSUMERS)
    return project


def acl(keys: list[str]) -> list[str]:
    """Return the words of the document's command, for these keys."""
    words = shlex.split(FILES["acl.txt"])
    patterns = [word for word in words if word.startswith("~")]
    at = words.index(patterns[0])
    return [*words[:at], *(f"~{key}" for key in keys), *words[at + len(patterns) :]]


class Keda:
    """Counts what the triggers ask for, as the user that the document creates."""

    def __init__(self, client: Any, keys: dict[str, str]) -> None:
        self.client = client
        self.keys = keys

    def counts(self) -> dict[str, int]:
        return {name: int(self.client.eval(COUNT, 1, key)) for name, key in self.keys.items()}


def keys_printed(output: str) -> dict[str, str]:
    return {kind: key for _, kind, key in (line.split("\t") for line in output.splitlines())}


def is_handling(site: Path) -> bool:
    return (site / "begun").exists()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(tmp_path / "server", *VOLATILE)
    with running(found):
        yield found


def test_keda_counts_waiting_leased_and_scheduled_events_with_the_rights_of_the_document(
    site: Path, server: Server, start: Start, run: Start, wait_until: Wait
) -> None:
    environment = {"CHANNELMAP_LAYER": server.url}
    # What the document shows is what is printed.
    shown = re.search(r"^\$ channelmap status --keys .*\n((?:thumbnails\t.*\n)+)", TEXT, re.MULTILINE)
    printed = run("status", "--keys", "thumbnails", **environment)
    assert shown is not None
    assert printed.output == shown[1], printed.errors
    keys = {trigger["name"]: trigger["metadata"]["listName"] for trigger in triggers()}
    assert keys == keys_printed(printed.output)

    server.client.execute_command(*shlex.split(FILES["acl.txt"]))
    keda = Keda(redis.Redis(port=server.port, username="keda", password="password"), keys)
    assert keda.client.ping()
    assert keda.counts() == {"waiting": 0, "leased": 0, "scheduled": 0}

    send(run, {"type": "image.uploaded"}, environment)
    send(run, {"type": "image.uploaded"}, environment, "--delay", "3600")
    assert keda.counts() == {"waiting": 1, "leased": 0, "scheduled": 1}

    worker = start("runworker", **environment)
    wait_until(lambda: is_handling(site), "the handler")
    # A channel without waiting events is not idle.
    assert keda.counts() == {"waiting": 0, "leased": 1, "scheduled": 1}
    assert server.client.type(keys["leased"]) == server.client.type(keys["scheduled"]) == b"zset"

    (site / "release").touch()
    wait_until(lambda: keda.counts() == {"waiting": 0, "leased": 0, "scheduled": 1}, "the end of the lease")
    send(run, {"type": "image.uploaded", "later": True}, environment)
    wait_until(lambda: keda.counts() == {"waiting": 0, "leased": 0, "scheduled": 2}, "the retry")
    assert worker.popen.poll() is None
    keda.client.close()


def send(run: Start, event: dict[str, Any], environment: dict[str, str], *options: str) -> None:
    sent = run("send", *options, "thumbnails", json.dumps(event), **environment)
    assert sent.popen.returncode == 0, sent.errors


def test_the_user_of_keda_can_change_nothing_and_read_nothing_else(server: Server) -> None:
    server.client.execute_command(*shlex.split(FILES["acl.txt"]))
    server.client.zadd("asgithumbnails", {"event": 1.0})
    server.client.zadd("asgiothers", {"event": 1.0})
    keda: Any = redis.Redis(port=server.port, username="keda", password="password")

    assert keda.eval(COUNT, 1, "asgithumbnails") == 1
    for command in (
        ("ZADD", "asgithumbnails", 1, "x"), ("DEL", "asgithumbnails"), ("ZRANGE", "asgithumbnails", 0, -1),
        ("ZCARD", "asgiothers"), ("EVAL", COUNT, 1, "asgiothers"), ("KEYS", "*"), ("FLUSHALL",), ("CONFIG", "GET", "*"),
        ("EVAL", "return redis.call('DEL', KEYS[1])", 1, "asgithumbnails"),
    ):  # fmt: skip
        with pytest.raises(redis.ResponseError, match="(?i)permission"):
            keda.execute_command(*command)
    assert server.client.zcard("asgithumbnails") == 1
    keda.close()


def test_a_right_to_read_alone_is_not_enough_for_keda(server: Server) -> None:
    words = [re.sub("^~", "%R~", word) for word in shlex.split(FILES["acl.txt"])]
    server.client.execute_command(*words)
    keda: Any = redis.Redis(port=server.port, username="keda", password="password")

    with pytest.raises(redis.ResponseError, match="(?i)permission"):
        keda.eval(COUNT, 1, "asgithumbnails")
    keda.close()


def test_keda_counts_in_a_cluster_the_keys_that_the_command_prints(
    site: Path, tmp_path: Path, start: Start, run: Start, wait_until: Wait
) -> None:
    cluster = Cluster(tmp_path / "cluster")
    with cluster.running():
        environment = {"CHANNELMAP_LAYER": cluster.url}
        printed = run("status", "--keys", "thumbnails", **environment)
        keys = keys_printed(printed.output)
        assert set(keys) == {"waiting", "leased", "scheduled"}, printed.errors
        assert all(re.fullmatch(r"\{asgi:\d+\}thumbnails(\$\w+)?", key) for key in keys.values())
        more = re.findall(r"`(\+cluster\|slots[^`]*)`", TEXT.replace("\n", " "))
        assert len(more) == 1
        for node in cluster.nodes:
            node.client.execute_command(*acl([*keys.values()]), *more[0].split())

        client = RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port, username="keda", password="password")
        keda = Keda(client, keys)
        send(run, {"type": "image.uploaded"}, environment)
        assert keda.counts() == {"waiting": 1, "leased": 0, "scheduled": 0}
        worker = start("runworker", **environment)
        wait_until(lambda: is_handling(site), "the handler")
        assert keda.counts() == {"waiting": 0, "leased": 1, "scheduled": 0}
        (site / "release").touch()
        wait_until(lambda: keda.counts()["leased"] == 0, "the end of the lease")
        assert worker.popen.poll() is None
        client.close()


# Prometheus


def test_the_configuration_of_prometheus_finds_the_monitors_and_the_rules() -> None:
    content = yaml.safe_load(FILES["prometheus.yml"])
    deployment = yaml.safe_load(FILES["kubernetes/worker.yaml"])
    machines, pods = content["scrape_configs"]
    (port,) = deployment["spec"]["template"]["spec"]["containers"][0]["ports"]

    assert all((DOCS / name).exists() for name in content["rule_files"])
    assert {target.rpartition(":")[2] for target in machines["static_configs"][0]["targets"]} == {"9100"}
    kept = pods["relabel_configs"][0]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert kept["regex"] == f"{labels['app']};{port['name']}"
    assert len({job["job_name"] for job in content["scrape_configs"]}) == 2


# Logs


def test_the_fields_of_a_log_line_are_documented() -> None:
    section = TEXT.partition("\n## Logs\n")[2].partition("\n## ")[0]
    documented = {
        field for row in re.findall(r"^\| (`.*?) \| ", section, re.MULTILINE) for field in re.findall(r"`(\w+)`", row)
    }
    assert documented == {"time", "level", "logger", "message", "traceback", *_EVENT_FIELDS}


# What docs/cli.md says of observers


def test_the_observer_of_the_document_reports_what_handlers_raise(
    project: Path, start: Start, run: Start, wait_until: Wait
) -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    (project / "tracking.py").write_text(files_of(page)["tracking.py"])
    (project / "sentry_sdk.py").write_text(
        dedent("""\
        from contextlib import contextmanager
        from pathlib import Path

        def init(*, include_local_variables):
            assert include_local_variables is False

        class Scope:
            def __init__(self):
                self.said = {}

            def set_tag(self, name, value):
                self.said[name] = value

            set_extra = set_tag

            def capture_exception(self, error):
                Path("reported").write_text(f"{error!r} {self.said['channel']} {self.said['event_type']} "
                                            f"{self.said['attempt']} {len(self.said['event_id']) > 0}")

        @contextmanager
        def new_scope():
            yield Scope()
        """)
    )
    (project / "channels.yaml").write_text("version: 1\nchannels: {jobs: {consumer: work.Jobs, events: {job: true}}}\n")
    (project / "work.py").write_text(
        dedent("""\
        from channelmap import AsyncConsumer

        class Jobs(AsyncConsumer):
            async def job(self, event):
                raise ValueError("no disk")
        """)
    )
    sent = run("send", "jobs", '{"type": "job"}')
    assert sent.popen.returncode == 0, sent.errors
    worker = run("runworker", "--burst", "--observer", "tracking.report")

    assert worker.popen.returncode == 0, worker.errors
    assert (project / "reported").read_text() == "ValueError('no disk') jobs job 1 True"


def test_the_steps_of_an_observer_are_documented() -> None:
    from channelmap import observer

    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    section = page.partition("\n## Observers\n")[2].partition("\n## ")[0]
    steps = {
        name: set(step.__match_args__) - {"channel"}
        for name, step in vars(observer).items()
        if isinstance(step, type) and issubclass(step, observer.Step) and name not in {"Step", "EventStep"}
    }
    documented = {}
    for row in re.findall(r"^\| (`[A-Z].*) \|$", section, re.MULTILINE):
        first, _, attributes = row.split(" | ")
        for name in re.findall(r"`(\w+)`", first):
            documented[name] = set(re.findall(r"`(\w+)`", attributes))
    assert set(documented) == set(steps)
    for name, attributes in steps.items():
        assert attributes <= documented[name], name


@pytest.mark.parametrize("option", ["monitor", "heartbeat_file", "stall", "observer"])
def test_the_options_that_let_one_see_into_a_worker_are_documented(option: str) -> None:
    found = next(parameter for parameter in runworker.params if parameter.name == option)
    assert isinstance(found, click.Option)
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert f"| `{found.opts[0]} {found.metavar}` |" in page


def test_every_option_of_the_commands_that_look_is_documented() -> None:
    from channelmap.cli import peek, purge, status

    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    section = page.partition("\n## Looking at channels\n")[2].partition("\n## ")[0]
    for command in (status.command, peek.command, purge.command):
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.name not in {"config", "layer", "help"}:
                assert f"`{parameter.opts[-1]}" in section, f"{command.name} {parameter.opts[-1]}"


def test_the_exec_probe_looks_at_the_age_of_the_heartbeat_file(tmp_path: Path) -> None:
    """The probe of the document succeeds for a young file, and fails for an old or a missing one."""
    (probe,) = re.findall(r"^\$ (find .*)$", TEXT, re.MULTILINE)
    path = tmp_path / "alive"

    def succeeds() -> bool:
        return subprocess.run(["sh", "-c", probe], cwd=tmp_path, check=False, stderr=subprocess.DEVNULL).returncode == 0

    assert not succeeds()
    path.touch()
    assert succeeds()
    os.utime(path, (0, path.stat().st_mtime - 3600))
    assert not succeeds()


def test_the_page_names_no_host_of_a_registry_and_no_path_of_a_machine() -> None:
    assert not re.search(r"/home/|/root/|/work/|\.pypi|docker\.io|ghcr|quay\.io", TEXT)
    assert sys.executable not in TEXT
