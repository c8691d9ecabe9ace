"""The jobs of docs/ci.md, and the hooks for pre-commit, run as in CI: in a clone with a branch."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import channelmap

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
#: The files in the document, by their names.
FILES: dict[str, Any] = {
    name: yaml.load(text, yaml.BaseLoader)
    for name, text in re.findall(r"^<!-- file: (.+?) -->\n```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
}
HOOKS = {hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))}

#: The environment of CI; the fake `gh` prints what it would write.
STAND_INS = {
    "pip": "exit 0",
    "gh": 'for last; do :; done; test -s "$last" && echo "comment: $(cat "$last")"',
    "channelmap": f'exec {shlex.quote(sys.executable)} -m channelmap "$@"',
}
EXPRESSIONS = {"github.base_ref": "main", "github.event.number": "7"}

Run = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a command of a job in a clone, on a branch that adds an event type to `origin/main`."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, script in STAND_INS.items():
        (commands / name).write_text(f"#!/bin/bash\n{script}\n")
        (commands / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CHANNELMAP", "GITHUB", "GIT_"))}
    people = {f"GIT_{who}_{what}": "ada@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = kept | people | {
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(channelmap.__file__).parents[1]),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": "main~0",
    }  # fmt: skip
    clone = tmp_path / "clone"
    clone.mkdir()

    def call(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-e", "-c", command], cwd=clone, env=environment, capture_output=True, text=True, check=False
        )

    for step in (
        "git init --quiet --initial-branch=main . && git init --quiet --bare ../origin",
        "channelmap init && git add . && git commit --quiet --message first",
        "git remote add origin ../origin && git push --quiet origin main",
        "git checkout --quiet -b branch && printf '      part: true\\n' >> channels.yaml",
        "printf '\\n    def part(self, event): ...\\n' >> consumers.py && git commit --quiet --all --message second",
    ):
        done = call(step)
        assert done.returncode == 0, done.stderr
    return call


def commands_of(job: dict[str, Any]) -> Iterator[str]:
    """Return the commands of a job of GitHub or GitLab, with expressions replaced."""
    for step in job.get("steps", []):
        if "run" in step:
            yield re.sub(r"\$\{\{ (.+?) \}\}", lambda found: EXPRESSIONS[found[1]], step["run"])
    yield from job.get("script", [])


JOBS = {
    f"{name}:{job_name}": job
    for name, content in FILES.items()
    if "workflows" in name or name == ".gitlab-ci.yml"
    for job_name, job in content.get("jobs", content).items()
}


def files_left_by(job: dict[str, Any]) -> list[str]:
    """Return the files that a job uploads, and so must write."""
    uploads = [step["with"]["sarif_file"] for step in job.get("steps", []) if "sarif_file" in step.get("with", {})]
    return [*uploads, *job.get("artifacts", {}).get("reports", {}).values()]


@pytest.mark.parametrize("name", JOBS)
def test_every_command_of_a_job_succeeds_without_findings(name: str, run: Run, tmp_path: Path) -> None:
    commands = list(commands_of(JOBS[name]))

    assert any(command.startswith("channelmap check") for command in commands)
    for command in commands:
        done = run(command)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    for file in files_left_by(JOBS[name]):
        assert (tmp_path / "clone" / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", JOBS)
def test_a_job_reports_findings_and_fails_unless_it_only_reports(name: str, run: Run, tmp_path: Path) -> None:
    contract = tmp_path / "clone" / "channels.yaml"
    contract.write_text(contract.read_text().replace("name: Ada}", "nome: Ada}"))

    codes = [run(command).returncode for command in commands_of(JOBS[name])]
    checks = [
        code for code, command in zip(codes, commands_of(JOBS[name]), strict=True) if command.startswith("channelmap")
    ]

    assert checks == [0 if "scanning" in name else 1]
    for file in files_left_by(JOBS[name]):
        assert "accepts-refused" in (tmp_path / "clone" / file).read_text(encoding="utf-8")


def test_the_comment_lists_breaking_changes(run: Run, tmp_path: Path) -> None:
    (tmp_path / "clone" / "channels.yaml").write_text(
        "version: 1\nchannels: {greetings: {consumer: consumers.GreetingConsumer, events: {part: true}}}\n"
    )

    done = [run(command) for command in commands_of(JOBS[".github/workflows/channels-comment.yml:comment"])]

    assert [step.returncode for step in done] == [0, 1, 0]
    assert done[-1].stdout.startswith("comment: ")
    assert "event-type-removed" in done[-1].stdout


def test_the_document_shows_jobs_for_github_gitlab_and_pre_commit() -> None:
    assert len(JOBS) == 4
    (repository,) = FILES[".pre-commit-config.yaml"]["repos"]
    assert {hook["id"] for hook in repository["hooks"]} <= set(HOOKS)
    assert set(re.findall(r"`(channelmap-check[a-z-]*)`", TEXT)) <= set(HOOKS)


def test_the_pre_commit_hooks_are_declared() -> None:
    entries = {name: hook["entry"] for name, hook in HOOKS.items()}

    assert entries == {
        "channelmap-check": "channelmap check",
        "channelmap-check-no-import": "channelmap check --no-import",
    }
    for hook in HOOKS.values():
        assert (hook["language"], hook["pass_filenames"]) == ("python", False)


def test_the_hooks_run_whichever_files_changed() -> None:
    for hook in HOOKS.values():
        assert hook["always_run"] is True
        assert not {"files", "types", "types_or", "exclude"} & set(hook)


def test_the_hooks_find_a_broken_schema_in_any_directory_of_a_monorepo(run: Run, tmp_path: Path) -> None:
    (repository,) = FILES["monorepo/.pre-commit-config.yaml"]["repos"]
    (hook,) = repository["hooks"]
    service = tmp_path / "clone" / "services" / "orders"
    (service / "events").mkdir(parents=True)
    (service / "events" / "paid.json").write_text("{}")
    (service / "channels.yaml").write_text(
        "version: 1\nchannels: {orders: {consumer: a.B, events: {paid: events/paid.json}}}\n"
    )
    command = shlex.join([*HOOKS[hook["id"]]["entry"].split(), *hook["args"]])
    assert run(command).returncode == 0

    (service / "events" / "paid.json").write_text("{")
    assert run(command).returncode == 1

    (service / "events" / "paid.json").unlink()
    assert run(command).returncode == 1


def test_the_hooks_fail_for_findings_and_only_one_of_them_imports_consumers(run: Run, tmp_path: Path) -> None:
    entries = [hook["entry"] for hook in HOOKS.values()]
    assert [run(entry).returncode for entry in entries] == [0, 0]

    (tmp_path / "clone" / "consumers.py").write_text("import what_only_the_application_has\n")
    assert [run(entry).returncode for entry in entries] == [1, 0]

    (tmp_path / "clone" / "schemas" / "greetings" / "greet.json").write_text("{")
    assert [run(entry).returncode for entry in entries] == [1, 1]
