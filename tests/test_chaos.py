"""A short run of `benchmarks/chaos.py`: processes are killed, the layer has troubles, and no event is lost."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CHAOS = Path(__file__).parents[1] / "benchmarks" / "chaos.py"


@pytest.mark.parametrize("layer", ["sqlite", "redis"])
def test_random_faults_lose_and_double_no_event_beyond_what_its_channel_promises(layer: str) -> None:
    options = ("--layer", layer, "--seed", "1", "--minutes", "0.08", "--rate", "300", "--lease", "5")
    run = subprocess.run([sys.executable, CHAOS, *options], capture_output=True, text=True, timeout=300, check=False)

    assert run.returncode == 0, run.stdout + run.stderr
    acknowledged = [int(number) for number in re.findall(r"(\d+) acknowledged", run.stdout)]
    assert len(acknowledged) == 3
    assert min(acknowledged) > 0, run.stdout
    assert "kills: 0;" not in run.stdout
