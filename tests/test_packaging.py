"""What the package promises as a package: its names, and what importing it costs."""

import subprocess
import sys
from importlib.metadata import entry_points
from importlib.resources import files

import channelmap


def loaded_after(code: str) -> set[str]:
    """Name the modules that a fresh interpreter has loaded after it ran the code."""
    script = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


def test_every_public_name_is_there() -> None:
    for name in channelmap.__all__:
        assert getattr(channelmap, name).__name__ == name
    assert dir(channelmap) == channelmap.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(channelmap, "Thumbnails")


def test_importing_channelmap_pulls_in_nothing_that_is_not_asked_for() -> None:
    heavy = {"redis", "jsonschema", "jsonschema_rs", "django", "yaml", "click", "rich", "asyncio", "sqlite3"}

    assert not loaded_after("import channelmap") & heavy


def test_a_sqlite_worker_imports_no_client_of_another_layer_and_nothing_that_only_explains() -> None:
    code = "import channelmap.cli.runworker, channelmap.layers.sqlite"

    assert not loaded_after(code) & {"redis", "jsonschema", "django", "rich"}


def test_the_console_scripts_are_runworker_and_channelmap() -> None:
    scripts = {entry.name for entry in entry_points(group="console_scripts") if entry.module == "channelmap.cli"}

    assert scripts == {"runworker", "channelmap"}


def test_the_package_ships_its_types_and_the_schema_of_channels_yaml() -> None:
    assert files("channelmap").joinpath("py.typed").is_file()
    assert files("channelmap").joinpath("channels.schema.json").is_file()
