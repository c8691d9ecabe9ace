"""Every finding, word for word: projects below `golden/`, each with the output of `channelmap check`.

A project may have a file `options` with command-line options, and a script `prepare` for setup beyond files.
`golden/modules` is on the import path of all projects.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import channelmap as package
from channelmap.cli import channelmap
from channelmap.cli.exits import run
from channelmap.codes import Code

GOLDEN = Path(__file__).parent / "golden"
MODULES = GOLDEN / "modules"


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(MODULES)
    forget_modules()
    for name in ("CHANNELMAP_CONFIG", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    yield
    forget_modules()


def forget_modules() -> None:
    for path in MODULES.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize(
    "directory",
    sorted(path for kind in ("err", "ok") for path in GOLDEN.glob(f"{kind}/*") if path.is_dir()),
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_a_project_has_exactly_the_expected_findings(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = shutil.copytree(directory, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(project)
    if (project / "prepare").exists():
        prepare(project)
    options = (project / "options").read_text().split() if (project / "options").exists() else []

    code = run(channelmap, "channelmap", ["check", *options])

    printed = capsys.readouterr()
    said = printed.out.replace(str(MODULES), "MODULES").replace(str(project), "PROJECT")
    expected = directory.with_suffix(".out").read_text() if directory.parent.name == "err" else ""
    assert said == expected
    assert "Traceback" not in printed.err
    assert code == (2 if directory.name == "file-missing" else 1 if ": error[" in said else 0)


def prepare(project: Path) -> None:
    """Run the project's script `prepare`, in which `$CHANNELMAP` is the command."""
    environment = os.environ | {
        "CHANNELMAP": f"{sys.executable} -m channelmap",
        "PYTHONPATH": os.pathsep.join([str(Path(package.__file__).parents[1]), str(MODULES)]),
    }
    subprocess.run(["sh", "-e", "prepare"], cwd=project, env=environment, check=True, capture_output=True)


def test_every_code_has_a_project_that_shows_it() -> None:
    for code in [*Code]:
        assert f"[{code}]" in (GOLDEN / "err" / f"{code}.out").read_text(), code


def test_every_bad_project_has_its_expectation() -> None:
    bad = {path.name for path in GOLDEN.glob("err/*") if path.is_dir()}
    assert bad == {path.stem for path in GOLDEN.glob("err/*.out")}
