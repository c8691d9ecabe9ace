"""Loading a contract file: the result is a Contract, or one error with all diagnostics."""

import contextlib
import gc
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from channelmap.codes import Code
from channelmap.contract import Contract, Example, LayerSetting
from channelmap.diagnostics import Diagnostic, Location
from channelmap.errors import ContractError, UnknownChannel
from channelmap.limits import Limits, RetryPolicy, Service
from channelmap.loader import load

EVERY_KEY = Path(__file__).parent / "check" / "golden" / "ok" / "every-key"
TYPES = "'array', 'boolean', 'integer', 'null', 'number', 'object', 'string', or array"
CHANNEL = "{consumer: a.B, events: {made: %s}}"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(directory: Path, **files: str) -> None:
    for name, text in files.items():
        path = directory / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def contract(
    directory: Path, channel: str = "{consumer: a.B, events: {made: true}}", top: str = "", **options: Any
) -> Contract:
    write(directory, channels_yaml=f"version: 1\n{top}\nchannels:\n  images: {channel}\n")
    return load(**options)


def judging(loaded: Contract) -> Callable[[Any], str]:
    """Return a function that returns the code with which an event is rejected; empty if it is accepted."""

    def judge(event: Any) -> str:
        rejected = loaded.channel("images").judge(event)
        return rejected.code if rejected is not None else ""

    return judge


def findings(*arguments: Any, **options: Any) -> list[str]:
    with pytest.raises(ContractError) as caught:
        load(*arguments, **options)
    return [str(diagnostic) for diagnostic in caught.value.diagnostics]


def test_every_key_reaches_the_model() -> None:
    loaded = load(EVERY_KEY / "channels.yaml", env={})
    images = loaded.channel("images")
    assert loaded.layer == LayerSetting(url="redis://localhost", options={"prefix": "test"})
    assert (images.name, images.consumer, images.description, images.owner, images.validate) == (
        "images", "consumers.Several", "What happens to images.", "team-media", "warn",
    )  # fmt: skip
    assert loaded.tracing is True
    assert images.limits == Limits(capacity=500, expiry=3600.0, dead_letters=0, durable=True)
    retry = RetryPolicy(attempts=3, delay=10.0, backoff=1.5, max_delay=60.0, jitter=0.5)
    assert images.service == Service(concurrency=4, timeout=30.0, retry=retry, warn_after=10.0)
    assert loaded.limits == {"images": images.limits}
    assert list(images.events) == ["made", "made.now", "more", "wrapped"]
    path = os.path.relpath(EVERY_KEY / "channels.yaml")
    assert images.events["made.now"].description == "Made at once."
    assert images.events["made.now"].accepts == (
        Example({"type": "made.now", "image": 1, "price": "${PRICE}"}, Location(path, 31, 19)),
    )
    assert [example.location.line for example in images.events["made.now"].rejects] == [1, 2, 3]
    assert images.events["more"].schema is True
    assert images.events["wrapped"].validator is None


def test_a_missing_setting_has_its_default(directory: Path) -> None:
    loaded = contract(directory)
    images = loaded.channel("images")
    assert loaded.layer == LayerSetting(url=f"sqlite:///{directory}/channels.db", is_default=True)
    assert (images.description, images.owner, images.validate) == ("", "", "enforce")
    assert (images.limits, images.service) == (Limits(), Service())


def test_at_least_once_retries_by_default(directory: Path) -> None:
    loaded = contract(directory, "{consumer: a.B, delivery: at-least-once, events: {made: true}}")
    assert loaded.channel("images").service.retry == RetryPolicy()


@pytest.mark.parametrize(
    ("delivery", "durability", "durable"),
    [
        ("at-least-once", None, True),
        ("at-most-once", None, False),
        ("at-least-once", "normal", False),
        ("at-most-once", "full", True),
    ],
)
@pytest.mark.parametrize("inherited", [False, True])
def test_an_at_least_once_channel_is_durable_unless_the_contract_says_otherwise(
    directory: Path, delivery: str, durability: str | None, *, durable: bool, inherited: bool
) -> None:
    settings = f"delivery: {delivery}" + (f", durability: {durability}" if durability else "")
    channel = "{consumer: a.B, events: {made: true}%s}" % ("" if inherited else f", {settings}")
    loaded = contract(directory, channel, f"defaults: {{{settings}}}" if inherited else "")
    assert loaded.channel("images").limits.durable is durable


def test_a_channel_may_override_a_default(directory: Path) -> None:
    top = "defaults: {delivery: at-least-once, retry: {attempts: 2}, timeout: 5}"
    channel = "{consumer: a.B, delivery: at-most-once, timeout: null, events: {made: true}}"
    assert contract(directory, channel, top).channel("images").service == Service()


@pytest.mark.parametrize(
    ("setting", "layer"),
    [
        ("redis://localhost", LayerSetting(url="redis://localhost")),
        ("sqlite:////srv/a.db", LayerSetting(url="sqlite:////srv/a.db")),
        ("{url: memory://}", LayerSetting(url="memory://")),
        ("{backend: a.B, config: {hosts: []}}", LayerSetting(backend="a.B", config={"hosts": []})),
    ],
)
def test_a_layer_is_a_url_or_a_mapping(setting: str, layer: LayerSetting, directory: Path) -> None:
    assert contract(directory, top=f"layer: {setting}").layer == layer


@pytest.mark.parametrize("setting", ["${SECRET}", "{url: ['${SECRET}']}", "{url: a, backend: '${SECRET}'}"])
def test_a_finding_about_a_layer_never_quotes_its_settings(setting: str, directory: Path) -> None:
    top = f"layer: {setting}" if setting != "${SECRET}" else "layer: {url: 1, options: '${SECRET}'}"
    with pytest.raises(ContractError) as caught:
        contract(directory, top=top, env={"SECRET": "s3cret"})
    assert "s3cret" not in str(caught.value)


def test_an_encryption_key_that_reads_as_a_number_is_not_quoted_either(directory: Path) -> None:
    with pytest.raises(ContractError, match=r"'0' expected text in quotes$") as caught:
        contract(directory, top="layer: {url: a, options: {symmetric_encryption_keys: [12345]}}")
    assert "12345" not in str(caught.value)


def test_the_numbers_among_a_layers_options_are_integers(directory: Path) -> None:
    options = contract(
        directory, top="layer: {url: 'memory://', options: {capacity: 5.0, expiry: 2.5, prefix: b}}"
    ).layer.options
    assert repr(options) == "{'capacity': 5, 'expiry': 2.5, 'prefix': 'b'}"


def test_the_repr_of_a_contract_does_not_show_the_layer(directory: Path) -> None:
    assert "s3cret" not in repr(contract(directory, top="layer: redis://:s3cret@host"))


def test_a_schema_path_that_is_too_long_for_a_file_name_is_reported_as_missing(directory: Path) -> None:
    name = "x" * 5_000
    write(directory, channels_yaml=f"version: 1\nchannels:\n  a: {{consumer: a.B, events: {{made: {name}}}}}\n")
    (finding,) = findings()
    assert finding.startswith("channels.yaml:3:37: error[schema-missing] there is no file 'xxx")
    assert len(finding) < 300


def test_all_faults_are_reported_at_once(directory: Path) -> None:
    write(
        directory,
        channels_yaml="version: 1\nlayr: x\n"
        "channels:\n  a: {consumer: a.B, events: {made: made.json, more: no.json}}\n",
        made_json='{"type": "objekt",\n "$ref": "common.json"}',
        common_json="{",
    )
    assert findings() == [
        "channels.yaml:2:1: error[unknown-key] unknown key 'layr'; did you mean 'layer'?",
        "channels.yaml:4:54: error[schema-missing] there is no file 'no.json'; did you mean 'common.json'?",
        f"made.json:1:10: error[schema-invalid] 'type' expected one of {TYPES}",
    ]


def test_a_fault_in_a_shared_schema_is_reported_once(directory: Path) -> None:
    write(
        directory,
        channels_yaml="version: 1\nchannels:\n  a: {consumer: a.B, events: {made: a.json, more: b.json}}\n",
        a_json='{"$ref": "common.json"}',
        b_json='{"$ref": "common.json"}',
        common_json="{",
    )
    assert findings() == [
        "common.json:1:2: error[schema-syntax] the JSON text ends too early",
    ]


def test_a_contract_error_has_complete_diagnostics(directory: Path) -> None:
    write(directory, channels_yaml="version: 1\nchannels: {a: {consumer: a.B, evnets: {}, events: {x: true}}}\n")
    with pytest.raises(ContractError) as caught:
        load()
    location = Location("channels.yaml", 2, 31)
    assert caught.value.diagnostics == (
        Diagnostic(location, Code.UNKNOWN_KEY, "unknown key 'evnets'", "did you mean 'events'?"),
    )


def test_paths_in_messages_are_relative_if_they_are_below_the_working_directory(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(directory, sub__channels_yaml="[")
    assert findings("sub/channels.yaml")[0].startswith("sub/channels.yaml:")
    monkeypatch.chdir("/usr")
    assert findings(directory / "sub" / "channels.yaml")[0].startswith(f"{directory}/sub/channels.yaml:")


def test_a_schema_refers_to_other_files_below_the_contract(directory: Path) -> None:
    write(
        directory,
        schemas__made_json='{"properties": {"id": {"$ref": "common.yaml#/$defs/id"}}, "required": ["id"]}',
        schemas__common_yaml="$defs: {id: {$ref: '#small'}, s: {$anchor: small, type: integer, maximum: 9}}",
    )
    judge = judging(contract(directory, CHANNEL % "schemas/made.json"))
    assert judge({"type": "made", "id": 9}) == ""
    assert judge({"type": "made", "id": 10}) == "schema-mismatch"


def test_an_inline_schema_refers_to_files_and_to_itself(directory: Path) -> None:
    write(directory, id_json='{"type": "integer"}')
    inline = "{schema: {properties: {id: {$ref: id.json}, n: {$ref: '#/$defs/n'}}, $defs: {n: {const: 1}}}}"
    judge = judging(contract(directory, CHANNEL % inline))
    assert judge({"type": "made", "id": 1, "n": 1}) == ""
    assert judge({"type": "made", "id": "a"}) == "schema-mismatch"
    assert judge({"type": "made", "n": 2}) == "schema-mismatch"


def test_the_id_of_a_file_does_not_change_the_base_of_its_references(directory: Path) -> None:
    write(
        directory,
        made_json='{"$id": "https://example.com/made.json", "properties": {"a": {"$ref": "b.json"},'
        ' "c": {"$ref": "urn:c"}}, "$defs": {"c": {"$id": "urn:c", "const": 1}}}',
        b_json='{"type": "integer"}',
    )
    judge = judging(contract(directory, CHANNEL % "made.json"))
    assert judge({"type": "made", "a": 1, "c": 1}) == ""
    assert judge({"type": "made", "a": "x"}) == "schema-mismatch"
    assert judge({"type": "made", "c": 2}) == "schema-mismatch"


def test_a_ref_that_is_data_or_a_property_name_is_not_a_reference(directory: Path) -> None:
    inline = "{schema: {properties: {$ref: {const: {$ref: no.json}}, a: {enum: [{$ref: http://x}]}}}}"
    assert judging(contract(directory, CHANNEL % inline))({"type": "made"}) == ""


def test_the_engine_gets_only_the_files_that_a_schema_refers_to(directory: Path) -> None:
    write(
        directory,
        one_json='{"$ref": "size.json"}',
        two_json='{"properties": {"x": {"$ref": "size.json"}, "y": {"$ref": "#/properties/x"}}}',
        size_json='{"$ref": "unit.json"}',
        unit_json='{"properties": {"again": {"$ref": "three.json"}}}',
        three_json='{"$ref": "size.json"}',
        four_json='{"type": "object"}',
    )
    loaded = contract(
        directory,
        "{consumer: a.B, events: {one: one.json, two: two.json, three: three.json, four: four.json}}",
    )
    given_to_the_engine = {
        name: [uri.rpartition("/")[2] for uri in sorted(event_type.validator.others.schemas)]
        for name, event_type in loaded.channel("images").events.items()
        if event_type.validator is not None
    }
    assert given_to_the_engine == {
        "one": ["size.json", "three.json", "unit.json"],
        "two": ["size.json", "three.json", "unit.json"],
        "three": ["size.json", "three.json", "unit.json"],
        "four": [],
    }


def test_schemas_may_refer_to_each_other_in_a_circle(directory: Path) -> None:
    write(directory, a_json='{"properties": {"b": {"$ref": "b.json"}}}', b_json='{"$ref": "a.json"}')
    judge = judging(contract(directory, CHANNEL % "a.json"))
    assert judge({"type": "made", "b": {"b": {}}}) == ""


def test_a_recursive_closed_schema_rejects_undeclared_properties_at_every_level(directory: Path) -> None:
    node = '{"properties": {"child": {"$ref": "#"}}, "additionalProperties": false}'
    write(directory, a_json=node)
    judge = judging(contract(directory, CHANNEL % "a.json"))
    assert judge({"type": "made", "child": {"child": {}}}) == ""
    assert judge({"type": "made", "child": {"chlid": {}}}) == "schema-mismatch"


def test_draft_07_schemas_are_read_as_such(directory: Path) -> None:
    write(directory, a_json='{"$schema": "http://json-schema.org/draft-07/schema#",'
          ' "properties": {"v": {"items": [{"type": "integer"}]}}}')  # fmt: skip
    judge = judging(contract(directory, CHANNEL % "a.json"))
    assert judge({"type": "made", "v": [1, "a"]}) == ""
    assert judge({"type": "made", "v": ["a"]}) == "schema-mismatch"


def test_a_symbolic_link_out_of_the_contracts_directory_is_rejected(
    directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "a.json"
    outside.write_text("{}")
    (directory / "a.json").symlink_to(outside)
    write(directory, channels_yaml=f"version: 1\nchannels:\n  a: {CHANNEL % 'a.json'}\n")
    hint = "move the file below that directory"
    assert findings() == [
        f"channels.yaml:3:37: error[path-outside-root] 'a.json' is outside the directory of the contract; {hint}"
    ]


def test_channel_names_that_yaml_1_1_would_convert_stay_text(directory: Path) -> None:
    write(directory, channels_yaml="version: 1\nchannels:\n" + "".join(
        f"  {name}: {CHANNEL % 'true'}\n" for name in ("on", "012", "1.0", "null", "true", "a" * 99)
    ))  # fmt: skip
    assert list(load().channels) == ["on", "012", "1.0", "null", "true", "a" * 99]


def test_the_error_for_an_unknown_channel_lists_the_declared_ones(directory: Path) -> None:
    with pytest.raises(UnknownChannel) as caught:
        contract(directory).channel("imges")
    assert str(caught.value) == "no channel 'imges'; the contract declares 'images'; did you mean 'images'?"


@pytest.mark.parametrize(
    "data", ["5", "[]", "null", "text", "version: 1\nchannels: []\n", "channels: {a: {events: 5}}"]
)
def test_a_contract_file_of_any_wrong_shape_has_findings(data: Any, directory: Path) -> None:
    write(directory, channels_yaml=data)
    assert findings()


def test_loading_imports_neither_user_code_nor_libraries_that_only_a_check_needs(directory: Path) -> None:
    write(directory, consumers_py="raise SystemExit('imported')", made_json="{}")
    contract(directory, "{consumer: consumers.A, events: {made: made.json}}")
    program = (
        "import sys; from channelmap.loader import load; load();"
        "print(sorted({'consumers', 'jsonschema', 'referencing', 'redis', 'django'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": os.pathsep.join(sys.path)},
                         capture_output=True, text=True, check=True)  # fmt: skip
    assert run.stdout == "[]\n"


GOOD = (EVERY_KEY / "channels.yaml").read_bytes()
MADE = (EVERY_KEY / "schemas" / "made.json").read_bytes()


def mutated(original: bytes) -> st.SearchStrategy[bytes]:
    """Generate variants of bytes in which a few slices are replaced by other slices or by arbitrary bytes."""
    slices = st.tuples(st.integers(0, len(original)), st.integers(0, 12)).map(lambda s: original[s[0] : sum(s)])
    piece = st.binary(max_size=3) | slices | st.sampled_from([b"$ref", b"{", b"[", b"null", b"\n", b": ", b"../"])
    edit = st.tuples(st.integers(0, len(original)), st.integers(0, 8), piece)

    def apply(edits: Any) -> bytes:
        data = original
        for start, length, replacement in edits:
            data = data[:start] + replacement + data[start + length :]
        return data

    return st.lists(edit, min_size=1, max_size=3).map(apply)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(contract=mutated(GOOD) | st.just(GOOD), schema=mutated(MADE) | st.binary(max_size=30))
def test_any_file_gives_a_contract_or_diagnostics(contract: bytes, schema: Any, tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir(exist_ok=True)
    (tmp_path / "schemas" / "rejects.yaml").write_text("[]")
    (tmp_path / "schemas" / "made.json").write_bytes(schema)
    (tmp_path / "channels.yaml").write_bytes(contract)
    with contextlib.suppress(ContractError):
        for channel in load(tmp_path / "channels.yaml", env={}).channels.values():
            for event_type in channel.events:
                channel.judge({"type": event_type, "id": 1})


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    schema=st.recursive(
        st.booleans() | st.none() | st.integers(-1, 2) | st.sampled_from(["object", "#", "#/$defs/a", "a.json", "("]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["$ref", "$id", "$anchor", "$defs", "a", "properties", "allOf", "type", "pattern", "items", "not"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_schema_gives_a_contract_or_diagnostics(schema: Any, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(schema))
    (tmp_path / "channels.yaml").write_text(f"version: 1\nchannels:\n  a: {CHANNEL % 'a.json'}\n")
    with contextlib.suppress(ContractError):
        load(tmp_path / "channels.yaml", env={}).channel("a").judge({"type": "made", "a": {"a": [1]}})


NUMBERS = {
    "concurrency": (1, 10_000), "capacity": (1, 10**9), "dead_letters": (0, 10**9), "timeout": (0.001, 10**9),
    "warn_after": (0.001, 10**9),
    "expiry": (0.001, 10**9), "attempts": (1, 10**6), "delay": (0, 10**9), "backoff": (1, 10**6),
    "max_delay": (0, 10**9), "jitter": (0, 1), "group_expiry": (0.001, 10**9), "random_prefix_length": (0, 1_000),
}  # fmt: skip


def with_number(name: str, value: object) -> str:
    setting = f"{name}: {value}"
    options = (
        f"{{url: 'redis://h', options: {{{setting}}}}}" if name in {"group_expiry", "random_prefix_length"} else ""
    )
    if name in {"attempts", "delay", "backoff", "max_delay", "jitter"}:
        setting = f"retry: {{{setting}}}"
    text = f"version: 1\nlayer: {options or 'memory://'}\n"
    return (
        text
        + (f"defaults:\n  {setting}\n" if not options else "")
        + "channels: {a: {consumer: b.C, events: {c: true}}}\n"
    )


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_of_a_contract_has_bounds_within_which_every_layer_works(name: str, project: Path) -> None:
    low, high = NUMBERS[name]
    for good in (low, high, float(high)):
        (project / "channels.yaml").write_text(with_number(name, good))
        load()
    too_much = (high + 1, 10**26, 2**63, 10**4000, "1e308", "0x" + "f" * 30)
    value: object
    for value in (low - 1, *too_much, "true", ".nan", "-.inf", "1e400", "0x" + "f" * 5_000, "0o" + "7" * 9_000, "'5'"):
        (project / "channels.yaml").write_text(with_number(name, value))
        with pytest.raises(ContractError) as caught:
            load()
        (finding,) = caught.value.diagnostics
        assert finding.code in {"wrong-shape", "unsupported-number"}
        assert finding.location.line == (2 if name in {"group_expiry", "random_prefix_length"} else 4)
        if value in too_much:
            assert f"'{name}' expected a number of at most {high:,}, got " in finding.message


@pytest.mark.parametrize("url", ["ftp://x", "redis//h", "redis:h", "channels.db", "http://h", "redis+foo://h", "''"])
@pytest.mark.parametrize("form", ["{}", "{{url: {}}}"])
def test_an_unknown_kind_of_layer_is_reported_when_the_contract_is_loaded(url: str, form: str, project: Path) -> None:
    (project / "channels.yaml").write_text(
        f"version: 1\nlayer: {form.format(url)}\nchannels: {{a: {{consumer: b.C, events: {{c: true}}}}}}\n"
    )
    with pytest.raises(ContractError) as caught:
        load()
    assert [(finding.location.line, finding.code) for finding in caught.value.diagnostics] == [(2, "wrong-shape")]
    assert "expected a URL such as sqlite:///channels.db, redis://localhost:6379/0 or memory://" in str(caught.value)


D7 = "http://json-schema.org/draft-07/schema"


def accepted(event: dict[str, Any]) -> bool:
    return load().channels["a"].judge({"type": "made", **event}) is None


def write_schemas(**schemas: Any) -> None:
    """Write a contract whose only event type has the schema `made`, and the schema files."""
    Path("channels.yaml").write_text("version: 1\nchannels: {a: {consumer: b.C, events: {made: made.json}}}\n")
    for name, schema in schemas.items():
        Path(f"{name}.json").write_text(json.dumps(schema))


@pytest.mark.parametrize("reference", [D7, f"{D7}#", f"{D7}#/definitions/schemaArray"])
@pytest.mark.parametrize("dialect", [{"$schema": f"{D7}#"}, {}])
@pytest.mark.parametrize("through", ["made.json", "b.json"])
def test_a_schema_may_refer_to_the_draft_07_metaschema_also_through_another_file(
    reference: str, dialect: dict[str, str], through: str, directory: Path
) -> None:
    wanted = {**dialect, "properties": {"rule": {"$ref": reference}}}
    write_schemas(made=wanted if through == "made.json" else {**dialect, "$ref": through}, b=wanted)
    good: Any = [{"type": "string"}] if "schemaArray" in reference else {"type": "string"}
    assert accepted({"rule": good})
    bad: Any = [{"type": "text"}] if "schemaArray" in reference else {"type": "text"}
    assert not accepted({"rule": bad})


def test_a_schema_may_refer_to_itself_and_to_bundled_schemas_by_id(directory: Path) -> None:
    write_schemas(
        made={
            "$id": "https://example.com/schemas/made.json",
            "properties": {
                "id": {"$ref": "https://example.com/schemas/made.json#/$defs/id"},
                "name": {"$ref": "https://example.com/schemas/made.json#name"},
                "again": {"$ref": "https://example.com/schemas/made.json"},
                "address": {"$ref": "https://example.com/schemas/address"},
                "country": {"$ref": "https://example.org/country"},
                "near": {"$ref": "near.json"},
            },
            "$defs": {
                "id": {"type": "integer"},
                "name": {"$anchor": "name", "type": "string"},
                "address": {"$id": "address", "properties": {"id": {"$ref": "made.json#/$defs/id"}}},
                "country": {"$id": "https://example.org/country", "enum": ["at"]},
            },
        },
        near={"type": "boolean"},
    )
    good = {"id": 1, "name": "a", "address": {"id": 1}, "country": "at", "near": True}
    assert accepted({**good, "again": good})
    bad = {"id": "x", "name": 1, "address": {"id": "x"}, "country": "de", "near": 1}
    for name, value in bad.items():
        assert not accepted({name: value}), name
        assert not accepted({"again": {name: value}}), name


def test_a_draft_07_schema_may_refer_to_bundled_schemas_by_id(directory: Path) -> None:
    write_schemas(
        made={
            "$schema": f"{D7}#",
            "$id": "urn:example:made",
            "properties": {"a": {"$ref": "urn:example:made#/definitions/b"}, "c": {"$ref": "urn:example:c"}},
            "definitions": {"b": {"type": "integer"}, "c": {"$id": "urn:example:c", "type": "string"}},
        }
    )
    assert accepted({"a": 1, "c": "x"})
    assert not accepted({"a": "x"})
    assert not accepted({"c": 1})


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ("https://example.com/schemas/customer", "remote-ref"),
        ("https://example.com/schemas/customer#/$defs/id", "remote-ref"),
        ("/schemas/customer", "schema-unresolvable-ref"),
        ("customer", "schema-unresolvable-ref"),
    ],
)
def test_the_finding_about_a_reference_by_the_id_of_another_file_names_its_path(
    reference: str, code: str, directory: Path
) -> None:
    write_schemas(
        made={"$id": "https://example.com/schemas/made", "properties": {"c": {"$ref": reference}}},
        **{"the customer": {"$id": "https://example.com/schemas/customer#", "$defs": {"id": {}}}},
    )
    Path("broken.json").write_text("{")
    fragment = reference.partition("#")[1] + reference.partition("#")[2]
    hint = f"'the customer.json' has this '$id'; refer to its path: 'the%20customer.json{fragment}'"
    (finding,) = findings()
    assert finding.startswith(f"made.json:1:74: error[{code}] ")
    assert finding.endswith(f"; {hint}")
    write_schemas(made={"properties": {"c": {"$ref": f"the%20customer.json{fragment}"}}})
    assert accepted({"c": 1})


def test_that_path_is_relative_to_the_file_with_the_reference(directory: Path) -> None:
    write_schemas(made={"$ref": "orders/order.json"})
    Path("orders").mkdir()
    Path("orders/order.json").write_text('{"$ref": "urn:customer"}')
    Path("customer.json").write_text('{"$id": "urn:customer"}')
    (finding,) = findings()
    assert finding.endswith("; 'customer.json' has this '$id'; refer to its path: '../customer.json'")


def test_the_garbage_collector_is_paused_while_a_contract_loads_and_runs_again_afterwards(directory: Path) -> None:
    running: list[bool] = []
    write(directory, made_json="{}")
    contract(directory, CHANNEL % "made.json", fetch=lambda _: running.append(gc.isenabled()))
    assert (running, gc.isenabled()) == ([False], True)


def test_the_garbage_collector_runs_again_after_a_contract_that_cannot_be_loaded(directory: Path) -> None:
    with pytest.raises(ContractError):
        contract(directory, "{}")
    assert gc.isenabled()


def test_a_garbage_collector_that_was_disabled_before_a_contract_loads_stays_disabled(directory: Path) -> None:
    gc.disable()
    try:
        contract(directory)
        assert not gc.isenabled()
    finally:
        gc.enable()


def release(directory: Path, name: str, **files: str) -> Contract:
    """Load a contract of three event types from its own directory; `files` replace the usual content."""
    where = directory / name
    where.mkdir()
    size = {"type": "object", "properties": {"size": {"$ref": "size.json"}}}
    usual = {
        "channels": "version: 1\nlayer: 'memory://'\nchannels: {jobs: {consumer: a.B, events: "
        "{resize: sized.json, report: alone.json, inline: {schema: {required: [id]}}}}}\n",
        "sized": json.dumps(size),
        "alone": json.dumps({"type": "object", "required": ["id"]}),
        "size": json.dumps({"type": "integer"}),
    } | files
    (where / "channels.yaml").write_text(usual.pop("channels"))
    for file, text in usual.items():
        (where / f"{file}.json").write_text(text)
    return load(where / "channels.yaml")


def shared(one: Contract, other: Contract) -> set[str]:
    """Return the event types whose compiled schema is shared by both contracts."""
    before, after = one.channel("jobs").events, other.channel("jobs").events
    return {name for name in before if before[name].validator is after[name].validator}


def test_another_release_compiles_only_the_schemas_that_differ(directory: Path) -> None:
    first = release(directory, "first")
    assert shared(first, release(directory, "same")) == {"resize", "report"}
    other = release(directory, "other", alone=json.dumps({"type": "object", "required": ["name"]}))
    assert shared(first, other) == {"resize"}
    assert other.channel("jobs").judge({"type": "report", "id": 1}) is not None


def test_a_schema_is_compiled_again_if_a_file_that_it_refers_to_differs(directory: Path) -> None:
    first = release(directory, "first")
    other = release(directory, "other", size=json.dumps({"type": "string"}))
    assert shared(first, other) == {"report"}
    assert first.channel("jobs").judge({"type": "resize", "size": "L"}) is not None
    assert other.channel("jobs").judge({"type": "resize", "size": "L"}) is None
    assert shared(first, release(directory, "third")) == {"resize", "report"}


def test_files_that_a_cached_schema_refers_to_are_read_again_for_another_release(directory: Path) -> None:
    first = release(directory, "first")
    with pytest.raises(ContractError, match="schema-syntax"):
        release(directory, "other", size="{")
    assert first.channel("jobs").judge({"type": "resize", "size": 1}) is None


def test_compiled_schemas_are_freed_with_the_contracts_that_use_them(directory: Path) -> None:
    kept = weakref.ref(release(directory, "first").channel("jobs").events["report"].validator)
    gc.collect()
    assert kept() is None
