"""Check that the layer can be constructed, without connecting to a server or opening a file."""

from collections.abc import Iterator

from channelmap.codes import Code
from channelmap.contract import Contract
from channelmap.diagnostics import Diagnostic
from channelmap.errors import LayerUnavailable
from channelmap.imports import ImportProblem, import_dotted
from channelmap.layers import open_layer


def layer_unusable(contract: Contract, *, imports: bool) -> Iterator[Diagnostic]:
    """Find a layer that no sender and no worker can use, wherever they run.

    Args:
        contract: the contract.
        imports: import the class that `backend` names; it is not called, because it may need a server.

    """
    setting = contract.layer
    try:
        if setting.url:
            open_layer(setting.url, quotes_errors=not setting.from_environment, **setting.options)
        elif imports:
            import_dotted(setting.backend)
    except LayerUnavailable as error:
        reason, hint = error.reason, ""
    except ImportProblem as problem:
        reason, hint = problem.message, problem.hint
    else:
        return
    name = "url" if setting.url else "backend"
    # If `layer` is just a URL, this is the location of `layer`.
    location = contract.document.locate(("layer", name))
    yield Diagnostic(location, Code.LAYER_UNUSABLE, f"the layer cannot be used: {reason}", hint)
