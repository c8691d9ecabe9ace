"""Any content of the files gives a contract or diagnostics: never a traceback, a hang, or a crash of the process."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from channelmap.check.rules import check
from channelmap.codes import Code
from channelmap.errors import ContractError
from channelmap.loader import load

CONTRACT = """\
version: 1
layer: ${CHANNELMAP_LAYER:-sqlite:///channels.db}
defaults: {concurrency: 2, delivery: at-least-once, retry: {attempts: 3}}
check:
  warn: [file-unused]
  ignore: [{code: breaks-senders, reason: why, until: "2027-03-31"}]
channels:
  thumbnails-generate:
    description: "Pre-cache 'thumbnails' of an \\u00e9 image."
    consumer: consumers.Generate
    capacity: 100
    events:
      generate: schemas/generate.json
      image.deleted:
        schema:
          $ref: schemas/generate.json#/$defs/id
          properties: {id: {type: integer, minimum: 3, pattern: "^a+$"}, tags: {items: {enum: [a, 1, null]}}}
          additionalProperties: false
        accepts: [{type: image.deleted, id: 7}]
        rejects: examples.yaml
      other: true
"""
SCHEMA = """\
{"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs":
 {"id": {"type": ["object", "null"], "format": "date"}}, "type": "object", "required": ["id"],
 "properties": {"id": {"type": "integer", "exclusiveMinimum": 0, "multipleOf": 2},
 "next": {"$ref": "#"}, "when": {"type": "string", "format": "date-time", "maxLength": 40, "default": 3}},
 "allOf": [{"if": {"properties": {"id": {"const": 1}}}, "then": {"not": {"required": ["x"]}}}],
 "unevaluatedProperties": {"oneOf": [{"type": "string"}, {"minItems": 2, "prefixItems": [true, false]}]}}
"""
EXAMPLES = "- {type: image.deleted, id: seven}\n- 3\n"
FILES = {"channels.yaml": CONTRACT, "schemas/generate.json": SCHEMA, "examples.yaml": EXAMPLES}
#: Words that cause faults: from YAML, JSON, JSON Schema and channels.yaml.
WORDS = [
    *"[]{}:,-#&*!|>'\"%@`\t\n \\\x00\x85\ufeff\u2028",
    *("- ", ": ", "? ", "<<: ", "&a ", "*a", "!!int ", "---\n", "%YAML 1.1\n", "null", "true", "on", "012", "1e999"),
    *("-.inf", "1:30", "2024-01-01", "9" * 5_000, '"\\ud800"', "${A}", "${", "é", "\U0001f600", "{}", "[]", '""', "["),
    *("(a+)+$", "0x1F", "type", "$ref", "$id", "$anchor", "$dynamicRef", "#", "#/", "../", "http://a.invalid/", "file:///etc/hostname"),
    *("schemas/generate.json", "properties", "additionalProperties", "items", "not", "const", "enum", "required"),
    *("\\p{L}", "dependentSchemas", "contains", "(?<=a)", "version", "channels", "consumer", "events", "generate"),
    *("__class__", "accepts", "check", "dispatch"),
]  # fmt: skip


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("fuzz")
    (directory / "schemas").mkdir()
    for name, text in FILES.items():
        (directory / name).write_text(text, encoding="utf-8")
    return directory


def require_diagnostics_with(directory: Path, name: str, content: bytes) -> None:
    """Check the valid files with other content in one of them."""
    (directory / name).write_bytes(content)
    try:
        require_diagnostics(directory)
    finally:
        (directory / name).write_text(FILES[name], encoding="utf-8")


def require_diagnostics(directory: Path) -> None:
    try:
        found = check(load(directory / "channels.yaml", env={}), imports=False)
    except ContractError as error:
        found = error.diagnostics
        assert found
    for finding in found:
        assert finding.code in [*Code]
        assert finding.message
        assert finding.location.line >= 0
        assert str(finding)


def test_the_original_files_are_valid(directory: Path) -> None:
    assert load(directory / "channels.yaml", env={}).channels


fuzz = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@settings(fuzz, max_examples=1_500)
@given(st.sampled_from(list(FILES)), st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode()))
def test_any_bytes_give_a_contract_or_diagnostics(directory: Path, name: str, content: bytes) -> None:
    require_diagnostics_with(directory, name, content)


def mutated(text: str, chance: Random) -> str:
    """Return a valid file after some random edits: deletions, insertions, replacements, duplications, moves."""
    for _ in range(chance.choice([1, 1, 2, 3])):
        begin = chance.randint(0, len(text))
        end = min(len(text), begin + chance.randint(0, 30))
        before, part, after = text[:begin], text[begin:end], text[end:]
        rest = before + after
        target = chance.randint(0, len(rest))
        text = chance.choice([
            rest,
            before + chance.choice(WORDS) + part + after,
            before + chance.choice(WORDS) + after,
            before + part + part + after,
            rest[:target] + part + rest[target:],
        ])  # fmt: skip
    return text


@pytest.mark.parametrize("name", FILES)
@settings(fuzz, max_examples=2_834)
@given(seed=st.integers(0, 2**64))
def test_any_mutation_of_a_valid_file_gives_a_contract_or_diagnostics(directory: Path, name: str, seed: int) -> None:
    require_diagnostics_with(directory, name, mutated(FILES[name], Random(seed)).encode("utf-8", "surrogatepass"))
