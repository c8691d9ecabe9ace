"""Reading YAML 1.2 and JSON into data with locations; anything that YAML or JSON does not allow is an error."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from channelmap.codes import Code
from channelmap.diagnostics import Diagnostic, Location
from channelmap.errors import ContractError
from channelmap.source import Document, read_document, read_json, read_yaml
from channelmap.source.yaml_text import read_with

GIVE_A_DEFAULT = "set it, or give a default: ${A:-default}"
WRITE_A_NAME = "write ${NAME} or ${NAME:-default}, or $${ for a literal ${"

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('ab"\\é\n💡'), inner, max_size=4),
    max_leaves=20,
)


def findings(read: Any, *arguments: Any) -> list[str]:
    with pytest.raises(ContractError) as caught:
        read(*arguments)
    return [str(diagnostic) for diagnostic in caught.value.diagnostics]


Reader = Callable[..., Document]


@pytest.fixture(params=["CSafeLoader", "SafeLoader"])
def reader(request: pytest.FixtureRequest) -> Reader:
    """Return the YAML reader with one of PyYAML's two scanners."""
    return partial(read_with, getattr(yaml, request.param))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None), ("~", None), ("''", ""), ("true", True), ("False", False), ("on", "on"), ("no", "no"),
        ("12", 12), ("012", 12), ("0o17", 15), ("0xFF", 255), ("-1", -1), ("1e3", 1000.0), (".5", 0.5),
        ("1:30", "1:30"), ("1_000", "1_000"), ("2024-01-02", "2024-01-02"), ("'12'", "12"), ("=", "="),
    ],
)  # fmt: skip
def test_scalars_have_the_values_of_the_core_schema(text: Any, value: Any, reader: Reader) -> None:
    assert repr(reader("f.yaml", f"a: {text}".encode()).data) == repr({"a": value})


def test_keys_are_the_text_that_an_editor_shows(reader: Reader) -> None:
    text = b"on: 1\n1.0: 2\ntrue: 3\nnull: 4\n"
    assert reader("f.yaml", text).data == {"on": 1, "1.0": 2, "true": 3, "null": 4}


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (b"a: 1\n\tb: 2\n", "f:2:1: error[yaml-syntax] a tab where only spaces may stand; use spaces"),
        (b"a:\n\t- b\n", "f:2:1: error[yaml-syntax] a tab where only spaces may stand; use spaces"),
        (b"a: [1, 2\n", "f:1:4: error[yaml-syntax] this list lacks a ',' or its ']'"),
        (b"a: {b: 2\n", "f:1:4: error[yaml-syntax] this mapping lacks a ',' or its '}'"),
        (b"a: 'x\n", "f:1:4: error[yaml-syntax] this quote is never closed"),
        (b"a: 1\nb\n", "f:2:1: error[yaml-syntax] a key without ':'"),
        (b"a:\n  b: 1\n c: 2\n", "f:3:2: error[yaml-syntax] indentation does not match the lines above"),
        (b"a: }\n", "f:1:4: error[yaml-syntax] not YAML from here on"),
        (b"a: 1\n---\nb: 2\n", "f:2:1: error[yaml-syntax] more than one document in one file"),
        (b"a: \x00\n", "f:1:4: error[yaml-syntax] control character U+0000 is not allowed"),
        (b"a: caf\xe9\n", "f:1:7: error[not-utf-8] byte 0xe9 is not UTF-8; save the file as UTF-8"),
        (b"\xff\xfea\x00", "f:1:1: error[not-utf-8] byte 0xff is not UTF-8; save the file as UTF-8"),
        (b"# only a comment\n", "f: error[file-empty] the file is empty"),
        (b"? [a]\n: 1\n", "f:1:3: error[yaml-unsupported] a key must be text"),
        (b"a: 1\nb: 2\na: 3\n", "f:3:1: error[duplicate-key] 'a' is declared twice; first at 1:1"),
        (b"[" * 50_000, "f:1:101: error[too-deep] nested more than 100 levels deep"),
        (b"a: " + b"[" * 2_000, "f:1:103: error[too-deep] nested more than 100 levels deep"),
        (b"- " * 3_000, "f:1:201: error[too-deep] nested more than 100 levels deep"),
        (b"{a: " * 1_001, "f:1:401: error[too-deep] nested more than 100 levels deep"),
        (b"a: 9" + b"9" * 5000, f"f:1:4: error[unsupported-number] '{'9' * 59}…' is not a number that JSON can hold"),
        (b"#" * 2**24 + b"#", "f: error[file-too-large] the file is larger than 16 MiB"),
    ],
)
def test_invalid_yaml_has_the_same_finding_with_both_scanners(text: Any, finding: str, reader: Reader) -> None:
    assert findings(reader, "f", text) == [finding]


@pytest.mark.parametrize("read", [read_yaml, read_json])
def test_a_file_of_several_mebibytes_with_hundreds_of_thousands_of_values_is_read(read: Any) -> None:
    value = ["x" * 3_000_000, *range(250_000)]
    assert read("f", json.dumps(value).encode()).data == value


def test_too_deep_nesting_in_a_long_text_is_reported_without_reading_the_text_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(yaml, "SafeLoader", None)
    (finding,) = findings(read_yaml, "f", b"- 1\n" * 20_000 + b"- " + b"[" * 2_000)
    assert finding.startswith("f:20001:")
    assert finding.endswith(": error[too-deep] nested more than 100 levels deep")


def test_anchors_aliases_merge_keys_and_tags_are_all_reported_at_once(reader: Reader) -> None:
    text = b"a: &a [*a]\n<<: {b: !!int 1}\n*a : 1\n"
    assert [line.partition(" ")[0] + line.partition("]")[2] for line in findings(reader, "f", text)] == [
        "f:1:4: anchor '&a' is not supported; write the value out where it is needed",
        "f:1:8: alias '*a' is not supported; write the value out",
        "f:2:1: merge key '<<' is not supported; write the keys out",
        "f:2:9: tags are not supported; leave it out",
        "f:3:1: alias '*a' is not supported; write the value out",
    ]


def test_the_number_of_findings_is_limited(reader: Reader) -> None:
    assert len(findings(reader, "f", b"- &a []\n" + b"- *a\n" * 10_000)) == 100


def test_variables_are_replaced_in_values_only(reader: Reader) -> None:
    text = b'a: ${A}\n${A}: ${B:-10}\nc: "${B:-10}"\nd: x${A}y$${A}\ne: ${EMPTY:-z}\nf: ${EMPTY}\n'
    assert reader("f", text, {"A": "on", "EMPTY": ""}).data == {
        "a": "on", "${A}": 10, "c": "10", "d": "xony${A}", "e": "z", "f": None,
    }  # fmt: skip


def test_variables_are_not_replaced_without_an_environment() -> None:
    assert read_yaml("f", b"a: ${A}").data == {"a": "${A}"}


def test_unset_and_malformed_variables_are_all_reported_at_once() -> None:
    assert findings(read_yaml, "f", b"a: ${A}\nb: ${a b}\nc: ${\n", {}) == [
        f"f:1:4: error[unset-variable] environment variable 'A' is not set; {GIVE_A_DEFAULT}",
        f"f:2:4: error[variable-malformed] '${{a b}}' names no environment variable; {WRITE_A_NAME}",
        f"f:3:4: error[variable-malformed] '${{' names no environment variable; {WRITE_A_NAME}",
    ]


@pytest.mark.parametrize("read", [read_yaml, read_json])
def test_values_and_keys_are_located_by_pointer_and_columns_count_code_points(read: Any) -> None:
    document = read("f", '\ufeff{"a💡": [1,\r\n  {"b": null}]}'.encode())
    assert document.locate(()) == Location("f", 1, 1)
    assert document.locate(("a💡",), key=True) == Location("f", 1, 2)
    assert document.locate(("a💡", 0)) == Location("f", 1, 9)
    assert document.locate(("a💡", 1, "b"), key=True) == Location("f", 2, 4)
    assert document.locate(("a💡", 1, "b")) == Location("f", 2, 9)


def test_a_pointer_to_a_missing_value_is_located_at_its_nearest_ancestor() -> None:
    document = read_json("f", b'{"a": {"b": 1}}')
    assert document.locate(("a", "c", "d")) == Location("f", 1, 7)
    assert document.locate(("z",), key=True) == Location("f", 1, 1)


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (b"", "f: error[file-empty] the file is empty"),
        (b'{"a": 1,}', "f:1:8: error[json-syntax] not JSON: trailing comma; remove it"),
        (b'{"a":\n1 2}', "f:2:3: error[json-syntax] not JSON: expecting ',' delimiter"),
        (b'{"a": 1', "f:1:8: error[json-syntax] the JSON text ends too early"),
        (b"{} {}", "f:1:4: error[json-syntax] not JSON: extra data"),
        (b'{"a": 1, "a": 2}\n"', "f:2:1: error[json-syntax] not JSON: extra data"),
        (b'{"a": 1, "a": "\t"}', "f:1:16: error[json-syntax] not JSON: invalid control character at"),
        (b'[1e999, "\\x"]', "f:1:10: error[json-syntax] not JSON: invalid \\escape"),
        (b"[NaN, NaN", "f:1:10: error[json-syntax] the JSON text ends too early"),
        (b'{"a": 1, "a": 2}', "f:1:10: error[duplicate-key] 'a' is declared twice; first at 1:2"),
        (b"[NaN]", "f:1:2: error[unsupported-number] 'NaN' is not a number that JSON can hold"),
        (b"[-Infinity]", "f:1:2: error[unsupported-number] '-Infinity' is not a number that JSON can hold"),
        (b"[1e999]", "f:1:2: error[unsupported-number] '1e999' is not a number that JSON can hold"),
        (b'["\\ud800"]', "f:1:2: error[unsupported-text] half of a surrogate pair is not text"),
        (b"[" * 50_000, "f:1:101: error[too-deep] nested more than 100 levels deep"),
        (
            b"[" + b"1," * 500_000 + b"1]",
            "f:1:1000000: error[file-too-large] the file holds more than 500,000 values",
        ),
        (b"\xe9", "f:1:1: error[not-utf-8] byte 0xe9 is not UTF-8; save the file as UTF-8"),
    ],
)
def test_invalid_json_is_reported_with_its_location(text: Any, finding: str) -> None:
    assert findings(read_json, "f", text) == [finding]


@given(JSON_VALUES)
def test_json_is_read_as_json_loads_reads_it(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, indent=1, ensure_ascii=False)):
        assert repr(read_json("f", text.encode()).data) == repr(json.loads(text))


@given(st.binary(max_size=40) | st.text("ab:-[]{},'\"#&*!|>?%@ \n\t${}<~0.").map(str.encode))
def test_any_bytes_give_a_document_or_diagnostics(data: Any) -> None:
    for read in (read_yaml, read_json):
        with contextlib.suppress(ContractError):
            read("f", data)


def test_the_error_for_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "channels.yml").touch()
    assert findings(read_document, tmp_path, "f") == ["f: error[file-unreadable] is a directory"]
    assert findings(read_document, tmp_path / "pipe", "f") == ["f: error[file-unreadable] is not a file"]
    assert findings(read_document, tmp_path / "channels.yaml", "f") == [
        "f: error[file-missing] there is no such file; did you mean 'channels.yml'?"
    ]
    assert findings(read_document, tmp_path / "a\0b", "f") == ["f: error[file-missing] no file can have such a name"]


def test_a_file_is_json_by_its_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": "1e3"}')
    (tmp_path / "a.yml").write_text("a: 1e3")
    assert read_document(tmp_path / "a.json", "f").data == {"a": "1e3"}
    assert read_document(tmp_path / "a.yml", "f").data == {"a": 1000.0}


def test_a_read_error_has_diagnostics_as_values() -> None:
    with pytest.raises(ContractError) as caught:
        read_json("f", b"[1 2]")
    assert caught.value.diagnostics == (
        Diagnostic(Location("f", 1, 4), Code.JSON_SYNTAX, "not JSON: expecting ',' delimiter"),
    )


@pytest.mark.parametrize(("char", "escape"), [("\x85", "N"), ("\u2028", "L"), ("\u2029", "P")])
@pytest.mark.parametrize("text", ['a: "b{}c"', "a: b{}c", "a: |\n  b{}c", "a: b # {}"])
def test_a_character_that_ends_a_line_only_in_yaml_1_1_is_an_error_but_its_escape_is_not(
    char: str, escape: str, text: str, reader: Reader
) -> None:
    (finding,) = findings(reader, "f", text.format(char).encode())
    line, column = (2, 4) if "\n" in text else (1, text.index("{") + 1)
    assert finding.startswith(f"f:{line}:{column}: error[yaml-syntax] U+{ord(char):04X} ends a line for some readers")
    assert finding.endswith(f"; write \\{escape} in double quotes")
    assert reader("f", f'a: "b\\{escape}c"'.encode()).data == {"a": f"b{char}c"}


def outcome(loader: object, text: str) -> tuple[str, object, list[Location]]:
    """Read a YAML text with one of PyYAML's scanners; return the outcome, the data, and the location of each value."""
    try:
        document = read_with(loader, "f", text.encode())
    except ContractError:
        return "rejected", None, []
    locations = [document.locate(pointer, key=key) for pointer in pointers(document.data) for key in (False, True)]
    return "accepted", repr(document.data), locations


NO_DIRECTIVE = (
    "error[yaml-unsupported] no directive is supported but '%YAML 1.2'; leave it out, or indent the line if it is text"
)
ESCAPE, NO_CHARACTER = r"\U", r"is not a character; the last character is \U0010FFFF"


def pointers(value: object, pointer: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield pointer
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, part in inner:
        yield from pointers(part, (*pointer, step))


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("a\t", "f:1:2: error[yaml-syntax] a tab where only spaces may stand; use spaces"),
        ("a:\tb", "f:1:3: error[yaml-syntax] a tab where only spaces may stand; use spaces"),
        (">+\n  \t", "f:2:3: error[yaml-syntax] a tab where only spaces may stand; use spaces"),
        ("a: |#", "f:1:5: error[yaml-syntax] a comment directly behind '|' or '>'; put a space before '#'"),
        (
            "a: [b?c]",
            "f:1:6: error[yaml-syntax] '?' in a text without quotes, within [ ] or { }; put the text in quotes",
        ),
        ("{? : a}", "f:1:4: error[yaml-syntax] a key is missing here; write '' for an empty key"),
        ("[a:,b]", "f:1:3: error[yaml-syntax] ':' directly before one of , [ ] { }; put a space behind ':'"),
        ("{a :}", "f:1:4: error[yaml-syntax] ':' directly before one of , [ ] { }; put a space behind ':'"),
        ("[a\n :]", "f:2:2: error[yaml-syntax] ':' directly before one of , [ ] { }; put a space behind ':'"),
        ("%YAML 1.1\n---\na", f"f:1:1: {NO_DIRECTIVE}"),
        ("%YAML 1.2#\n---\na", f"f:1:1: {NO_DIRECTIVE}"),
        ("%YAML 1.0000000002\n---\na", f"f:1:1: {NO_DIRECTIVE}"),
        (f"|\n%YAML 1.{'9' * 5000}\n", f"f:2:1: {NO_DIRECTIVE}"),
        (r'a: "\U00110000"', f"f:1:5: error[yaml-syntax] escape '{ESCAPE}00110000' {NO_CHARACTER}"),
        (r'a: "\UFFFFFFFF"', f"f:1:5: error[yaml-syntax] escape '{ESCAPE}FFFFFFFF' {NO_CHARACTER}"),
    ],
)
def test_a_text_that_only_one_scanner_accepts_is_reported_with_its_location(
    text: str, finding: str, reader: Reader
) -> None:
    assert findings(reader, "f", text.encode()) == [finding]


@pytest.mark.parametrize(
    "text",
    [
        "a: 'b\tc' # d\te\n",
        'a: "b\tc"\n',
        "a: |\n  b\tc\n   \td\n",
        "#\ta comment\na: b\n",
        "a: b #\tc\n",
        "%YAML 1.2\n---\na: b\n",
        "# a comment\n%YAML 1.2 # another\n---\na: 100 %\n",
        "{a : , 'b':}\n",
        'a: "\\U0010FFFF"\n',
        "a: |2-\n  \tb\n",
        "a: b?c\n",
        "a: [b:c, 'd?', {e: , f: }]\n",
        "pattern: ^https?://\n",
    ],
)
def test_a_text_that_both_scanners_accept_has_the_same_data_and_locations_with_both(text: str) -> None:
    read = outcome(yaml.CSafeLoader, text)
    assert read[0] == "accepted"
    assert read == outcome(yaml.SafeLoader, text)


#: Pieces of YAML whose meaning depends on their neighbours.
PIECES = [
    *"ab:-?,[]{}#|>+12 \n\t'\"%&*!\\", "a: ", "- ", "\n  ", "? ", " #", "---\n", "%YAML 1.2", "|\n ", "{a ", "[",
    ":}", '"\\UFFFFFFFF"',
]  # fmt: skip


@settings(derandomize=True, max_examples=300, deadline=None)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=14))
def test_both_scanners_read_the_same_from_any_text(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert outcome(yaml.CSafeLoader, text) == outcome(yaml.SafeLoader, text)
