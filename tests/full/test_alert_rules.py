"""The alert rules of the documents, tried by Prometheus' own promtool on series of some hours."""

import subprocess
from pathlib import Path

import pytest

from tests.full.programs import find

pytestmark = pytest.mark.full

HERE = Path(__file__).parent
RULES = HERE.parents[1] / "docs" / "alert-rules.yaml"


@pytest.mark.parametrize("arguments", [("check", "rules", str(RULES)), ("test", "rules", "alert-rules.test.yaml")])
def test_promtool_finds_nothing_wrong(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([find("promtool"), *arguments], cwd=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
