"""What the package promises as a package: its names, and what importing it costs."""

import email
import re
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import entry_points, version
from importlib.resources import files
from pathlib import Path

import pytest

import channelmap

ROOT = Path(__file__).parents[1]
AT_THE_TOP = {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "channels.yaml", "pyproject.toml"}
FOLDERS = ("benchmarks", "docs", "examples", "requirements", "schemas", "src", "tests")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution, and the wheel from it."""
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return directory


def unpacked(built: Path, to: Path) -> Path:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        archive.extractall(to, filter="data")
    return next(to.iterdir())


def tracked() -> set[str]:
    """Name what a clone has and nobody installed, built or cached."""
    paths = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file())
    made = ("__pycache__", ".egg-info", ".hypothesis", ".db")
    return AT_THE_TOP | {str(p.relative_to(ROOT)) for p in paths if not any(word in str(p) for word in made)}


def loaded_after(code: str) -> set[str]:
    """Name the modules that a fresh interpreter has loaded after it ran the code."""
    script = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


def test_every_public_name_is_there() -> None:
    for name in channelmap.__all__:
        assert getattr(channelmap, name).__name__ == name
    assert set(dir(channelmap)) == {*channelmap.__all__, "__version__"}


def test_the_version_is_that_of_the_installed_package() -> None:
    assert channelmap.__version__ == version("channelmap")


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(channelmap, "Thumbnails")


def test_importing_channelmap_pulls_in_nothing_that_is_not_asked_for() -> None:
    heavy = {"redis", "jsonschema", "jsonschema_rs", "django", "yaml", "click", "rich", "asyncio", "sqlite3"}
    heavy.add("importlib.metadata")  # what finds the version

    assert not loaded_after("import channelmap") & heavy


def test_a_sqlite_worker_imports_no_client_of_another_layer_and_nothing_that_only_explains() -> None:
    code = "import channelmap.cli.runworker, channelmap.layers.sqlite"

    assert not loaded_after(code) & {"redis", "jsonschema", "django", "rich"}


def test_the_console_scripts_are_runworker_and_channelmap() -> None:
    scripts = {entry.name for entry in entry_points(group="console_scripts") if entry.module == "channelmap.__main__"}

    assert scripts == {"runworker", "channelmap"}


def test_the_package_ships_its_types_and_the_schema_of_channels_yaml() -> None:
    assert files("channelmap").joinpath("py.typed").is_file()
    assert files("channelmap").joinpath("channels.schema.json").is_file()


def test_the_source_distribution_is_the_whole_project_and_its_tests_can_be_collected(
    built: Path, tmp_path: Path
) -> None:
    project = unpacked(built, tmp_path)

    assert not tracked() - {str(path.relative_to(project)) for path in project.rglob("*")}
    command = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert int(re.findall(r"(\d+) tests collected", done.stdout)[0]) > 1000


def test_the_wheel_holds_the_package_with_all_its_data_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert names == {name.removeprefix("src/") for name in tracked() if name.startswith("src/")}


def test_the_description_for_a_package_index_has_no_link_that_leads_nowhere_there(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
        description = email.message_from_bytes(wheel.read(name)).get_payload()

    assert isinstance(description, str)
    assert not re.findall(r"\]\((?!https?://|#)[^)]*\)", description)
    assert "`docs/worker.md` in the source distribution" in description
