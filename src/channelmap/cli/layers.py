"""Opens the layer of a contract for the commands that import no consumers."""

from channelmap.cli.options import prepare_imports
from channelmap.contract import Contract
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
