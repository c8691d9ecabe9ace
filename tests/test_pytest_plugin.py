"""`pytest --channelmap`, as a real process in a project of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CONTRACT = """\
version: 1
channels:
  thumbnails-generate:
    consumer: consumers.Generate
    events:
      generate:
        schema: {properties: {id: {type: integer}}, required: [id]}
        accepts: [{type: generate, id: 1}]
      ping: true
  thumbnails-delete:
    consumer: consumers.Delete
    events: {delete: true}
"""
CONSUMERS = """\
from channelmap import AsyncConsumer


class Generate(AsyncConsumer):
    async def generate(self, event): ...

    async def ping(self, event): ...


class Delete(AsyncConsumer):
    async def delete(self, event): ...
"""

RunPytest = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_pytest(tmp_path: Path) -> RunPytest:
    """Run pytest with the plugin in a project with a good contract and one test in `tests/`."""
    (tmp_path / "channels.yaml").write_text(CONTRACT)
    (tmp_path / "consumers.py").write_text(CONSUMERS)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = tests\naddopts = -p no:cacheprovider --color=no\n")
    # Hypothesis is imported by its plugin, which takes longer than all the rest. pytest-django sets Django up itself.
    without = ["-p", "no:hypothesispytest", "-p", "no:django"]
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_own.py").write_text("def test_own(): pass\n")

    def run(*arguments: str, directory: str = ".") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "pytest", "-q", *without, *arguments]
        done = subprocess.run(
            command,
            cwd=tmp_path / directory,
            env=os.environ | {"COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stdout + done.stderr
        return done

    return run


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_without_the_option_nothing_is_different(run_pytest: RunPytest) -> None:
    done = run_pytest()

    assert done.returncode == 0
    assert "1 passed" in done.stdout


def test_loading_the_plugin_imports_nothing_but_pytest() -> None:
    code = (
        "import pytest, sys; before = set(sys.modules); import channelmap.pytest_plugin;"
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert set(done.stdout.split()) == {"channelmap", "channelmap.pytest_plugin"}


def test_each_event_type_is_a_test_and_so_is_the_contract(run_pytest: RunPytest) -> None:
    done = run_pytest("--collect-only", "--channelmap")

    assert done.stdout.splitlines()[:5] == [
        "tests/test_own.py::test_own",
        "channels.yaml::contract",
        "channels.yaml::thumbnails-generate::generate",
        "channels.yaml::thumbnails-generate::ping",
        "channels.yaml::thumbnails-delete::delete",
    ]


def test_collecting_imports_no_consumers(run_pytest: RunPytest, tmp_path: Path) -> None:
    (tmp_path / "consumers.py").write_text("open('imported', 'w')\n")

    run_pytest("--collect-only", "--channelmap")
    assert not (tmp_path / "imported").exists()
    run_pytest("--channelmap")
    assert (tmp_path / "imported").exists()


def test_a_good_contract_passes(run_pytest: RunPytest) -> None:
    done = run_pytest("--channelmap")

    assert done.returncode == 0
    assert "5 passed" in done.stdout


def test_it_is_collected_once_and_where_it_is_looked_for(run_pytest: RunPytest, tmp_path: Path) -> None:
    (tmp_path / "channels.yaml").rename(tmp_path / "tests" / "events.yaml")
    (tmp_path / "consumers.py").rename(tmp_path / "tests" / "consumers.py")

    for arguments, directory, passed in [
        (["--channelmap=tests/events.yaml"], ".", 5),
        (["--channelmap=./tests/../tests/events.yaml"], ".", 5),
        (["--channelmap=events.yaml", "."], "tests", 5),
        (["--channelmap=events.yaml", "events.yaml"], "tests", 4),
        (["--channelmap=events.yaml", "events.yaml::thumbnails-generate"], "tests", 2),
        (["--channelmap=events.yaml", "events.yaml::thumbnails-generate::ping"], "tests", 1),
        (["--channelmap=events.yaml", "-k", "thumbnails-delete"], "tests", 1),
    ]:
        done = run_pytest(*arguments, directory=directory)
        assert f"{passed} passed" in done.stdout, (arguments, done.stdout)
        assert done.returncode == 0


@pytest.mark.parametrize("addopts", ["", "--channelmap"])
@pytest.mark.parametrize(
    ("words", "passed"), [(["tests/test_own.py"], 5), (["tests"], 5), (["channels.yaml::thumbnails-delete"], 1)]
)
def test_the_bare_option_takes_no_word_that_follows_it(
    run_pytest: RunPytest, tmp_path: Path, addopts: str, words: list[str], passed: int
) -> None:
    replace(tmp_path / "pytest.ini", "--color=no", f"--color=no {addopts}")
    # Found only where `tests` is known to be an argument before the options are read.
    (tmp_path / "tests" / "conftest.py").write_text(
        "def pytest_addoption(parser): parser.addoption('--of-the-project', action='store_true')\n"
    )
    own = ["--of-the-project"] if words[0].startswith("tests") else []
    done = run_pytest(*([] if addopts else ["--channelmap"]), *words, *own)
    assert f"{passed} passed" in done.stdout, done.stdout + done.stderr


def test_the_last_of_several_names_the_file(run_pytest: RunPytest, tmp_path: Path) -> None:
    replace(tmp_path / "pytest.ini", "--color=no", "--color=no --channelmap")
    (tmp_path / "channels.yaml").rename(tmp_path / "events.yaml")
    assert "5 passed" in run_pytest("--channelmap=events.yaml").stdout


def use_django(project: Path, settings: str) -> None:
    (project / "settings.py").write_text(settings)
    (project / "consumers.py").write_text(
        CONSUMERS.replace("from channelmap", "from django.contrib.auth.models import User\nfrom channelmap", 1)
    )


INSTALLED = "INSTALLED_APPS = ['django.contrib.contenttypes', 'django.contrib.auth']\n"


def test_a_django_project_is_set_up(run_pytest: RunPytest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_django(tmp_path, INSTALLED)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "settings")
    done = run_pytest("--channelmap")
    assert "5 passed" in done.stdout, done.stdout


def test_a_django_project_that_cannot_be_set_up_fails_in_one_line(
    run_pytest: RunPytest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_django(tmp_path, "raise RuntimeError('no database')\n")
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "settings")
    done = run_pytest("--channelmap")
    assert "4 failed, 1 passed" in done.stdout
    assert (
        "FAILED channels.yaml::contract - Failed: DJANGO_SETTINGS_MODULE is 'settings', and setting Django up raised "
        "RuntimeError: no database"
    ) in done.stdout
    assert "pytest_plugin.py" not in done.stdout


def test_an_event_type_fails_with_its_own_findings(run_pytest: RunPytest, tmp_path: Path) -> None:
    replace(tmp_path / "channels.yaml", "id: 1}", "id: one}")

    done = run_pytest("--channelmap")

    assert done.returncode == 1
    assert "1 failed, 4 passed" in done.stdout
    assert "pytest_plugin.py" not in done.stdout
    line = "error[accepts-refused] 'generate' refuses an example that it must accept: $.id expected integer, got string"
    assert f"channels.yaml:8:19: {line}\n" in done.stdout
    assert "FAILED channels.yaml::thumbnails-generate::generate - Failed: channels.yaml:8:19: " in done.stdout


def test_what_is_about_no_event_type_is_about_the_contract(run_pytest: RunPytest, tmp_path: Path) -> None:
    replace(tmp_path / "consumers.py", "class Delete", "class Remove")

    done = run_pytest("--channelmap")

    assert "1 failed, 4 passed" in done.stdout
    assert "FAILED channels.yaml::contract - Failed: channels.yaml:11:15: error[consumer-not-found] " in done.stdout


def test_a_contract_that_does_not_load_is_one_failing_test_with_everything_that_is_wrong(
    run_pytest: RunPytest, tmp_path: Path
) -> None:
    replace(tmp_path / "channels.yaml", "consumer: consumers.Generate", "konsumer: consumers.Generate")

    done = run_pytest("--channelmap")

    assert "1 failed, 1 passed" in done.stdout
    assert "channels.yaml:3:3: error[missing-key] channel 'thumbnails-generate' lacks 'consumer'\n" in done.stdout
    assert "channels.yaml:4:5: error[unknown-key] unknown key 'konsumer'; did you mean 'consumer'?\n" in done.stdout


def test_a_contract_that_is_not_there_is_a_wrong_argument(run_pytest: RunPytest) -> None:
    done = run_pytest("--channelmap=nowhere.yaml")

    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "nowhere.yaml" in done.stderr


@pytest.mark.parametrize("arguments", [["--channelmap=tests"], ["--channelmap=channels.yaml::thumbnails-delete"]])
def test_what_is_no_file_is_not_taken_for_a_contract_in_which_all_is_well(
    run_pytest: RunPytest, arguments: list[str]
) -> None:
    done = run_pytest(*arguments)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: --channelmap: there is no file '" in done.stderr


def test_a_warning_is_a_warning_of_pytest(run_pytest: RunPytest, tmp_path: Path) -> None:
    replace(tmp_path / "channels.yaml", "id: 1}", "id: one}")
    replace(tmp_path / "channels.yaml", "version: 1\n", "version: 1\ncheck: {warn: [accepts-refused]}\n")

    done = run_pytest("--channelmap")
    assert done.returncode == 0
    assert "5 passed, 1 warning" in done.stdout
    assert "channels.yaml:9:19: warning[accepts-refused] " in done.stdout

    done = run_pytest("--channelmap", "-W", "error")
    assert "1 failed, 4 passed" in done.stdout
    assert "pytest_plugin.py" not in done.stdout


def test_a_test_that_fails_tells_its_warnings_too(run_pytest: RunPytest, tmp_path: Path) -> None:
    replace(tmp_path / "channels.yaml", "required: [id]}", "requierd: [id]}")
    replace(tmp_path / "channels.yaml", "id: 1}", "id: one}")

    done = run_pytest("--channelmap", "-W", "error")

    assert "warning[keyword-unknown] " in done.stdout
    assert "error[accepts-refused] " in done.stdout


def test_what_the_contract_says_is_intended_is_no_fault(run_pytest: RunPytest, tmp_path: Path) -> None:
    replace(tmp_path / "channels.yaml", "id: 1}", "id: one}")
    suppression = "check: {ignore: [{code: accepts-refused, reason: old}, {code: sender-unknown-type, reason: new}]}"
    replace(tmp_path / "channels.yaml", "version: 1\n", f"version: 1\n{suppression}\n")

    done = run_pytest("--channelmap")

    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("5 passed in ")
