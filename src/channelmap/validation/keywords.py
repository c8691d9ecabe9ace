"""The keywords of JSON Schema that hold schemas: draft-07 and 2020-12 together, since none holds data in the other one.

The referencing package knows them too, but its `subresources_of` returns schemas without their pointers.
"""

MAPS = frozenset({"properties", "patternProperties", "dependentSchemas", "dependencies"})
"""Each holds an object of schemas that apply. A value of `dependencies` may be a list of names instead."""

DEFINITIONS = frozenset({"$defs", "definitions"})
"""Each holds an object of schemas that apply only where a `$ref` names them."""

LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
"""Each holds a list of schemas; `items` only in draft-07."""

SINGLES = frozenset((
    *("items", "additionalItems", "unevaluatedItems", "contains", "not", "if", "then", "else"),
    *("additionalProperties", "unevaluatedProperties", "propertyNames"),
))  # fmt: skip
"""Each holds one schema."""

IN_PLACE = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies"})
"""The schemas of these judge the same value as the schema that they are in."""
