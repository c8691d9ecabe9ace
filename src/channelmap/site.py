"""What a web framework decides for its processes: which contract file to use, and which layer if that names none."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from channelmap.contract import Contract
    from channelmap.layer import ChannelLayer


@dataclass(frozen=True, slots=True)
class Site:
    """The decisions of a framework.

    Attributes:
        contract: returns the contract file, for calls that name none.
        open_layer: opens a layer of the framework's settings for a contract, by its alias; with `None` the layer of
            a contract that names none.

    """

    contract: "Callable[[], Path]"
    open_layer: "Callable[[Contract, str | None], ChannelLayer]"


_site: Site | None = None


def use_site(site: Site | None) -> None:
    """Set the decisions of this process; `None` for those of channelmap."""
    global _site  # noqa: PLW0603  (a process has one framework, as it has one working directory)
    _site = site


def current_site() -> Site | None:
    """Return the decisions of this process, if a framework has set them."""
    return _site
