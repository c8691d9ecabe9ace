"""Find names that are easily confused."""

from collections.abc import Iterable, Iterator

from channelmap.codes import Code
from channelmap.contract import Contract
from channelmap.diagnostics import Diagnostic, Related
from channelmap.environment import shown
from channelmap.errors import quoted
from channelmap.pointers import Pointer


def names_alike(contract: Contract) -> Iterator[Diagnostic]:
    """Find channels, or event types of one channel, whose names differ only in case and punctuation."""
    yield from _alike(contract, ("channels",), contract.channels)
    for channel in contract.channels.values():
        yield from _alike(contract, ("channels", channel.name, "events"), channel.events)


def _alike(contract: Contract, owner: Pointer, names: Iterable[str]) -> Iterator[Diagnostic]:
    first: dict[str, str] = {}
    for name in names:
        letters = name.casefold().translate({ord(mark): None for mark in "-_."})
        other = first.setdefault(letters, name)
        if other != name:
            path = (*owner, name)
            yield Diagnostic(
                contract.document.locate(path, key=True),
                Code.NAMES_ALIKE,
                f"{quoted(name)} is easily taken for {quoted(other)}",
                "names should differ in more than case and punctuation",
                related=(Related(contract.document.locate((*owner, other), key=True), quoted(other)),),
                channel=shown(path[1]),
                event_type=name if len(path) > 2 else "",
            )
