"""Fixtures for tests with Django projects."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .projects import Project


@pytest.fixture
def shop(project: Path, start: Callable[..., Any]) -> Project:
    """A Django project with one channel."""
    return Project(project, start)
