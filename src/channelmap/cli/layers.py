"""Opens the layer of a contract for the commands that import no consumers."""

import click

from channelmap.cli.options import prepare_imports
from channelmap.contract import Contract
from channelmap.environment import shown
from channelmap.layer import ChannelLayer
from channelmap.sending import open_contract_layer


def open_layer(contract: Contract, url: str | None) -> ChannelLayer:
    """Open the layer that a contract names, or the one at `url`.

    A class that `backend` names is the project's code, as consumers are: it is made importable and Django is set up.
    Call it outside of an event loop, in which Django forbids queries to the applications that it sets up.
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
    # By their names: to import Channels is for those who have it.
    kinds = {kind.__name__ for kind in type(getattr(layer, "inner", layer)).__mro__}
    if kinds & {"MemoryChannelLayer", "InMemoryChannelLayer"}:
        raise click.UsageError(
            f"{shown(layer.url)}: {refusal} in memory belongs to this process, and would end with it; "
            "use a layer that a worker shares, such as sqlite:///channels.db"
        )
    return layer
