"""The examples in docstrings pass as doctests."""

import doctest
import importlib
import pkgutil

import channelmap


def test_every_example_in_a_docstring_passes() -> None:
    tried = 0
    for module in pkgutil.walk_packages(channelmap.__path__, "channelmap."):
        # Modules of Django sites need settings; they have no examples.
        if not module.name.startswith("channelmap.django") and not module.name.endswith("__main__"):
            result = doctest.testmod(importlib.import_module(module.name))
            assert result.failed == 0, module.name
            tried += result.attempted
    assert tried > 0
