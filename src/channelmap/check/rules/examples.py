"""Compare the verdicts on examples with those of another schema engine."""

from collections.abc import Iterator

from channelmap.codes import Code
from channelmap.contract import Channel, EventType
from channelmap.diagnostics import Diagnostic
from channelmap.errors import quoted
from channelmap.validation.second_engine import second_opinion


def engines_disagree(_channel: Channel, event_type: EventType) -> Iterator[Diagnostic]:
    """Find examples on which the jsonschema package disagrees, as other tools may."""
    examples = [each for each in (*event_type.accepts, *event_type.rejects) if isinstance(each.event, dict)]
    if event_type.validator is None or not examples:
        return
    opinion = second_opinion(event_type.validator)
    for example in examples:
        ours = event_type.validator.is_valid(example.event)
        other = opinion(example.event)
        if other is not None and other is not ours:
            verdicts = ("accepted", "refused") if ours else ("refused", "accepted")
            message = f"this example of {quoted(event_type.name)} is {verdicts[0]} here and {verdicts[1]} by jsonschema"
            hint = "say more plainly in the schema what is meant: other tools will read it differently"
            yield Diagnostic(example.location, Code.ENGINES_DISAGREE, message, hint)
