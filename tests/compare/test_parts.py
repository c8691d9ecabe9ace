"""What is proved in parts holds for the whole."""

from typing import Any

import pytest

from channelmap.compare.parts import covers_in_parts

NODE = {"properties": {"n": {"$ref": "#/$defs/node"}}}
DEFINED = {"$defs": {"node": NODE}}


def test_what_refers_to_itself_covers_its_like() -> None:
    wider = {"properties": {"n": {"$ref": "#/$defs/node"}, "more": {}}}
    assert covers_in_parts({**NODE, **DEFINED}, {**NODE, "$defs": {"node": wider}})


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        (
            {**NODE, **DEFINED, "additionalProperties": False},
            {**NODE, **DEFINED, "allOf": [{"properties": {"b": {}}}], "unevaluatedProperties": False},
        ),
        (
            {"type": "array", "prefixItems": [{}], "maxItems": 0},
            {"type": "array", "prefixItems": [{}], "unevaluatedItems": False},
        ),
        ({**NODE, "$defs": {"node": {**NODE, "type": "object"}}}, {**NODE, **DEFINED}),
        ({**NODE, **DEFINED, "required": ["n"]}, {**NODE, **DEFINED}),
        ({**NODE, **DEFINED, "patternProperties": {"^a": {"type": "string"}}}, {**NODE, **DEFINED}),
        ({**NODE, "$defs": {"node": False}}, {**NODE, **DEFINED}),
    ],
    ids=["branches that name properties", "unevaluated items", "another definition", "required", "patterns", "nothing"],
)
def test_nothing_is_proved_of_what_is_not_so(wide: Any, narrow: Any) -> None:
    assert not covers_in_parts(wide, narrow)
