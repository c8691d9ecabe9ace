"""Baselines are read as they were released; otherwise the error says why they cannot be read."""

import json
import shutil
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from channelmap.check.compare import BaselineUnreadable, Release, read_baseline, write_lock
from channelmap.check.compare.releases import ReleasedChannel, ReleasedType

CONTRACT = """
version: 1
layer: {layer}
channels:
  jobs:
    consumer: nowhere.Consumer
    {more}
    events: {{job: schemas/job.json}}
"""


def git(directory: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(directory), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def write(directory: Path, properties: Any, *, layer: str = "memory://", more: str = "expiry: 60") -> Path:
    (directory / "schemas").mkdir(parents=True, exist_ok=True)
    (directory / "schemas" / "job.json").write_text(json.dumps({"properties": properties}))
    path = directory / "channels.yaml"
    path.write_text(CONTRACT.format(layer=layer, more=more))
    return path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "-b", "main", "repo")
    return tmp_path / "repo"


def commit(repository: Path, *, tag: str) -> None:
    git(repository, "add", "--all")
    git(repository, "commit", "-q", "-m", tag)
    git(repository, "tag", tag)


def properties(releases: tuple[Release, ...]) -> list[set[str]]:
    found = []
    for release in releases:
        schema = release.channels["jobs"].events["job"].schema
        assert isinstance(schema, dict)
        found.append(set(schema["properties"]) - {"type"})
    return found


def unreadable(spec: str, config: Path, **options: bool) -> str:
    with pytest.raises(BaselineUnreadable) as caught:
        read_baseline(spec, config, **options)
    return str(caught.value)


@pytest.mark.parametrize("place", ["", "services/mail"])
@pytest.mark.parametrize("spec", ["v1", "git:v1", "main~1"])
def test_a_revision_is_read_as_it_was_committed(repository: Path, place: str, spec: str) -> None:
    write(repository / place, {"old": True})
    commit(repository, tag="v1")
    config = write(repository / place, {"new": True})
    commit(repository, tag="v2")
    releases = read_baseline(spec, config)
    assert [release.name for release in releases] == [spec.removeprefix("git:")]
    assert properties(releases) == [{"old"}]
    assert releases[0].channels["jobs"].expiry == 60


def test_a_revision_can_be_read_in_a_git_hook(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write(repository / "deep", {"old": True})
    commit(repository, tag="v1")
    monkeypatch.setenv("GIT_DIR", ".git")
    assert properties(read_baseline("v1", config)) == [{"old"}]


def test_links_inside_the_directory_are_followed_and_other_links_are_ignored(repository: Path) -> None:
    config = write(repository, {"old": True})
    (repository / "schemas" / "job.json").rename(repository / "schemas" / "real.json")
    (repository / "schemas" / "job.json").symlink_to("real.json")
    (repository / "away").symlink_to("/etc")
    (repository / "up").symlink_to("../..")
    commit(repository, tag="v1")
    assert properties(read_baseline("v1", config)) == [{"old"}]


@pytest.mark.parametrize("more", ["expiry: 60", "capacity: ${NUMBER_UNSET}"])
def test_an_old_file_loads_although_its_variables_are_no_longer_set(repository: Path, more: str) -> None:
    layer = "${LAYER_UNSET}" if "expiry" in more else "memory://"
    config = write(repository, {"old": True}, layer=layer, more=more)
    commit(repository, tag="v1")
    assert properties(read_baseline("v1", config)) == [{"old"}]


def test_for_a_directory_the_file_of_the_same_name_is_read(tmp_path: Path) -> None:
    write(tmp_path / "old", {"old": True})
    config = write(tmp_path / "new", {"new": True})
    assert properties(read_baseline(str(tmp_path / "old"), config)) == [{"old"}]
    assert properties(read_baseline(str(tmp_path / "old" / "channels.yaml"), config)) == [{"old"}]


def test_for_a_lock_the_newest_release_or_all_releases_are_read(tmp_path: Path) -> None:
    lock = tmp_path / "channelmap.lock.json"
    for day, name in enumerate(["one", "two"], start=1):
        event_type = ReleasedType({"properties": {name: True}})
        write_lock(lock, Release(name, {"jobs": ReleasedChannel(events={"job": event_type})}), date(2026, 1, day))
    assert properties(read_baseline(str(lock), "channels.yaml")) == [{"two"}]
    releases = read_baseline(str(lock), "channels.yaml", transitive=True)
    assert [release.name for release in releases] == ["one", "two"]


def test_an_unknown_revision_says_what_a_shallow_clone_needs(repository: Path) -> None:
    config = write(repository, {})
    commit(repository, tag="v1")
    assert unreadable("origin/main", config) == (
        "cannot compare with 'origin/main': there is no git revision, file or directory 'origin/main'; "
        "fetch it first; on a CI runner the clone may be shallow: actions/checkout needs 'fetch-depth: 0'"
    )


def test_a_file_that_was_added_later_is_an_error_and_not_an_empty_release(repository: Path) -> None:
    (repository / "README").write_text("r")
    commit(repository, tag="v1")
    config = write(repository / "deep", {})
    commit(repository, tag="v2")
    git(repository, "checkout", "-q", "v2")
    assert "was it added later?" in unreadable("v1", config)
    config = write(repository, {})
    assert "that revision has no 'channels.yaml'" in unreadable("v1", config)


@pytest.mark.parametrize("spec", ["git:", "a\0b", "v1:channels.yaml", "v1..v1"])
def test_a_text_that_is_not_a_revision_is_an_error(repository: Path, spec: str) -> None:
    config = write(repository, {})
    commit(repository, tag="v1")
    assert unreadable(spec, config).startswith("cannot compare with ")


@pytest.mark.parametrize("spec", ["--output=x", "git:-h", "git:--all"])
def test_a_revision_is_never_an_option(repository: Path, spec: str) -> None:
    config = write(repository, {})
    commit(repository, tag="v1")
    assert unreadable(spec, config).endswith("a revision cannot begin with '-'")


def test_outside_of_a_repository_there_are_no_revisions(tmp_path: Path) -> None:
    assert "is in no git repository" in unreadable("v1", write(tmp_path, {}))


def test_without_git_there_are_no_revisions(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write(repository, {})
    monkeypatch.setenv("PATH", str(repository))
    assert "git is not installed" in unreadable("v1", config)


def test_an_old_contract_with_errors_is_unreadable_for_the_first_of_them(repository: Path) -> None:
    config = write(repository, {"old": {"type": "wrong"}})
    commit(repository, tag="v1")
    assert "schemas/job.json:1:" in (text := unreadable("v1", config))
    assert str(Path("/tmp")) not in text.replace(str(repository), "")


def test_a_directory_without_a_contract_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "there is no such file" in unreadable(str(tmp_path / "empty"), write(tmp_path, {}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ("{}", "is damaged"),
        ('{"version": 1}', "is damaged"),
        ('{"version": 1, "releases": [], "schemas": {}}', "is damaged"),
        ('{"version": 1, "releases": [{}], "schemas": {}}', "is damaged"),
        ('{"version": 1, "releases": 5, "schemas": {}}', "is damaged"),
        ('{"version": 2, "releases": []}', "is of version 2, and this channelmap knows 1; update channelmap"),
        (None, "there is no such file; 'channelmap lock' makes one"),
    ],
)
def test_a_lock_that_cannot_be_read_says_why(tmp_path: Path, content: str | None, message: str) -> None:
    lock = tmp_path / "channelmap.lock.json"
    if content is not None:
        lock.write_text(content)
    assert message in unreadable(str(lock), tmp_path / "channels.yaml", transitive=True)


def test_a_revision_missing_from_a_shallow_clone_is_unreadable(repository: Path, tmp_path: Path) -> None:
    write(repository, {"old": True})
    commit(repository, tag="v1")
    write(repository, {"new": True})
    commit(repository, tag="v2")
    git(tmp_path, "clone", "-q", "--depth=1", "--no-tags", f"file://{repository}", "shallow")
    assert "fetch-depth: 0" in unreadable("HEAD~1", tmp_path / "shallow" / "channels.yaml")


def test_a_file_is_read_as_it_was_committed_whatever_git_attributes_say(repository: Path) -> None:
    config = write(repository, {"$Format:%H$": True, "old": True})
    (repository / ".gitattributes").write_text("schemas/** export-subst\n*.yaml export-ignore\n*.json ident eol=crlf\n")
    commit(repository, tag="v1")
    write(repository, {"new": True})
    assert properties(read_baseline("v1", config)) == [{"$Format:%H$", "old"}]


def test_only_the_files_that_the_contract_names_are_read(repository: Path) -> None:
    config = write(repository, {"old": True})
    (repository / "movie.bin").write_text("large")
    commit(repository, tag="v1")
    name = git(repository, "rev-parse", "v1:movie.bin")
    (repository / ".git" / "objects" / name[:2] / name[2:]).unlink()
    assert properties(read_baseline("v1", config)) == [{"old"}]


def branched(repository: Path) -> Path:
    """Make a branch `work` from the first commit of `main`, which has a newer commit."""
    write(repository, {"base": True})
    commit(repository, tag="v1")
    git(repository, "branch", "work")
    write(repository, {"base": True, "on_main": True})
    commit(repository, tag="v2")
    git(repository, "checkout", "-q", "work")
    config = write(repository, {"base": True, "on_work": True})
    commit(repository, tag="w1")
    return config


@pytest.mark.parametrize("spec", ["main", "git:main", "refs/heads/main", "origin/main"])
def test_for_a_branch_the_merge_base_is_read_and_named(repository: Path, spec: str) -> None:
    config = branched(repository)
    git(repository, "update-ref", "refs/remotes/origin/main", "main")
    releases = read_baseline(spec, config)
    assert properties(releases) == [{"base"}]
    assert releases[0].name == f"{spec.removeprefix('git:')} (merge base {git(repository, 'rev-parse', 'v1')[:12]})"
    git(repository, "checkout", "-q", "--detach", "w1")
    assert properties(read_baseline(spec, config)) == [{"base"}]


@pytest.mark.parametrize("spec", ["v2", "main^0", "main~0", "refs/tags/v2"])
def test_other_revisions_than_branches_are_read_exactly(repository: Path, spec: str) -> None:
    config = branched(repository)
    releases = read_baseline(spec, config)
    assert properties(releases) == [{"base", "on_main"}]
    assert releases[0].name == spec
    assert properties(read_baseline(git(repository, "rev-parse", "v2"), config)) == [{"base", "on_main"}]


def test_a_merged_branch_is_named_without_its_merge_base(repository: Path) -> None:
    config = branched(repository)
    git(repository, "checkout", "-q", "main")
    assert [release.name for release in read_baseline("main", config)] == ["main"]


def test_a_branch_without_a_common_commit_is_unreadable(repository: Path) -> None:
    config = branched(repository)
    git(repository, "checkout", "-q", "--orphan", "alone")
    git(repository, "commit", "-q", "-m", "alone")
    assert unreadable("main", config) == (
        "cannot compare with 'main': the branch 'main' and HEAD have no commit in common here; "
        "'main^0' compares with its newest commit"
    )


def test_a_shallow_clone_without_the_merge_base_says_what_it_needs(repository: Path, tmp_path: Path) -> None:
    branched(repository)
    clone = ("clone", "-q", "--depth=1", "--no-single-branch", f"file://{repository}", "shallow")
    git(tmp_path, *clone)
    config = tmp_path / "shallow" / "channels.yaml"
    text = unreadable("origin/main", config)
    assert "the clone is shallow: actions/checkout needs 'fetch-depth: 0'" in text
    assert properties(read_baseline("origin/main^0", config)) == [{"base", "on_main"}]


@pytest.fixture
def with_submodule(repository: Path, tmp_path: Path) -> Path:
    """Return the contract of a repository whose schemas are a submodule with a newer commit than that of the tag v1."""
    git(tmp_path, "init", "-q", "-b", "main", "shared")
    (tmp_path / "shared" / "job.json").write_text(json.dumps({"properties": {"old": True}}))
    commit(tmp_path / "shared", tag="s1")
    config = write(repository / "deep", {})
    shutil.rmtree(repository / "deep" / "schemas")
    add = ("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(tmp_path / "shared"), "deep/schemas")
    git(repository, *add)
    commit(repository, tag="v1")
    inner = repository / "deep" / "schemas"
    (inner / "job.json").write_text(json.dumps({"properties": {"new": True}}))
    commit(inner, tag="s2")
    commit(repository, tag="v2")
    return config


def test_schemas_in_a_submodule_are_read_at_the_commit_that_the_revision_names(with_submodule: Path) -> None:
    assert properties(read_baseline("v1", with_submodule)) == [{"old"}]
    assert properties(read_baseline("v2", with_submodule)) == [{"new"}]


def test_a_submodule_that_is_not_checked_out_is_read_from_gits_own_copy(with_submodule: Path) -> None:
    git(with_submodule.parent, "submodule", "--quiet", "deinit", "--force", "--all")
    assert properties(read_baseline("v1", with_submodule)) == [{"old"}]


def test_a_submodule_whose_commit_was_not_fetched_is_named(with_submodule: Path) -> None:
    repository = with_submodule.parent.parent
    name = git(repository, "rev-parse", "v1:deep/schemas")
    git(repository, "submodule", "--quiet", "deinit", "--force", "--all")
    shutil.rmtree(repository / ".git" / "modules")
    assert unreadable("v1", with_submodule) == (
        f"cannot compare with 'v1': 'deep/schemas' is a git submodule, and its commit {name[:12]} is not here; "
        "'git submodule update --init' fetches the one of today; fetch older ones in it"
    )


def test_a_contract_in_a_missing_directory_is_unreadable(tmp_path: Path, repository: Path) -> None:
    config = write(repository / "deep", {})
    shutil.rmtree(repository / "deep")
    assert "there is no directory" in unreadable("v1", config)
