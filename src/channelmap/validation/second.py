"""A second engine, the jsonschema package: slow, widely used, and imported only when a check asks it."""

from collections.abc import Mapping
from typing import Any


def opinion(schema: Any, uri: str, others: Mapping[str, Any], event: dict[str, Any]) -> bool | None:
    """Say whether jsonschema accepts an event; `None` when it cannot say.

    Args:
        schema: the schema, valid by its metaschema.
        uri: what its relative references are relative to.
        others: by URI, the schemas that it may refer to; nothing else is read.
        event: consists of JSON values only.

    """
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for
    from referencing import Registry, Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    known = [(name, Resource.from_contents(other, DRAFT202012)) for name, other in {**others, uri: schema}.items()]
    engine = validator_for(schema, default=Draft202012Validator)
    try:
        return bool(engine({"$ref": uri}, registry=Registry().with_resources(known)).is_valid(event))
    except (Unresolvable, RecursionError):
        return None
