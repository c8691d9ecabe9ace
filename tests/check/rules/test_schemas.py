"""Rules on schemas: each mistake is reported once, and the output of generators and editors is not reported."""

from collections.abc import Callable
from pathlib import Path

import pytest

from channelmap.check.rules import check
from channelmap.diagnostics import Diagnostic
from channelmap.loader import load

Find = Callable[[str], list[Diagnostic]]


@pytest.fixture
def find(project: Path) -> Find:
    """Return the findings about an event type `made` with this schema."""

    def make(schema: str) -> list[Diagnostic]:
        text = f"version: 1\nchannels:\n  images: {{consumer: a.B, events: {{made: {{schema: {schema}}}}}}}\n"
        (project / "channels.yaml").write_text(text)
        return list(check(load(), imports=False))

    return make


def messages(found: list[Diagnostic]) -> list[str]:
    return [f"{diagnostic.code}: {diagnostic.message}" for diagnostic in found]


def test_an_unknown_keyword_is_reported_once_at_its_first_location(find: Find) -> None:
    found = find("{properties: {a: {unit: px}, b: {unit: px}, c: {unti: px}}}")
    assert [(diagnostic.code, diagnostic.location.column) for diagnostic in found] == [
        ("keyword-unknown", 69),
        ("keyword-unknown", 99),
    ]


@pytest.mark.parametrize(
    "schema",
    [
        "{oneOf: [{properties: {kind: {const: 1}}}], discriminator: {propertyName: kind}}",
        "{properties: {a: {enum: [1], enumDescriptions: [one], markdownDescription: '*one*'}}}",
        "{$defs: {images: {big: {type: object}}}, properties: {a: {$ref: '#/$defs/images/big'}}}",
    ],
)
def test_annotations_of_tools_and_containers_of_definitions_are_not_unknown_keywords(find: Find, schema: str) -> None:
    assert messages(find(schema)) == []


@pytest.mark.parametrize(
    "schema",
    [
        "{if: {properties: {a: true}}, unevaluatedProperties: false}",
        "{components: {a: {type: object}}, properties: {a: {$ref: '#/components/a'}}}",
    ],
)
def test_a_keyword_with_an_effect_on_another_part_is_not_reported(find: Find, schema: str) -> None:
    assert messages(find(schema)) == []
    for other in ("unevaluatedProperties: false", "$ref: '#/components/a'"):
        schema = schema.replace(other, "title: none")
    assert len(find(schema)) == 1


def test_a_definition_whose_only_keyword_is_misspelt_is_reported(find: Find) -> None:
    (found,) = find("{$defs: {size: {minimun: 3}}, properties: {a: {$ref: '#/$defs/size'}}}")
    assert found.code == "keyword-unknown"


def test_a_default_of_null_is_not_reported(find: Find) -> None:
    assert messages(find("{properties: {a: {type: string, default: null}}}")) == []
    (found,) = find("{properties: {a: {type: string, default: 0}}}")
    assert found.code == "schema-example-refused"


CLOSED_REASON = "what it refers to is closed, and has no property 'type'"
CLOSED = "{properties: {id: true}, additionalProperties: false}"


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (
            f"{{oneOf: [{{$ref: '#/$defs/closed'}}, {{$ref: '#/$defs/closed'}}], $defs: {{closed: {CLOSED}}}}}",
            f"no alternative of 'oneOf' accepts one; in the first, {CLOSED_REASON}",
        ),
        (
            "{anyOf: [{type: array}, {type: string}]}",
            "no alternative of 'anyOf' accepts one; in the first, an event is an object",
        ),
        (
            "{patternProperties: {'^.+$': {type: object}}, additionalProperties: false}",
            "'patternProperties' takes in 'type', which expected object, got string",
        ),
        (
            "{oneOf: [{required: [id]}, {required: [id]}], required: [id]}",
            "what matches one alternative of 'oneOf' matches another one too",
        ),
    ],
)
def test_the_reason_why_a_schema_accepts_nothing_is_correct(find: Find, schema: str, reason: str) -> None:
    assert messages(find(schema)) == [
        f"schema-accepts-nothing: the schema refuses every event of type 'made': {reason}"
    ]


def test_alternatives_excluded_by_other_keywords_are_not_called_overlapping(find: Find) -> None:
    inner = "{type: object, additionalProperties: false, oneOf: [{required: [a]}, {required: [b]}]}"
    (found,) = find(f"{{properties: {{image: {inner}}}}}")
    assert messages([found]) == ["schema-dead-part: 'image' can have no valid value: its keywords exclude each other"]


def test_a_format_of_the_newer_dialect_gets_a_hint_to_that_dialect(find: Find) -> None:
    (found,) = find("{$schema: 'http://json-schema.org/draft-07/schema#', properties: {a: {format: uuid}}}")
    assert found.hint == "'$schema: https://json-schema.org/draft/2020-12/schema' has it"


@pytest.mark.parametrize(("beside", "codes"), [("README.md", ["file-unused"]), ("views.py", [])])
def test_unused_files_are_reported_only_in_directories_of_schemas(project: Path, beside: str, codes: list[str]) -> None:
    (project / "app" / "fixtures").mkdir(parents=True)
    for name in (beside, "made.json", "fixtures/data.json"):
        (project / "app" / name).write_text("{}")
    (project / "channels.yaml").write_text(
        "version: 1\nchannels:\n  images: {consumer: a.B, events: {made: app/made.json}}\n"
    )
    assert [diagnostic.code for diagnostic in check(load(), imports=False)] == codes


@pytest.mark.parametrize(
    ("schema", "location", "keyword"),
    [
        ('{"properties": {"a": {}}, "propertyNames": {"enum": ["a"]}}', "1:44", "propertyNames"),
        ('{"required": ["type"], "propertyNames": {"pattern": "^x"}}', "1:41", "propertyNames"),
        ('{"maxProperties": 1, "required": ["a"]}', "1:19", "maxProperties"),
        ('{"dependentSchemas": {"type": false}}', "1:22", "dependentSchemas"),
        ('{"dependentRequired": {"type": ["b"]}, "properties": {"b": false}}', "1:23", "dependentRequired"),
        ('{"$ref": "#/$defs/c", "$defs": {"c": {"if": {}, "then": {"maxProperties": 0}}}}', "1:1", "if"),
        ('{"not": {"required": ["type"]}}', "1:9", "not"),
    ],
)
def test_a_schema_that_excludes_the_type_is_reported_where_type_must_be_declared(
    project: Path, schema: str, location: str, keyword: str
) -> None:
    (project / "job.json").write_text(schema)
    (project / "channels.yaml").write_text(
        "version: 1\nlayer: memory://\nchannels: {jobs: {consumer: a.B, events: {job: job.json}}}\n"
    )

    (found,) = [each for each in check(load(), imports=False) if each.code == "schema-accepts-nothing"]

    assert str(found) == (
        f"job.json:{location}: error[schema-accepts-nothing] the schema refuses every event of type 'job': "
        f"'{keyword}' leaves no room for 'type'; each event carries its type: declare 'type' there"
    )
