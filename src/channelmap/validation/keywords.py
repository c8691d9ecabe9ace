"""The JSON Schema keywords that contain subschemas, of draft-07 and 2020-12 together.

No keyword contains subschemas in one dialect and data in the other. The referencing package knows these keywords too,
but its `subresources_of` returns subschemas without their pointers.
"""

MAPS = frozenset({"properties", "patternProperties", "dependentSchemas", "dependencies"})
"""Keywords whose value is an object of schemas that apply. `dependencies` may contain lists of names as well."""

DEFINITIONS = frozenset({"$defs", "definitions"})
"""Keywords whose value is an object of schemas that apply only where a `$ref` names them."""

LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
"""Keywords whose value is a list of schemas; `items` only in draft-07."""

SINGLES = frozenset((
    *("items", "additionalItems", "unevaluatedItems", "contains", "not", "if", "then", "else"),
    *("additionalProperties", "unevaluatedProperties", "propertyNames"),
))  # fmt: skip
"""Keywords whose value is one schema."""

IN_PLACE = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies"})
"""In-place applicators: keywords whose schemas apply to the same value as the schema around them."""
