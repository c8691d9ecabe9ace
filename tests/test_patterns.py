"""The explanation of a regular expression that the engine rejects."""

import json
from pathlib import Path
from typing import Any

import pytest

from channelmap.errors import ContractError
from channelmap.loader import load
from channelmap.validation import SchemaUnusable, Validator
from channelmap.validation.patterns import pattern_fault

FAULTS = {
    r"(?<n>a)\k<n>": r"the engine has no reference by name: write a number, such as \1, instead of \k<n>",
    "a[^]": r"write [\s\S] instead of [^]",
    "[]": "write (?!) instead of [], which matches nothing",
    r"^[\b]": r"write \x08 instead of \b in brackets",
    r"\0": r"write \x00 instead of \0",
    r"^[\w-.]+$": r"in '[\w-.]' a '-' stands beside a set of characters: put it first or last in the brackets",
    r"[.-\d]": r"in '[.-\d]' a '-' stands beside a set of characters: put it first or last in the brackets",
    r"\p{L}\p{Foo}": "there is no Unicode property 'Foo'",
    r"\Aa": r"write ^ instead of \A",
    r"a\Z": r"write $ instead of \Z",
    "(?P<n>a)": "write (?<name>…) instead of (?P<name>…)",
    "(?i)a": "'(?i)' is not part of ECMA-262, which has no flags within a pattern",
    r"\e": r"'\e' is not an escape of ECMA-262",
    r"[\e]": r"'\e' is not an escape of ECMA-262",
    "[[:alpha:]]": "'[[:alpha:]' is not part of ECMA-262: write the characters, such as [a-z]",
    "(a": "missing ), unterminated subpattern (character 1)",
    "a**": "multiple repeat (character 3)",
    "[z-a]": "bad character range z-a",
    "a{,5}": r"write \{ instead of {",
    "a]": r"write \] instead of ]",
    "(?<1a>b)": "it is not a regular expression of ECMA-262",
    r"(a)\8": "invalid group reference 8 (character 5)",
}


@pytest.mark.parametrize("pattern", FAULTS)
@pytest.mark.parametrize("keyword", ["pattern", "patternProperties"])
@pytest.mark.parametrize("path", ["a.json", "b.json"])
def test_an_invalid_pattern_is_reported_at_its_location_with_the_reason(
    pattern: str, keyword: str, path: str, project: Path
) -> None:
    schema = {"properties": {"a": {keyword: pattern if keyword == "pattern" else {"^a": True, pattern: True}}}}
    (project / "a.json").write_text('{"$ref": "b.json"}')
    (project / path).write_text(json.dumps(schema, indent=1))
    (project / "channels.yaml").write_text("version: 1\nchannels: {a: {consumer: b.C, events: {one: a.json}}}\n")
    with pytest.raises(ContractError) as caught:
        load()
    (finding,) = caught.value.diagnostics
    line, column = (4, 15) if keyword == "pattern" else (6, 5)
    assert str(finding) == (
        f"{path}:{line}:{column}: error[schema-invalid] the pattern '{pattern}' cannot be used: {FAULTS[pattern]}"
    )


@pytest.mark.parametrize(
    "pattern",
    [r"^\d{3}-[a-z]+$", r"(?<=a)b(?!c)", r"(a)\1", r"\cA", r"\u{41}", r"\p{L}", "[a-]", r"[-\w]", r"\-", "(?<n>a)"],
)
def test_a_pattern_that_the_engine_accepts_has_no_fault(pattern: str) -> None:
    assert pattern_fault(pattern) == ""


@pytest.mark.parametrize("keyword", [{"minLength": "a"}, {"type": "text"}])
def test_an_invalid_pattern_does_not_hide_other_faults_of_the_schema(keyword: dict[str, Any], project: Path) -> None:
    (project / "a.json").write_text(json.dumps({"properties": {"a": {"pattern": "(", **keyword}}}))
    (project / "channels.yaml").write_text("version: 1\nchannels: {a: {consumer: b.C, events: {one: a.json}}}\n")
    with pytest.raises(ContractError) as caught:
        load()
    assert [finding.message.split("'")[1] for finding in caught.value.diagnostics] == ["(", *keyword]


def test_every_pattern_with_a_fault_is_rejected_by_the_engine_or_by_its_regex_format() -> None:
    for pattern in FAULTS:
        try:
            taken = Validator({"pattern": pattern}) is not None
        except SchemaUnusable:
            taken = False
        assert not (taken and Validator({"format": "regex"}).fits(pattern)), pattern
