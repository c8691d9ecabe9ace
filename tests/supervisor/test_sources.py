"""Which source files a worker has loaded, and which of them have changed."""

import os
import sys
from collections import Counter
from pathlib import Path

import pytest

import channelmap
from channelmap.supervisor.sources import Watch, loaded_modules, source_files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "work.py"
    path.write_text("1")
    return path


LATER = float(sys.maxsize)


def watching(*files: Path, listed: float = LATER, complete: bool = False) -> Watch:
    """A watch that has looked once, over a process that started after the files were written."""
    watch = Watch(LATER, Counter())
    assert watch.changed_files(files, listed, complete=complete) == []
    return watch


def test_an_edited_file_has_changed_once(file: Path) -> None:
    watch = watching(file)
    assert watch.changed_files([file], LATER) == []
    file.write_text("22")
    assert watch.changed_files([file], LATER) == [file]
    assert watch.changed_files([file], LATER) == []


def test_a_file_that_was_replaced_by_one_of_the_same_size_and_time_has_changed(file: Path) -> None:
    watch, before = watching(file), file.stat()
    other = file.with_suffix(".new")
    other.write_text("2")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(file)
    assert watch.changed_files([file], LATER) == [file]


def test_the_target_of_a_symbolic_link_counts_and_so_does_a_new_target(tmp_path: Path, file: Path) -> None:
    link, other = tmp_path / "link.py", tmp_path / "other.py"
    other.write_text("1")
    link.symlink_to(file)
    watch = watching(link)
    file.write_text("22")
    assert watch.changed_files([link], LATER) == [link]
    link.unlink()
    link.symlink_to(other)
    assert watch.changed_files([link], LATER) == [link]


def test_a_directory_in_a_path_may_be_a_link_that_is_swapped(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "channels.yaml").write_text("version: 1")
    (tmp_path / "data").symlink_to("old")
    watch = watching(tmp_path / "data" / "channels.yaml")
    (tmp_path / "next").symlink_to("new")
    (tmp_path / "next").rename(tmp_path / "data")
    assert watch.changed_files([tmp_path / "data" / "channels.yaml"], LATER) == [tmp_path / "data" / "channels.yaml"]


def test_a_removed_file_has_changed_and_so_has_one_that_is_back(file: Path) -> None:
    watch = watching(file)
    file.unlink()
    assert watch.changed_files([file], LATER) == [file]
    file.write_text("1")
    assert watch.changed_files([file], LATER) == [file]


def test_a_module_that_was_written_before_the_process_could_load_it_has_not_changed(tmp_path: Path, file: Path) -> None:
    later = tmp_path / "later.py"
    later.write_text("1")
    watch = watching(file, listed=later.stat().st_ctime + 1)
    assert watch.changed_files([file, later], LATER) == []
    later.write_text("22")
    assert watch.changed_files([file, later], LATER) == [later]


def test_a_module_that_was_written_after_the_process_may_have_loaded_it_has_changed(tmp_path: Path, file: Path) -> None:
    later = tmp_path / "later.py"
    later.write_text("1")
    # A look whose list was made earlier: the process had not yet answered again.
    watch = watching(file, listed=later.stat().st_ctime - 1)
    assert watch.changed_files([file, later], LATER) == [later]
    assert watch.changed_files([file, later], LATER) == []


def test_in_a_whole_directory_a_new_file_and_a_missing_one_have_changed(tmp_path: Path, file: Path) -> None:
    watch = watching(file, complete=True)
    new = tmp_path / "new.py"
    new.write_text("1")
    assert watch.changed_files(source_files([tmp_path]), LATER, complete=True) == [new]
    file.unlink()
    assert watch.changed_files(source_files([tmp_path]), LATER, complete=True) == [file]


def test_a_file_whose_time_lies_a_tick_before_the_start_may_have_changed_after_it(file: Path) -> None:
    written = file.stat().st_ctime
    assert Watch(written + 0.005, Counter()).changed_files([file], LATER) == [file]
    assert Watch(written + 1, Counter()).changed_files([file], LATER) == []


def test_a_file_that_is_loaded_no_more_has_not_changed(tmp_path: Path, file: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text("1")
    watch = watching(file, other)
    assert watch.changed_files([file], LATER) == []


def test_what_changed_while_the_process_started_counts_but_not_at_each_of_many_starts(file: Path) -> None:
    rewritten: Counter[Path] = Counter()

    def starts_that_count(number: int) -> int:
        return sum(bool(Watch(0.0, rewritten).changed_files([file], LATER)) for _ in range(number))

    assert starts_that_count(10) == 3
    assert Watch(LATER, rewritten).changed_files([file], LATER) == []
    assert starts_that_count(10) == 3


def test_source_files_are_the_projects_own(tmp_path: Path) -> None:
    own = ["channels.yaml", "app/work.py", "app/schemas/job.json", "more.yml"]
    others = [
        "data.csv", ".git/x.py", "node_modules/y/package.json", "__pycache__/z.py", "venv/lib/a.py",
        "venv/top.py", "lib/site-packages/b.py",
    ]  # fmt: skip
    for name in [*own, *others, "venv/pyvenv.cfg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert source_files([tmp_path]) == {tmp_path / name for name in own}


def test_loaded_modules_are_those_of_the_project_and_none_that_is_installed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(file.parent))
    monkeypatch.delitem(sys.modules, "work", raising=False)
    # As an import hook may leave it there: a module that must not be imported.
    monkeypatch.setitem(sys.modules, "blocked", None)
    __import__("work")
    files = set(loaded_modules())
    assert file in files
    assert Path(str(channelmap.__file__)) in files, "an editable installation is the project's own"
    assert not [path for path in files if path.is_relative_to(Path(os.__file__).parent)]
    assert Path(pytest.__file__) not in files
