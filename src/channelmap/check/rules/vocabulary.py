"""What the keywords of JSON Schema are, in either dialect, and what they speak of."""

from channelmap.validation import DIALECTS

_NEWER, _OLDER = DIALECTS

#: Keywords for values of one type, which accept every value of another.
TYPED: dict[str, frozenset[str]] = {
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

#: Keywords that judge nothing: they describe, name, or keep schemas for others to refer to.
NOTES = frozenset(
    {
        *("$anchor", "$comment", "$defs", "$dynamicAnchor", "$id", "$schema", "$vocabulary", "contentSchema"),
        *("default", "definitions", "deprecated", "description", "examples", "readOnly", "title", "writeOnly"),
    }
)

#: Annotations used by editors and code generators; not typos.
OF_TOOLS = frozenset(
    {
        *("allowComments", "allowTrailingCommas", "defaultSnippets", "deprecationMessage", "discriminator"),
        *("doNotSuggest", "enumDescriptions", "errorMessage", "markdownDeprecationMessage", "markdownDescription"),
        *("markdownEnumDescriptions", "patternErrorMessage", "suggestSortText", "tsEnumNames", "tsType"),
    }
)

_JUDGING = frozenset({"$ref", "allOf", "anyOf", "const", "else", "enum", "if", "not", "oneOf", "then", "type"})

#: What does nothing in a dialect, silently, though it does something in another, and what to write instead.
OF_OTHER_DIALECT: dict[str, dict[str, str]] = {
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

#: `dependencies` and `definitions` are of the older dialect; the engine knows them in the newer one too.
_ALL = frozenset({"$dynamicRef"}).union(_JUDGING, NOTES, *TYPED.values())

KEYWORDS: dict[str, frozenset[str]] = {dialect: _ALL - set(others) for dialect, others in OF_OTHER_DIALECT.items()}
"""What either dialect knows; notes of the newer one do no harm in the older."""
