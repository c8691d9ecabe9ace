"""The layer in memory for test cases of unittest and Django."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from channelmap.contract import Contract
from channelmap.loader import load
from channelmap.sending import ContractLayer, contract_file
from channelmap.testing.memory import memory_layer

if TYPE_CHECKING:
    from unittest import TestCase as _Base
else:
    _Base = object


class MemoryLayerMixin(_Base):
    """Gives each test a layer in memory, `self.channel_layer`; put it before `TestCase` among the base classes.

    Attributes:
        channelmap_contract: the contract, or its file; `None` for the file that `get_channel_layer` reads. A file is
            read once for each class.
        channel_layer: the layer of the current test.

    """

    channelmap_contract: ClassVar[str | Path | Contract | None] = None
    channel_layer: ContractLayer
    _contract: ClassVar[Contract]

    @classmethod
    def setUpClass(cls) -> None:
        """Read the contract."""
        super().setUpClass()
        named = cls.channelmap_contract
        cls._contract = named if isinstance(named, Contract) else load(contract_file(named))

    def setUp(self) -> None:
        """Replace the layer until the test ends."""
        super().setUp()
        self.channel_layer = self.enterContext(memory_layer(self._contract))
