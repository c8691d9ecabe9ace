"""Open the layer of a contract, for commands that import no consumers."""

import click

from channelmap.cli.options import prepare_imports
from channelmap.contract import Contract
from channelmap.environment import shown
from channelmap.layer import ChannelLayer
from channelmap.sending import open_contract_layer


def open_layer(contract: Contract, url: str | None) -> ChannelLayer:
    """Open the layer that a contract names, or the one at `url`.

    A class named by `backend` may be code of the project, so imports are prepared as for consumers, and Django is set
    up. Call this outside of an event loop, in which Django forbids queries.
    """
    if contract.layer.backend and url is None:
        prepare_imports(contract.path)
    return open_contract_layer(contract, url)


def open_shared_layer(contract: Contract, url: str | None, refusal: str) -> ChannelLayer:
    """Open the layer as `open_layer` does; UsageError if it is in the memory of this process.

    Args:
        contract: the contract.
        url: the layer's URL; `None` for the layer of the contract.
        refusal: the beginning of the error message: the action that was not taken, and what a process has for itself.

    """
    layer = open_layer(contract, url)
    # Compared by name, because Channels may not be installed.
    kinds = {kind.__name__ for kind in type(getattr(layer, "inner", layer)).__mro__}
    if kinds & {"MemoryChannelLayer", "InMemoryChannelLayer"}:
        raise click.UsageError(
            f"{shown(layer.url)}: {refusal} in memory belongs to this process, and would end with it; "
            "use a layer that a worker shares, such as sqlite:///channels.db"
        )
    return layer
