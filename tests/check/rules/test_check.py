"""Which channels and schemas a check covers, and the subject of each diagnostic."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from channelmap.check.rules import check, examples
from channelmap.contract import Contract
from channelmap.errors import UnknownChannel
from channelmap.loader import load
from channelmap.preflight import preflight

ConsumerModule = Callable[[str], ModuleType]


@pytest.fixture
def contract(project: Path) -> Callable[[str], Contract]:
    """Load a contract with these channels."""

    def make(channels: str) -> Contract:
        (project / "channels.yaml").write_text(f"version: 1\nchannels:\n{channels}")
        return load()

    return make


Make = Callable[[str], Contract]

FAULTS = """
  images:
    consumer: no_such_module.Consumer
    events:
      made:
        schema: {properties: {id: {type: integer, minLength: 1}}}
        accepts: [{type: made, id: one}]
      gone: {schema: {type: string}}
  sounds: {consumer: no_such_module.Consumer, events: {made: {schema: {requierd: []}}}}
"""


def test_every_diagnostic_names_its_channel_and_its_event_type(contract: Make) -> None:
    found = check(contract(FAULTS))
    assert {(diagnostic.code, diagnostic.channel, diagnostic.event_type) for diagnostic in found} == {
        ("consumer-module-missing", "images", ""),
        ("consumer-module-missing", "sounds", ""),
        ("accepts-refused", "images", "made"),
        ("keyword-without-effect", "images", "made"),
        ("schema-accepts-nothing", "images", "gone"),
        ("keyword-unknown", "sounds", "made"),
    }


def test_only_the_named_channels_are_checked(contract: Make) -> None:
    found = check(contract(FAULTS), ["sounds"])
    assert {diagnostic.code for diagnostic in found} == {"consumer-module-missing", "keyword-unknown"}
    with pytest.raises(UnknownChannel):
        check(contract(FAULTS), ["sound"])


def test_rules_over_several_channels_apply_when_all_channels_are_checked(contract: Make) -> None:
    alike = contract("  a-b: {consumer: a.B, events: {made: true}}\n  a_b: {consumer: a.B, events: {made: true}}\n")
    assert "names-alike" in {diagnostic.code for diagnostic in check(alike)}
    assert "names-alike" not in {diagnostic.code for diagnostic in check(alike, ["a-b", "a_b"])}


def test_no_user_code_is_imported_without_imports(project: Path, contract: Make) -> None:
    (project / "untouched.py").write_text("raise SystemExit\n")
    (project / "channels.yaml").write_text("")
    quiet = contract("  images: {consumer: untouched.Consumer, events: {made: true}}\n")
    assert check(quiet, imports=False) == ()
    assert [diagnostic.code for diagnostic in check(quiet)] == ["consumer-import-failed"]


def test_the_preflight_finds_only_faults_that_make_a_worker_fail(
    contract: Make, consumer_module: ConsumerModule
) -> None:
    module = consumer_module("""
        class Consumer(AsyncConsumer):
            async def made(self, event): ...
    """)
    reaching_nothing = f"  videos: {{consumer: {module.__name__}.Consumer, events: {{gone: true}}}}\n"
    found = preflight(contract(FAULTS + reaching_nothing))
    codes = {"consumer-module-missing", "accepts-refused", "handler-missing"}
    assert {diagnostic.code for diagnostic in found} == codes


def test_a_valid_example_of_another_type_does_not_hide_an_empty_schema(contract: Make) -> None:
    mixed = contract("""
  images:
    consumer: a.B
    events: {made: {schema: {properties: {type: {const: gone}}}, accepts: [{type: gone}]}, gone: true}
""")
    found = check(mixed, imports=False)
    assert [diagnostic.code for diagnostic in found] == ["schema-accepts-nothing", "accepts-refused"]


def test_the_preflight_does_not_ask_a_second_engine(contract: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = contract("""
  images:
    consumer: nowhere.Consumer
    events: {made: {schema: {properties: {share: {multipleOf: 0.1}}}, accepts: [{type: made, share: 0.3}]}}
""")
    assert [diagnostic.code for diagnostic in check(shares, imports=False)] == ["engines-disagree"]
    monkeypatch.setattr(examples, "second_opinion", None)
    assert [diagnostic.code for diagnostic in preflight(shares)] == ["consumer-module-missing"]


def test_a_schema_that_many_event_types_share_is_reported_once(project: Path, contract: Make) -> None:
    schemas = project / "schemas"
    schemas.mkdir()
    (schemas / "made.json").write_text('{"requierd": [], "$ref": "deep.json"}')
    (schemas / "more.json").write_text('{"$ref": "deep.json#/$defs/x"}')
    (schemas / "deep.json").write_text(
        '{"$defs": {"x": {"titel": "x"}}, "properties": {"made": {"$ref": "made.json"}}}'
    )
    found = check(
        contract("""
  images: {consumer: a.B, events: {made: schemas/made.json, again: schemas/made.json, more: schemas/more.json}}
  sounds: {consumer: a.B, events: {made: schemas/made.json}}
"""),
        imports=False,
    )
    assert [(str(diagnostic.location), diagnostic.channel, diagnostic.event_type) for diagnostic in found] == [
        ("schemas/deep.json:1:18", "images", "made"),
        ("schemas/made.json:1:2", "images", "made"),
    ]


def test_a_handler_that_an_unchecked_channel_reaches_is_not_reported(
    contract: Make, consumer_module: ConsumerModule
) -> None:
    module = consumer_module("""
        class Consumer(AsyncConsumer):
            async def made(self, event): ...
            async def gone(self, event): ...
    """)
    both = contract(f"""
  images: {{consumer: {module.__name__}.Consumer, events: {{made: true}}}}
  sounds: {{consumer: {module.__name__}.Consumer, events: {{gone: true}}}}
""")
    assert check(both) == check(both, ["images"]) == ()
    alone = contract(f"  images: {{consumer: {module.__name__}.Consumer, events: {{made: true}}}}\n")
    assert [diagnostic.code for diagnostic in check(alone)] == ["handler-unreached"]
    del sys.modules[module.__name__]


def test_a_file_that_another_contract_names_is_not_unused(project: Path, consumer_module: ConsumerModule) -> None:
    module = consumer_module("""
        class Consumer(AsyncConsumer):
            async def made(self, event): ...
            async def gone(self, event): ...
    """)
    (project / "schemas").mkdir()
    for name in ("made", "gone"):
        (project / "schemas" / f"{name}.json").write_text("{}")
        (project / f"{name}.yaml").write_text(
            f"version: 1\nchannels:\n  images: {{consumer: {module.__name__}.Consumer, "
            f"events: {{{name}: schemas/{name}.json}}}}\n"
        )
    contracts = made, gone = load("made.yaml"), load("gone.yaml")
    for contract in contracts:
        assert {diagnostic.code for diagnostic in check(contract)} == {"handler-unreached", "file-unused"}
    assert check(made, beside=[gone]) == check(gone, beside=contracts) == ()


def test_a_method_that_a_class_of_a_library_also_defines_is_not_reported(
    contract: Make, consumer_module: ConsumerModule
) -> None:
    library = consumer_module("""
        class Hooked(AsyncConsumer):
            async def prepare(self, event): ...
            async def finish(self, event): ...
    """)
    module = consumer_module(f"""
        from {library.__name__} import Hooked

        class Consumer(Hooked):
            async def made(self, event): ...
            async def prepare(self, event): ...
    """)
    assert check(contract(f"  images: {{consumer: {module.__name__}.Consumer, events: {{made: true}}}}\n")) == ()
    found = check(contract(f"  images: {{consumer: {library.__name__}.Hooked, events: {{prepare: true}}}}\n"))
    assert [diagnostic.code for diagnostic in found] == ["handler-unreached"]


UNUSABLE = [
    "redis://h:0", "redis://h:99999", "redis://h:port", "redis://h/db", "redis://h/-1", "redis://h,i:1", "redis://h#0",
    "redis://h?passwort=1", "redis://h?socket_timeout=soon", "unix://", "unix://host/x", "redis+sentinel://h:1",
    "redis+sentinel://h:0/s", "redis+cluster://", "redis+cluster://h/3", "redis+cluster://h?slots=1",
    "sqlite://host/x.db", "sqlite://x.db", "sqlite:///", "sqlite:////srv/", "sqlite:///:memory:",
    "sqlite:///x.db?mode=ro", "sqlite:///x.db#1", "memory://x", "memory://?a=1",
]  # fmt: skip
USABLE = [
    "memory://", "sqlite:///x.db", "sqlite:////srv/no/such/directory/x.db", "redis://", "redis://:p@h:1/0",
    "redis://[::1]:6379/0", "rediss://h?ssl_cert_reqs=none", "unix:///run/redis.sock?db=1",
    "redis+sentinel://h,i:1/service/0", "redis+cluster://h:1,i:2/0", "redis://h?max_connections=5&timeout=1",
]  # fmt: skip


@pytest.mark.parametrize("url", [*UNUSABLE, *USABLE])
def test_an_unusable_layer_is_found_without_opening_it(url: str, contract_file: Callable[..., Path]) -> None:
    contract = load(contract_file(layer=f"'{url}'"))
    found = [finding for finding in check(contract, imports=False) if finding.code == "layer-unusable"]
    assert [str(finding.location) for finding in found] == (["channels.yaml:2:8"] if url in UNUSABLE else [])
    assert sorted(path.name for path in contract.root.iterdir()) == ["channels.yaml", "job.json"]


def test_a_missing_backend_is_found_if_imports_are_allowed(contract_file: Callable[..., Path]) -> None:
    contract = load(contract_file(layer="{backend: channels.layers.Nothing, config: {}}"))
    found = [finding for finding in check(contract) if finding.code == "layer-unusable"]
    assert [finding.message for finding in found] == ["the layer cannot be used: 'channels.layers' has no 'Nothing'"]
    assert not [finding for finding in check(contract, imports=False) if finding.code == "layer-unusable"]
