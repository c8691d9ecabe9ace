"""The keywords of JSON Schema in each dialect, and the types that they apply to."""

from channelmap.validation import DIALECTS

_NEWER, _OLDER = DIALECTS

#: Keywords that apply to values of one type, and accept every value of another.
TYPE_SPECIFIC: dict[str, frozenset[str]] = {
    "string": frozenset({"contentEncoding", "contentMediaType", "format", "maxLength", "minLength", "pattern"}),
    "number": frozenset({"exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "multipleOf"}),
    "array": frozenset(
        {
            *("additionalItems", "contains", "items", "maxContains", "maxItems", "minContains", "minItems"),
            *("prefixItems", "unevaluatedItems", "uniqueItems"),
        }
    ),
    "object": frozenset(
        {
            *("additionalProperties", "dependencies", "dependentRequired", "dependentSchemas", "maxProperties"),
            *("minProperties", "patternProperties", "properties", "propertyNames", "required"),
            "unevaluatedProperties",
        }
    ),
}

#: Keywords that accept every value: annotations, identifiers, and definitions to refer to.
NON_ASSERTIONS = frozenset(
    {
        *("$anchor", "$comment", "$defs", "$dynamicAnchor", "$id", "$schema", "$vocabulary", "contentSchema"),
        *("default", "definitions", "deprecated", "description", "examples", "readOnly", "title", "writeOnly"),
    }
)

#: Annotations used by editors and code generators; not typos.
TOOL_ANNOTATIONS = frozenset(
    {
        *("allowComments", "allowTrailingCommas", "defaultSnippets", "deprecationMessage", "discriminator"),
        *("doNotSuggest", "enumDescriptions", "errorMessage", "markdownDeprecationMessage", "markdownDescription"),
        *("markdownEnumDescriptions", "patternErrorMessage", "suggestSortText", "tsEnumNames", "tsType"),
    }
)

_ANY_TYPE = frozenset({"$ref", "allOf", "anyOf", "const", "else", "enum", "if", "not", "oneOf", "then", "type"})

#: Keywords that have no effect in a dialect, but in another one, and what to write instead.
OTHER_DIALECT_REMEDIES: dict[str, dict[str, str]] = {
    _NEWER: {
        "$recursiveAnchor": "write '$dynamicAnchor'",
        "$recursiveRef": "write '$dynamicRef'",
        "additionalItems": "write 'items' beside 'prefixItems'",
        "nullable": "write 'type: [..., \"null\"]'",
    },
    _OLDER: {
        "$dynamicRef": "write '$ref'",
        "$recursiveRef": "write '$ref'",
        "dependentRequired": "write 'dependencies'",
        "dependentSchemas": "write 'dependencies'",
        "maxContains": "",
        "minContains": "",
        "nullable": "write 'type: [..., \"null\"]'",
        "prefixItems": "write a list under 'items'",
        "unevaluatedItems": "write 'additionalItems'",
        "unevaluatedProperties": "write 'additionalProperties'",
    },
}

#: The engine also obeys `dependencies` and `definitions`, of the older dialect, in the newer one.
_ALL = frozenset({"$dynamicRef"}).union(_ANY_TYPE, NON_ASSERTIONS, *TYPE_SPECIFIC.values())

KEYWORDS: dict[str, frozenset[str]] = {
    dialect: _ALL - set(others) for dialect, others in OTHER_DIALECT_REMEDIES.items()
}
"""The keywords of each dialect; annotations of the newer one do no harm in the older."""
