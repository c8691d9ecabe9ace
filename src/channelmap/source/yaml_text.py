"""Read YAML 1.2 with the core schema, from PyYAML's events.

PyYAML's loaders are not used: they follow YAML 1.1 (`on` is true, `1:30` is 90), keep the last of two equal keys, lose
locations, and one ends the process on deep nesting. Anchors, aliases, merge keys and tags are not supported.
"""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from channelmap.codes import Code
from channelmap.environment import FilledText
from channelmap.pointers import Pointer
from channelmap.source.document import TOO_DEEP, Builder, Document, Text, decode, number
from channelmap.source.variables import fill, has_variable

#: Maximum length of a text that is read again by the scanner in Python, 100 times slower, for the exact location.
_MAX_SECOND_READ = 1 << 16
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|\ufeff")
#: Characters that end a line in YAML 1.1 (PyYAML) but not in YAML 1.2 (editors), with their escapes.
_LINE_ENDS = {"\x85": "\\N", "\u2028": "\\L", "\u2029": "\\P"}
_LINE_END = re.compile("[\x85\u2028\u2029]")
#: PyYAML has two scanners, libyaml and one in Python. A text that only one of them accepts is an error. The patterns
#: below find such texts, for example tabs outside of quotes, block scalars and comments.
_TAB_OR_COMMENT = re.compile(r"(?<![^ \t\r\n])#[^\r\n]*|\t")
_TAB_IN_BLOCK = re.compile(r"[|>](?:[-+0-9]* *|[-+]?(?: +#[^\r\n]*| *)[\r\n][\r\n ]*)\t")
_COMMENT_AT_BLOCK = re.compile(r"[|>][-+0-9]*#")
_BLOCK_OR_QUOTED = frozenset("|>'\"")
_COLON_BEFORE_INDICATOR = re.compile(r":[,\[\]{}]")
_COLON_AFTER_SCALAR = re.compile(r"[ \r\n]*(:)[,\[\]{}]")
#: A line that begins with '%', except for '%YAML 1.2'. The scanners disagree about other version numbers.
_DIRECTIVE = re.compile(r"%(?<![^\r\n]%)(?!YAML +1\.2(?: +#[^\r\n]*| *)[\r\n])")
#: libyaml rejects this escape; the scanner in Python passes it to chr(), which raises ValueError or OverflowError.
_ESCAPE_TOO_LARGE = re.compile(r"\\U(?!000|0010)[0-9a-fA-F]{8}")
_TAB = ("a tab where only spaces may stand", "use spaces")
_COMMENT = ("a comment directly behind '|' or '>'", "put a space before '#'")
_COLON = ("':' directly before one of , [ ] { }", "put a space behind ':'")
_QUESTION_MARK = ("'?' in a text without quotes, within [ ] or { }", "put the text in quotes")
_CONSTANTS = {"": None, "~": None} | {
    spelled: value
    for word, value in {"null": None, "true": True, "false": False}.items()
    for spelled in (word, word.title(), word.upper())
}
_DECIMAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_BEGINS_NUMBER = frozenset("+-.0123456789")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

#: A part of PyYAML's message, the same in both scanners, to our message and hint; the location is that of the problem.
_AT_THE_PROBLEM = {
    "unexpected ':'": _COLON,
    "indicators, but found '#'": _COMMENT,
    "mapping values": ("': ' where no key may stand", "put a text that contains ': ' in quotes"),
    "sequence entries": ("'- ' where no list item may stand", "begin the list on a line of its own"),
    "cannot start any token": ("no value can begin with this character", "put the value in quotes"),
    "document start": ("more than one document in one file", ""),
    "block end": ("indentation does not match the lines above", ""),
    "'-' indicator": ("indentation does not match the lines above", ""),
    "expected key": ("indentation does not match the lines above", ""),
}
#: The same for problems that PyYAML notices late: the location is the beginning of the construct.
_AT_THE_BEGINNING = {
    "expected ':'": ("a key without ':'", ""),
    "end of stream": ("this quote is never closed", ""),
    "document separator": ("this quote is never closed", ""),
    "escape": ("unknown escape in double quotes", "use single quotes, or double the backslash"),
    "',' or ']'": ("this list lacks a ',' or its ']'", ""),
    "',' or '}'": ("this mapping lacks a ',' or its '}'", ""),
    "tag handle": ("tags are not supported", "leave it out"),
}


def read_yaml(
    path: str, data: bytes, env: Mapping[str, str] | None = None, filled_keys: Pointer | None = None
) -> Document:
    """Read a YAML text in UTF-8: one document, JSON values, keys that are text.

    Args:
        path: the name of the file in messages.
        data: its bytes; a byte order mark is ignored.
        env: the variables for ``${NAME}`` and ``${NAME:-default}`` in values; if None, such text is left unchanged.
            A plain scalar gets its type after the replacement: ``${N:-10}`` is a number, in quotes it is text.
        filled_keys: the pointer to the mapping in whose keys variables are replaced, too.

    Raises:
        ContractError: the text is invalid; has all diagnostics up to the first syntax error.

    """
    return read_with(_Loader, path, data, env, filled_keys)


def read_with(
    loader: Any, path: str, data: bytes, env: Mapping[str, str] | None = None, filled_keys: Pointer | None = None
) -> Document:
    """Read like `read_yaml`, with one of PyYAML's loaders."""
    text = decode(path, data)
    if control := _CONTROL.search(text.text):
        message = f"control character U+{ord(control.group()):04X} is not allowed"
        raise Builder(text).error(control.start(), Code.YAML_SYNTAX, message)
    if end := _LINE_END.search(text.text):
        message = f"U+{ord(end.group()):04X} ends a line for some readers of YAML and not for others"
        hint = f"write {_LINE_ENDS[end.group()]} in double quotes"
        raise Builder(text).error(end.start(), Code.YAML_SYNTAX, message, hint)
    if escape := _ESCAPE_TOO_LARGE.search(text.text):
        message = f"escape '{escape.group()}' is not a character"
        raise Builder(text).error(escape.start(), Code.YAML_SYNTAX, message, r"the last character is \U0010FFFF")
    if directive := _DIRECTIVE.search(text.text):
        message, hint = "no directive is supported but '%YAML 1.2'", "leave it out, or indent the line if it is text"
        raise Builder(text).error(directive.start(), Code.YAML_UNSUPPORTED, message, hint)
    return _read(text, env, filled_keys, loader)


def _read(text: Text, env: Mapping[str, str] | None, filled_keys: Pointer | None, loader: Any) -> Document:
    reader = _Reader(text, env, filled_keys)
    try:
        for event in yaml.parse(text.text, Loader=loader):
            reader.feed(event)
        reader.check_tabs(len(text.text))
    except yaml.MarkedYAMLError as error:
        if "nesting depth" in (error.problem or "") and loader is not yaml.SafeLoader:
            # libyaml has a nesting limit too, and reads ahead: it may raise before the event that exceeds ours.
            if len(text.text) <= _MAX_SECOND_READ:
                return _read(text, env, filled_keys, yaml.SafeLoader)
            offset, *_ = _describe_error(error, text)
            raise reader.builder.error(offset, Code.TOO_DEEP, TOO_DEEP) from None
        raise reader.builder.error(*_describe_error(error, text)) from None
    return reader.builder.document()


class _Reader:
    def __init__(self, text: Text, env: Mapping[str, str] | None, filled_keys: Pointer | None) -> None:
        self.builder = Builder(text)
        self._env = env
        self._filled_keys = filled_keys
        self._documents = 0
        self._flow_depth = 0
        self._has_tabs = "\t" in text.text
        self._has_ambiguous_flow = "?" in text.text or _COLON_BEFORE_INDICATOR.search(text.text) is not None
        #: The end offset of the last key within [ ] or { }.
        self._key_end = 0
        #: The offset up to which tabs have been checked.
        self._tabs_checked_to = 0

    def feed(self, event: Any) -> None:
        offset = event.start_mark.index
        match event:
            case yaml.ScalarEvent():
                if event.style in _BLOCK_OR_QUOTED:
                    self._check_scalar_style(event, offset)
                elif self._flow_depth:
                    offset = self._flow_scalar_offset(event, offset)
                self._check_anchor_and_tag(event, offset)
                self._scalar(event, offset)
            case yaml.AliasEvent():
                self._alias(event, offset)
            case yaml.CollectionStartEvent():
                self._check_anchor_and_tag(event, offset)
                if self.builder.expects_key:
                    raise self.builder.error(offset, Code.YAML_UNSUPPORTED, "a key must be text")
                self._flow_depth += bool(self._flow_depth or event.flow_style)
                self.builder.open({} if isinstance(event, yaml.MappingStartEvent) else [], offset)
            case yaml.CollectionEndEvent():
                self._flow_depth -= bool(self._flow_depth)
                self.builder.close()
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise self.builder.error(offset, Code.YAML_SYNTAX, "more than one document in one file")

    def _check_scalar_style(self, event: Any, offset: int) -> None:
        """Stop at a scalar that only one of PyYAML's scanners accepts."""
        self.check_tabs(offset)
        self._tabs_checked_to = event.end_mark.index
        if event.style in {"|", ">"}:
            text = self.builder.text.text
            if tab := _TAB_IN_BLOCK.match(text, offset):
                raise self.builder.error(tab.end() - 1, Code.YAML_SYNTAX, *_TAB)
            if comment := _COMMENT_AT_BLOCK.match(text, offset):
                raise self.builder.error(comment.end() - 1, Code.YAML_SYNTAX, *_COMMENT)

    def _flow_scalar_offset(self, event: Any, offset: int) -> int:
        """Return the offset of a plain scalar within [ ] or { }; stop if only one scanner accepts it.

        The offset of an empty value is that behind its colon, for both scanners.
        """
        text, is_key = self.builder.text.text, self.builder.expects_key
        if is_key:
            self._key_end = event.end_mark.index
        if not event.value:
            if is_key:
                # The scanners differ: one reports the beginning of the blanks before the colon, the other their end.
                offset = max(offset, text.find(":", offset))
                raise self.builder.error(offset, Code.YAML_SYNTAX, "a key is missing here", "write '' for an empty key")
            colon = text.find(":", self._key_end, offset)
            return offset if colon < 0 else colon + 1
        if self._has_ambiguous_flow:
            if "?" in event.value:
                raise self.builder.error(text.index("?", offset), Code.YAML_SYNTAX, *_QUESTION_MARK)
            if colon_at := _COLON_AFTER_SCALAR.match(text, event.end_mark.index):
                raise self.builder.error(colon_at.start(1), Code.YAML_SYNTAX, *_COLON)
        return offset

    def check_tabs(self, end: int) -> None:
        """Stop at a tab between the last quoted or block scalar and an offset, except in comments."""
        if not self._has_tabs:
            return
        for found in _TAB_OR_COMMENT.finditer(self.builder.text.text, self._tabs_checked_to, end):
            if found.group() == "\t":
                raise self.builder.error(found.start(), Code.YAML_SYNTAX, *_TAB)

    def _alias(self, event: yaml.AliasEvent, offset: int) -> None:
        message = f"alias '*{event.anchor}' is not supported"
        self.builder.report(offset, Code.YAML_UNSUPPORTED, message, "write the value out")
        (self.builder.set_key if self.builder.expects_key else self.builder.add_value)(f"*{event.anchor}", offset)

    def _check_anchor_and_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, offset: int) -> None:
        if event.anchor is not None:
            message = f"anchor '&{event.anchor}' is not supported"
            self.builder.report(offset, Code.YAML_UNSUPPORTED, message, "write the value out where it is needed")
        if event.tag is not None:
            self.builder.report(offset, Code.YAML_UNSUPPORTED, "tags are not supported", "leave it out")

    def _scalar(self, event: yaml.ScalarEvent, offset: int) -> None:
        plain = event.style in {None, ""}
        if self.builder.expects_key:
            if plain and event.value == "<<":
                message = "merge key '<<' is not supported"
                self.builder.report(offset, Code.YAML_UNSUPPORTED, message, "write the keys out")
            is_filled = self._filled_keys is not None and self.builder.is_at(self._filled_keys)
            self.builder.set_key(self._fill(event.value, offset) if is_filled else event.value, offset)
            return
        text = self._fill(event.value, offset)
        value = self._resolve(text, offset) if plain else text
        self.builder.add_value(
            str(value) if isinstance(value, FilledText) else value,
            offset,
            text.written if isinstance(text, FilledText) else "",
            has_variable=self._env is not None and "${" in event.value and has_variable(event.value),
        )

    def _fill(self, text: str, offset: int) -> str:
        if self._env is None or "${" not in text:
            return text
        return fill(text, self._env, lambda *finding: self.builder.report(offset, *finding))

    def _resolve(self, text: str, offset: int) -> Any:
        """Return the value of a plain scalar by the core schema."""
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if text[0] not in _BEGINS_NUMBER:
            return text
        if _DECIMAL.fullmatch(text) or _NOT_FINITE.fullmatch(text):
            return number(self.builder, text, offset)
        if _OCTAL.fullmatch(text):
            return number(self.builder, text, offset, base=8)
        if _HEX.fullmatch(text):
            return number(self.builder, text, offset, base=16)
        return text


def _describe_error(error: Any, text: Text) -> tuple[int, Code, str, str]:
    """Return offset, code, message and hint of a PyYAML error, the same for both scanners."""
    problem = error.problem or ""
    end = error.problem_mark.index if error.problem_mark is not None else len(text.text)
    begin = error.context_mark.index if error.context_mark is not None else end
    if text.text[end : end + 1] == "\t":
        return end, Code.YAML_SYNTAX, *_TAB
    if "got '?'" in problem:
        return end, Code.YAML_SYNTAX, *_QUESTION_MARK
    for offset, table in ((end, _AT_THE_PROBLEM), (begin, _AT_THE_BEGINNING)):
        for part, words in table.items():
            if part in problem:
                return offset, Code.YAML_SYNTAX, *words
    return end, Code.YAML_SYNTAX, "not YAML from here on", ""
