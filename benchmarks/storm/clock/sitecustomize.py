"""Lets the wall clock of the processes of a run jump: CHAOS_CLOCK names a file with the seconds to add."""

import mmap
import os
import struct
import time
from pathlib import Path

if "CHAOS_CLOCK" in os.environ:
    with Path(os.environ["CHAOS_CLOCK"]).open("rb") as file:
        _offset = mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)
    _real = time.time
    time.time = lambda: _real() + struct.unpack("d", _offset[:8])[0]
