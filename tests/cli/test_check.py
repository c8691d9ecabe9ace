"""`channelmap check` as a command: files, selections, outputs, exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest

from channelmap import get_channel_layer
from tests.cli.commands import Run, result, write_site

CHANNELS = """\
version: 1
layer: sqlite:///channels.db
channels:
  jobs:
    consumer: work.Jobs
    events:
      job:
        schema: {type: object, properties: {id: {type: integer}}, required: [id]}
        accepts: [{type: job, id: one}]
      Job: true
"""
WORK = """\
from channelmap import SyncConsumer

print("a module that talks when it is imported")

class Jobs(SyncConsumer):
    def job(self, event): ...
    def Job(self, event): ...
"""
REFUSED = "channels.yaml:9:19: error[accepts-refused] 'job' refuses an example that it must accept"
ALIKE = "channels.yaml:10:7: warning[names-alike] "


@pytest.fixture
def checked(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITLAB_CI"):
        monkeypatch.delenv(name, raising=False)
    write_site(project, CHANNELS, WORK)
    return project


def result_lines(process: Any) -> tuple[int, list[str]]:
    code, output, _ = result(process)
    return code, output.splitlines()


def complains(process: Any) -> str:
    assert process.popen.returncode == 2
    assert "Traceback" not in process.errors
    return str(process.errors)


def suppressed(directory: Path, entry: str) -> None:
    (directory / "channels.yaml").write_text(f"{CHANNELS}check: {{ignore: [{entry}]}}\n")


def test_errors_and_warnings_are_reported_and_errors_make_the_check_fail(checked: Path, run: Run) -> None:
    code, lines = result_lines(run("check"))
    assert code == 1
    assert lines[0].startswith(REFUSED)
    assert lines[1].startswith(ALIKE)
    assert len(lines) == 2


def test_findings_that_are_not_selected_are_not_reported(checked: Path, run: Run) -> None:
    code, lines = result_lines(run("check", "--select", "names-alike,handler-missing"))
    assert (code, len(lines)) == (0, 1)
    assert lines[0].startswith(ALIKE)


def test_ignored_findings_are_not_reported(checked: Path, run: Run) -> None:
    assert result_lines(run("check", "--ignore", "names-alike", "--ignore", "accepts-refused")) == (0, [])


def test_an_error_can_be_made_a_warning(checked: Path, run: Run) -> None:
    code, lines = result_lines(run("check", "--warn", "accepts-refused"))
    assert code == 0
    assert lines[0].startswith(REFUSED.replace("error", "warning"))


@pytest.mark.parametrize(
    ("fail_on", "ignored", "code"),
    [("never", "none", 0), ("error", "none", 1), ("error", "error", 0), ("warning", "error", 1), ("info", "both", 0)],
)
def test_fail_on_sets_the_severity_from_which_the_check_fails(
    checked: Path, run: Run, fail_on: str, ignored: str, code: int
) -> None:
    ignore = {"none": "engines-disagree", "error": "accepts-refused", "both": "accepts-refused,names-alike"}[ignored]
    assert result_lines(run("check", "--fail-on", fail_on, "--ignore", ignore))[0] == code


def test_the_contract_can_declare_findings_as_intended(checked: Path, run: Run) -> None:
    suppressed(checked, "{code: names-alike, reason: history}, {code: accepts-refused, event: job, reason: history}")
    assert result_lines(run("check")) == (0, [])


def test_a_suppression_applies_only_to_its_channel_and_event_type(checked: Path, run: Run) -> None:
    suppressed(checked, "{code: accepts-refused, event: Job, reason: history}")
    code, lines = result_lines(run("check"))
    assert code == 1
    assert lines[0].startswith(REFUSED)
    assert lines[2].startswith("channels.yaml:11:18: warning[ignore-unused] nothing here is 'accepts-refused' any more")


def test_a_suppression_ends_after_its_last_day(checked: Path, run: Run) -> None:
    suppressed(checked, '{code: accepts-refused, reason: history, until: "2024-12-31"}')
    code, lines = result_lines(run("check"))
    assert code == 1
    assert lines[0].startswith(REFUSED)
    assert lines[2].startswith(
        "channels.yaml:11:18: warning[ignore-expired] this suppression of 'accepts-refused' ended"
    )


def test_a_suppression_of_a_code_that_was_not_checked_is_not_unused(checked: Path, run: Run) -> None:
    suppressed(
        checked, '{code: breaks-senders, reason: known, until: "2999-12-31"}, {code: not-a-consumer, reason: known}'
    )
    _, lines = result_lines(run("check", "--no-import"))
    assert len(lines) == 2


def test_a_suppression_of_a_break_needs_a_last_day(checked: Path, run: Run) -> None:
    suppressed(checked, "{code: breaks-senders, reason: known}")
    hint = "give the date until which old senders or consumers may be running"
    expected = f"channels.yaml:11:18: error[missing-key] a suppression of 'breaks-senders' lacks 'until'; {hint}"
    assert result_lines(run("check")) == (1, [expected])


def test_a_suppression_of_an_unknown_code_is_an_error(checked: Path, run: Run) -> None:
    suppressed(checked, "{code: handler-mising, reason: known, until: soon}")
    assert result_lines(run("check")) == (1, [
        "channels.yaml:11:25: error[wrong-shape] unknown code 'handler-mising'; did you mean 'handler-missing'?",
        "channels.yaml:11:63: error[wrong-shape] 'until' expected a date such as 2027-03-31, got text 'soon'",
    ])  # fmt: skip


def test_without_the_applications_dependencies_nothing_is_imported(checked: Path, run: Run) -> None:
    (checked / "work.py").write_text("import something_that_is_not_installed")
    code, lines = result_lines(run("check", "--no-import"))
    assert code == 1
    assert [line.partition("[")[2].partition("]")[0] for line in lines] == ["accepts-refused", "names-alike"]


def test_several_files_are_checked_in_one_run(checked: Path, run: Run) -> None:
    (checked / "other.yaml").write_text(
        CHANNELS.replace("      Job: true\n", "      job.2: true\n").replace("one", "1")
    )
    (checked / "broken.yaml").write_text("version: 2\nchannels: {}\n")
    code, lines = result_lines(run("check", "other.yaml", "broken.yaml", "channels.yaml", "--no-import"))
    assert code == 1
    assert [line.partition(":")[0] for line in lines] == ["broken.yaml"] * 2 + ["channels.yaml"] * 2


def test_a_file_that_is_named_twice_is_checked_once(checked: Path, run: Run) -> None:
    process = run("check", "channels.yaml", "./channels.yaml", "--output", "json")
    assert [file["file"] for file in json.loads(process.output)["checked"]] == ["channels.yaml"]


def test_a_file_that_does_not_load_is_named_consistently(checked: Path, run: Run) -> None:
    (checked / "broken.yaml").write_text("version: 2\nchannels: {}\n")
    process = run("check", "./broken.yaml", "--output", "json")
    report = json.loads(process.output)
    assert [file["file"] for file in report["checked"]] == ["broken.yaml"]
    assert {finding["file"] for finding in report["diagnostics"]} == {"broken.yaml"}


def test_a_fault_of_a_schema_that_contracts_share_is_reported_once(checked: Path, run: Run) -> None:
    (checked / "shared.json").write_text('{"minLenght": 3}')
    for name in ("first", "second"):
        contract = f"version: 1\nchannels: {{{name}: {{consumer: work.Jobs, events: {{job: shared.json}}}}}}\n"
        (checked / f"{name}.yaml").write_text(contract)
    _, lines = result_lines(run("check", "first.yaml", "second.yaml", "--select", "keyword-unknown"))
    assert [line.partition(": ")[0] for line in lines] == ["shared.json:1:2"]


def test_a_missing_file_is_a_usage_error(checked: Path, run: Run) -> None:
    process = run("check", "chanels.yaml")
    message = f"{checked}/chanels.yaml: error[file-missing] there is no such file; did you mean 'channels.yaml'?"
    hint = "If not, point $CHANNELMAP_CONFIG to the contract file, or write a first one with 'channelmap init'"
    assert result_lines(process) == (2, [f"{message} {hint}"])


def test_the_environment_names_the_file(checked: Path, run: Run) -> None:
    (checked / "channels.yaml").rename(checked / "elsewhere.yaml")
    assert result_lines(run("check", CHANNELMAP_CONFIG="elsewhere.yaml"))[1][0].startswith("elsewhere.yaml:9:19")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--select", "handler-mising"], "there is no code 'handler-mising'; did you mean 'handler-missing'?"),
        (["--output", "sarf"], "there is no format 'sarf'; did you mean 'sarif'?"),
        (["--output", "junit:"], "'junit:' names no file after the colon"),
        (["--output", "json:nowhere/report.json"], "'nowhere/report.json': No such file or directory"),
        (["--output", "json", "--output", "sarif:-"], "two outputs are written to the same file or stream"),
        (["--strict"], "--strict needs --against"),
        (["--transitive"], "--transitive needs --against"),
        (["--against", ""], "--against is empty"),
        (["--against", "no-such-revision"], "no-such-revision"),
        (["--senders", "nowhere"], "nowhere"),
    ],
)
def test_a_usage_error_gets_an_error_message(checked: Path, run: Run, options: list[str], complaint: str) -> None:
    assert complaint in complains(run("check", *options))


def test_one_run_writes_several_formats_without_output_of_modules(checked: Path, run: Run) -> None:
    process = run("check", "--output", "json", "--output", "junit:junit.xml", "--output", "sarif:report.sarif")
    assert {finding["code"] for finding in json.loads(process.output)["diagnostics"]} == {
        "accepts-refused", "names-alike",
    }  # fmt: skip
    assert "accepts-refused" in (checked / "junit.xml").read_text()
    assert json.loads((checked / "report.sarif").read_text())["version"] == "2.1.0"
    assert "a module that talks" in process.errors


def test_findings_are_printed_even_if_an_output_file_cannot_be_written(checked: Path, run: Run) -> None:
    process = run("check", "--output", "json:nowhere/report.json")
    assert "'nowhere/report.json': No such file or directory" in complains(process)
    assert process.output.startswith(REFUSED)


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_an_output_to_a_dash_or_dev_stdout_goes_to_stdout(checked: Path, run: Run, name: str) -> None:
    assert json.loads(run("check", "--output", f"json:{name}").output)["summary"]["files"] == 1


def test_stdout_gets_a_report_even_if_all_formats_go_to_files(checked: Path, run: Run) -> None:
    _, lines = result_lines(run("check", "--output", "junit:junit.xml"))
    assert lines[0].startswith(REFUSED)


def test_github_actions_get_annotations_and_a_summary_by_default(checked: Path, run: Run) -> None:
    (checked / "summary.md").write_text("what other steps wrote\n")
    _, lines = result_lines(run("check", GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY="summary.md"))
    assert lines[0].startswith("::error file=channels.yaml,line=9,col=19,")
    summary = (checked / "summary.md").read_text()
    assert summary.startswith("what other steps wrote\n")
    assert "accepts-refused" in summary


def test_sends_in_python_files_are_checked(checked: Path, run: Run) -> None:
    (checked / "views.py").write_text('layer.send("jobs", {"type": "j"})\nlayer.send_sync("jbs", {"type": "job"})\n')
    _, lines = result_lines(run("check", "--senders", "views.py", "--ignore", "accepts-refused,names-alike"))
    codes = [line.partition("[")[2].partition("]")[0] for line in lines]
    assert codes == ["sender-unknown-type", "sender-unknown-channel"]


def test_the_summary_counts_sends_over_all_contracts_and_verbose_lists_those_that_cannot_be_checked(
    checked: Path, run: Run
) -> None:
    (checked / "views.py").write_text('layer.send("jobs", {"type": "job", "id": 1})\nlayer.send("other", event)\n')
    (checked / "other.yaml").write_text(CHANNELS.replace("  jobs:", "  other:"))
    command = ["check", "--senders", "views.py", "--fail-on", "never", "channels.yaml", "other.yaml"]

    assert run(*command).errors.splitlines()[-1].endswith("; 1 send checked, 1 not checked")
    listed = run(*command, "--verbose").errors.splitlines()
    assert "views.py:2:1: not checked: the event is not a literal or constant" in listed
    assert "send" not in run("check", "--fail-on", "never").errors
    assert "--verbose needs --senders" in complains(run("check", "--verbose"))


def test_a_finding_about_an_undeclared_type_can_be_suppressed_by_its_name(checked: Path, run: Run) -> None:
    (checked / "views.py").write_text('layer.send("jobs", {"type": "old"})\n')
    options = ["--senders", "views.py", "--select", "sender-unknown-type,ignore-unused"]
    assert len(result_lines(run("check", *options))[1]) == 1
    suppressed(checked, "{code: sender-unknown-type, channel: jobs, event: old, reason: goes soon}")
    assert result_lines(run("check", *options)) == (0, [])


def test_a_handler_that_another_contract_reaches_is_not_reported(checked: Path, run: Run) -> None:
    (checked / "channels.yaml").write_text(CHANNELS.replace("      Job: true\n", ""))
    (checked / "other.yaml").write_text(
        CHANNELS.replace("job:", "job.other:").replace("type: job,", "type: job.other,")
    )
    selected = ["--select", "handler-unreached"]
    assert len(result_lines(run("check", *selected))[1]) == 1
    assert result_lines(run("check", "channels.yaml", "other.yaml", *selected)) == (0, [])


def test_a_channel_that_another_contract_declares_is_not_unknown(checked: Path, run: Run) -> None:
    (checked / "views.py").write_text('layer.send_sync("tasks", {"type": "job", "id": 1})\n')
    (checked / "other.yaml").write_text(CHANNELS.replace("  jobs:", "  tasks:"))
    selected = ["--senders", "views.py", "--select", "sender-unknown-channel"]
    assert len(result_lines(run("check", *selected))[1]) == 1
    assert result_lines(run("check", "channels.yaml", "other.yaml", *selected)) == (0, [])


def test_unknown_channels_are_not_reported_if_a_contract_does_not_load(checked: Path, run: Run) -> None:
    (checked / "views.py").write_text('layer.send_sync("tasks", {"type": "job", "id": 1})\n')
    (checked / "other.yaml").write_text(CHANNELS.replace("  jobs:", "  tasks:").replace("version: 1", "version: 2"))
    selected = ["--senders", "views.py", "--select", "sender-unknown-channel"]
    assert result_lines(run("check", "channels.yaml", "other.yaml", *selected)) == (0, [])


def test_waiting_events_in_the_layer_are_checked(checked: Path, run: Run) -> None:
    layer = get_channel_layer(checked / "channels.yaml")
    layer.send_sync("jobs", {"type": "job", "id": 1})
    (checked / "channels.yaml").write_text(CHANNELS.replace("type: integer", "type: string"))
    code, lines = result_lines(run("check", "--layer"))
    assert code == 1
    assert "waiting-refused" in "".join(lines)
    assert "waiting-refused" not in run("check").output


def test_an_unavailable_layer_gets_an_error_message(checked: Path, run: Run) -> None:
    (checked / "channels.yaml").write_text(CHANNELS.replace("channels.db", "nowhere/channels.db"))
    assert "the directory" in complains(run("check", "--layer"))


def test_a_check_does_not_create_a_missing_sqlite_file(checked: Path, run: Run) -> None:
    process = run("check", "--layer", "--ignore", "accepts-refused")
    assert result_lines(process)[0] == 0
    assert "channels.db: there is no such file yet, so there are no events to check" in process.errors
    assert not list(checked.glob("channels.db*"))


def test_a_check_of_a_layer_in_memory_is_an_error(checked: Path, run: Run) -> None:
    (checked / "channels.yaml").write_text(CHANNELS.replace("sqlite:///channels.db", "memory://"))
    assert "--layer: memory://: a layer in memory belongs to one process" in complains(run("check", "--layer"))


@pytest.mark.parametrize("name", ["", " ", "1\n2"])
def test_a_release_must_have_a_printable_name(checked: Path, run: Run, name: str) -> None:
    assert "cannot be the name of a release" in complains(run("lock", name))
    assert not (checked / "channelmap.lock.json").exists()


def test_each_contract_of_a_directory_has_its_own_lock(checked: Path, run: Run) -> None:
    (checked / "other.yaml").write_text(CHANNELS)
    assert result_lines(run("lock", "1.0")) == (0, ["channelmap.lock.json: added release '1.0'"])
    assert result_lines(run("lock", "1.0", "--config", "other.yaml")) == (0, ["other.lock.json: added release '1.0'"])


def test_all_releases_of_a_lock_have_one_order_of_deployment(checked: Path, run: Run) -> None:
    for name, kind in (("1.0", "type: integer, minimum: 5"), ("1.1", "type: [integer, string]")):
        (checked / "channels.yaml").write_text(CHANNELS.replace("type: integer", kind))
        run("lock", name)
    (checked / "channels.yaml").write_text(CHANNELS)
    against = ["--against", "channelmap.lock.json", "--select", "deploy-order"]
    assert "deploy senders first" in "".join(result_lines(run("check", *against))[1])
    (line,) = result_lines(run("check", *against, "--transitive"))[1]
    assert "not deployable in one step" in line


def test_only_a_lock_has_several_releases(checked: Path, run: Run) -> None:
    (checked / "released.yaml").write_text(CHANNELS)
    assert "only a lock has more than one release" in complains(
        run("check", "--against", "released.yaml", "--transitive")
    )
