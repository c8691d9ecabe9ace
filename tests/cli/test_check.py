"""`channelmap check`, as its users call it: files, selections, outputs, exit codes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from channelmap import get_channel_layer

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

Run = Callable[..., Any]


@pytest.fixture
def checked(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITLAB_CI"):
        monkeypatch.delenv(name, raising=False)
    (project / "channels.yaml").write_text(CHANNELS)
    (project / "work.py").write_text(WORK)
    return project


def ends(process: Any) -> tuple[int, list[str]]:
    assert "Traceback" not in process.errors
    return process.popen.returncode, process.output.splitlines()


def complains(process: Any) -> str:
    assert process.popen.returncode == 2
    assert "Traceback" not in process.errors
    return str(process.errors)


def suppressed(directory: Path, entry: str) -> None:
    (directory / "channels.yaml").write_text(f"{CHANNELS}check: {{ignore: [{entry}]}}\n")


def test_errors_and_warnings_are_told_and_errors_make_it_fail(checked: Path, run: Run) -> None:
    code, lines = ends(run("check"))
    assert code == 1
    assert lines[0].startswith(REFUSED)
    assert lines[1].startswith(ALIKE)
    assert len(lines) == 2


def test_what_is_not_selected_is_not_told(checked: Path, run: Run) -> None:
    code, lines = ends(run("check", "--select", "names-alike,handler-missing"))
    assert (code, len(lines)) == (0, 1)
    assert lines[0].startswith(ALIKE)


def test_what_is_ignored_is_not_told(checked: Path, run: Run) -> None:
    assert ends(run("check", "--ignore", "names-alike", "--ignore", "accepts-refused")) == (0, [])


def test_an_error_can_be_made_a_warning(checked: Path, run: Run) -> None:
    code, lines = ends(run("check", "--warn", "accepts-refused"))
    assert code == 0
    assert lines[0].startswith(REFUSED.replace("error", "warning"))


@pytest.mark.parametrize(
    ("fail_on", "ignored", "code"),
    [("never", "none", 0), ("error", "none", 1), ("error", "error", 0), ("warning", "error", 1), ("info", "both", 0)],
)
def test_the_user_says_from_which_severity_on_it_fails(
    checked: Path, run: Run, fail_on: str, ignored: str, code: int
) -> None:
    ignore = {"none": "engines-disagree", "error": "accepts-refused", "both": "accepts-refused,names-alike"}[ignored]
    assert ends(run("check", "--fail-on", fail_on, "--ignore", ignore))[0] == code


def test_the_file_itself_says_what_is_intended(checked: Path, run: Run) -> None:
    suppressed(checked, "{code: names-alike, reason: history}, {code: accepts-refused, event: job, reason: history}")
    assert ends(run("check")) == (0, [])


def test_a_suppression_holds_only_for_what_it_names(checked: Path, run: Run) -> None:
    suppressed(checked, "{code: accepts-refused, event: Job, reason: history}")
    code, lines = ends(run("check"))
    assert code == 1
    assert lines[0].startswith(REFUSED)
    assert lines[2].startswith("channels.yaml:11:18: warning[ignore-unused] nothing here is 'accepts-refused' any more")


def test_a_suppression_ends(checked: Path, run: Run) -> None:
    suppressed(checked, '{code: accepts-refused, reason: history, until: "2024-12-31"}')
    code, lines = ends(run("check"))
    assert code == 1
    assert lines[0].startswith(REFUSED)
    assert lines[2].startswith(
        "channels.yaml:11:18: warning[ignore-expired] this suppression of 'accepts-refused' ended"
    )


def test_a_suppression_of_what_was_not_looked_for_is_not_called_unused(checked: Path, run: Run) -> None:
    suppressed(
        checked, '{code: breaks-senders, reason: known, until: "2999-12-31"}, {code: not-a-consumer, reason: known}'
    )
    _, lines = ends(run("check", "--no-import"))
    assert len(lines) == 2


def test_a_break_cannot_be_intended_for_ever(checked: Path, run: Run) -> None:
    suppressed(checked, "{code: breaks-senders, reason: known}")
    hint = "give the date until which old senders or consumers may be running"
    expected = f"channels.yaml:11:18: error[missing-key] a suppression of 'breaks-senders' lacks 'until'; {hint}"
    assert ends(run("check")) == (1, [expected])


def test_a_suppression_of_an_unknown_code_is_an_error(checked: Path, run: Run) -> None:
    suppressed(checked, "{code: handler-mising, reason: known, until: soon}")
    assert ends(run("check")) == (1, [
        "channels.yaml:11:25: error[wrong-shape] unknown code 'handler-mising'; did you mean 'handler-missing'?",
        "channels.yaml:11:63: error[wrong-shape] 'until' expected a date such as 2027-03-31, got text 'soon'",
    ])  # fmt: skip


def test_without_the_applications_dependencies_nothing_is_imported(checked: Path, run: Run) -> None:
    (checked / "work.py").write_text("import something_that_is_not_installed")
    code, lines = ends(run("check", "--no-import"))
    assert code == 1
    assert [line.partition("[")[2].partition("]")[0] for line in lines] == ["accepts-refused", "names-alike"]


def test_several_files_are_checked_in_one_go(checked: Path, run: Run) -> None:
    (checked / "other.yaml").write_text(
        CHANNELS.replace("      Job: true\n", "      job.2: true\n").replace("one", "1")
    )
    (checked / "broken.yaml").write_text("version: 2\nchannels: {}\n")
    code, lines = ends(run("check", "other.yaml", "broken.yaml", "channels.yaml", "--no-import"))
    assert code == 1
    assert [line.partition(":")[0] for line in lines] == ["broken.yaml"] * 2 + ["channels.yaml"] * 2


def test_a_file_that_is_named_twice_is_checked_once(checked: Path, run: Run) -> None:
    process = run("check", "channels.yaml", "./channels.yaml", "--output", "json")
    assert [file["file"] for file in json.loads(process.output)["checked"]] == ["channels.yaml"]


def test_a_file_that_does_not_load_has_one_name(checked: Path, run: Run) -> None:
    (checked / "broken.yaml").write_text("version: 2\nchannels: {}\n")
    process = run("check", "./broken.yaml", "--output", "json")
    report = json.loads(process.output)
    assert [file["file"] for file in report["checked"]] == ["broken.yaml"]
    assert {finding["file"] for finding in report["diagnostics"]} == {"broken.yaml"}


def test_what_is_wrong_with_a_schema_that_contracts_share_is_told_once(checked: Path, run: Run) -> None:
    (checked / "shared.json").write_text('{"minLenght": 3}')
    for name in ("first", "second"):
        contract = f"version: 1\nchannels: {{{name}: {{consumer: work.Jobs, events: {{job: shared.json}}}}}}\n"
        (checked / f"{name}.yaml").write_text(contract)
    _, lines = ends(run("check", "first.yaml", "second.yaml", "--select", "keyword-unknown"))
    assert [line.partition(": ")[0] for line in lines] == ["shared.json:1:2"]


def test_a_file_that_is_not_there_is_wrong_usage(checked: Path, run: Run) -> None:
    process = run("check", "chanels.yaml")
    message = f"{checked}/chanels.yaml: error[file-missing] there is no such file; did you mean 'channels.yaml'?"
    hint = "If not, point $CHANNELMAP_CONFIG to the contract file, or write a first one with 'channelmap init'"
    assert ends(process) == (2, [f"{message} {hint}"])


def test_the_environment_names_the_file(checked: Path, run: Run) -> None:
    (checked / "channels.yaml").rename(checked / "elsewhere.yaml")
    assert ends(run("check", CHANNELMAP_CONFIG="elsewhere.yaml"))[1][0].startswith("elsewhere.yaml:9:19")


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
def test_wrong_usage_is_told_in_words(checked: Path, run: Run, options: list[str], complaint: str) -> None:
    assert complaint in complains(run("check", *options))


def test_one_run_writes_several_formats_and_what_modules_print_is_in_none(checked: Path, run: Run) -> None:
    process = run("check", "--output", "json", "--output", "junit:junit.xml", "--output", "sarif:report.sarif")
    assert {finding["code"] for finding in json.loads(process.output)["diagnostics"]} == {
        "accepts-refused", "names-alike",
    }  # fmt: skip
    assert "accepts-refused" in (checked / "junit.xml").read_text()
    assert json.loads((checked / "report.sarif").read_text())["version"] == "2.1.0"
    assert "a module that talks" in process.errors


def test_findings_are_told_where_their_file_cannot_be_written(checked: Path, run: Run) -> None:
    process = run("check", "--output", "json:nowhere/report.json")
    assert "'nowhere/report.json': No such file or directory" in complains(process)
    assert process.output.startswith(REFUSED)


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_stdout_has_names_of_its_own(checked: Path, run: Run, name: str) -> None:
    assert json.loads(run("check", "--output", f"json:{name}").output)["summary"]["files"] == 1


def test_a_log_remains_where_all_formats_go_to_files(checked: Path, run: Run) -> None:
    _, lines = ends(run("check", "--output", "junit:junit.xml"))
    assert lines[0].startswith(REFUSED)


def test_github_gets_annotations_and_a_summary_by_itself(checked: Path, run: Run) -> None:
    (checked / "summary.md").write_text("what other steps wrote\n")
    _, lines = ends(run("check", GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY="summary.md"))
    assert lines[0].startswith("::error file=channels.yaml,line=9,col=19,")
    summary = (checked / "summary.md").read_text()
    assert summary.startswith("what other steps wrote\n")
    assert "accepts-refused" in summary


def test_what_python_files_send_is_judged(checked: Path, run: Run) -> None:
    (checked / "views.py").write_text('layer.send("jobs", {"type": "j"})\nlayer.send_sync("jbs", {"type": "job"})\n')
    _, lines = ends(run("check", "--senders", "views.py", "--ignore", "accepts-refused,names-alike"))
    codes = [line.partition("[")[2].partition("]")[0] for line in lines]
    assert codes == ["sender-unknown-type", "sender-unknown-channel"]


def test_the_last_line_counts_the_sends_over_all_contracts_and_verbose_lists_those_that_cannot_be_read(
    checked: Path, run: Run
) -> None:
    (checked / "views.py").write_text('layer.send("jobs", {"type": "job", "id": 1})\nlayer.send("other", event)\n')
    (checked / "other.yaml").write_text(CHANNELS.replace("  jobs:", "  other:"))
    command = ["check", "--senders", "views.py", "--fail-on", "never", "channels.yaml", "other.yaml"]

    assert run(*command).errors.splitlines()[-1].endswith("; 1 send judged, 1 not readable")
    listed = run(*command, "--verbose").errors.splitlines()
    assert "views.py:2:1: not judged: the event is not written out" in listed
    assert "send" not in run("check", "--fail-on", "never").errors
    assert "--verbose needs --senders" in complains(run("check", "--verbose"))


def test_a_type_that_only_a_sender_knows_can_be_suppressed_by_its_name(checked: Path, run: Run) -> None:
    (checked / "views.py").write_text('layer.send("jobs", {"type": "old"})\n')
    options = ["--senders", "views.py", "--select", "sender-unknown-type,ignore-unused"]
    assert len(ends(run("check", *options))[1]) == 1
    suppressed(checked, "{code: sender-unknown-type, channel: jobs, event: old, reason: goes soon}")
    assert ends(run("check", *options)) == (0, [])


def test_a_handler_that_another_of_the_files_reaches_is_no_finding(checked: Path, run: Run) -> None:
    (checked / "channels.yaml").write_text(CHANNELS.replace("      Job: true\n", ""))
    (checked / "other.yaml").write_text(
        CHANNELS.replace("job:", "job.other:").replace("type: job,", "type: job.other,")
    )
    selected = ["--select", "handler-unreached"]
    assert len(ends(run("check", *selected))[1]) == 1
    assert ends(run("check", "channels.yaml", "other.yaml", *selected)) == (0, [])


def test_a_channel_that_one_of_the_files_declares_is_known(checked: Path, run: Run) -> None:
    (checked / "views.py").write_text('layer.send_sync("tasks", {"type": "job", "id": 1})\n')
    (checked / "other.yaml").write_text(CHANNELS.replace("  jobs:", "  tasks:"))
    selected = ["--senders", "views.py", "--select", "sender-unknown-channel"]
    assert len(ends(run("check", *selected))[1]) == 1
    assert ends(run("check", "channels.yaml", "other.yaml", *selected)) == (0, [])


def test_a_channel_is_not_called_unknown_while_a_file_does_not_load(checked: Path, run: Run) -> None:
    (checked / "views.py").write_text('layer.send_sync("tasks", {"type": "job", "id": 1})\n')
    (checked / "other.yaml").write_text(CHANNELS.replace("  jobs:", "  tasks:").replace("version: 1", "version: 2"))
    selected = ["--senders", "views.py", "--select", "sender-unknown-channel"]
    assert ends(run("check", "channels.yaml", "other.yaml", *selected)) == (0, [])


def test_what_waits_in_the_layer_is_judged(checked: Path, run: Run) -> None:
    layer = get_channel_layer(checked / "channels.yaml")
    layer.send_sync("jobs", {"type": "job", "id": 1})
    (checked / "channels.yaml").write_text(CHANNELS.replace("type: integer", "type: string"))
    code, lines = ends(run("check", "--layer"))
    assert code == 1
    assert "waiting-refused" in "".join(lines)
    assert "waiting-refused" not in run("check").output


def test_a_layer_that_is_away_is_told_in_words(checked: Path, run: Run) -> None:
    (checked / "channels.yaml").write_text(CHANNELS.replace("channels.db", "nowhere/channels.db"))
    assert "the directory" in complains(run("check", "--layer"))


def test_a_layer_that_is_not_made_yet_is_not_made_by_a_check(checked: Path, run: Run) -> None:
    process = run("check", "--layer", "--ignore", "accepts-refused")
    assert ends(process)[0] == 0
    assert "channels.db: there is no such file yet, so there are no events to check" in process.errors
    assert not list(checked.glob("channels.db*"))


def test_nothing_waits_in_memory_for_a_check(checked: Path, run: Run) -> None:
    (checked / "channels.yaml").write_text(CHANNELS.replace("sqlite:///channels.db", "memory://"))
    assert "--layer: memory://: a layer in memory belongs to one process" in complains(run("check", "--layer"))


@pytest.mark.parametrize("name", ["", " ", "1\n2"])
def test_a_release_has_a_name_that_can_be_read(checked: Path, run: Run, name: str) -> None:
    assert "cannot be the name of a release" in complains(run("lock", name))
    assert not (checked / "channelmap.lock.json").exists()


def test_each_contract_of_a_directory_has_a_lock_of_its_own(checked: Path, run: Run) -> None:
    (checked / "other.yaml").write_text(CHANNELS)
    assert ends(run("lock", "1.0")) == (0, ["channelmap.lock.json: added release '1.0'"])
    assert ends(run("lock", "1.0", "--config", "other.yaml")) == (0, ["other.lock.json: added release '1.0'"])


def test_all_releases_of_a_lock_have_one_order_of_deployment(checked: Path, run: Run) -> None:
    for name, kind in (("1.0", "type: integer, minimum: 5"), ("1.1", "type: [integer, string]")):
        (checked / "channels.yaml").write_text(CHANNELS.replace("type: integer", kind))
        run("lock", name)
    (checked / "channels.yaml").write_text(CHANNELS)
    against = ["--against", "channelmap.lock.json", "--select", "deploy-order"]
    assert "deploy senders first" in "".join(ends(run("check", *against))[1])
    (line,) = ends(run("check", *against, "--transitive"))[1]
    assert "not deployable in one step" in line


def test_only_a_lock_has_several_releases(checked: Path, run: Run) -> None:
    (checked / "released.yaml").write_text(CHANNELS)
    assert "only a lock has more than one release" in complains(
        run("check", "--against", "released.yaml", "--transitive")
    )
