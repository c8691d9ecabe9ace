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
    counted = {
        what: [int(number) for number in re.findall(rf"(\d+) {what}", run.stdout)]
        for what in ("acknowledged", "delayed", "early", "rejected")
    }
    assert counted.pop("early") == [0, 0, 0]
    for numbers in counted.values():
        assert len(numbers) == 3
        assert min(numbers) > 0, run.stdout
    assert "kills: 0;" not in run.stdout
