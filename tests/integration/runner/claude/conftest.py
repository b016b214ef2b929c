"""A clean place for the driver and its real client."""

import os
from pathlib import Path

import pytest

from tests.integration.runner.claude.claude_rig import Rig


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """Nothing of this machine's settings: what the driver hands on by mistake is not there."""
    for name in os.environ:
        if not name.startswith("PYTEST_"):
            monkeypatch.delenv(name)
    return Rig(tmp_path)
