"""docs/providers.md says what the code does."""

import re
from pathlib import Path

from podium.v1 import session_pb2
from runner.providers import problems
from runner.providers.claude.capabilities import CAPABILITIES, PERMISSION_MODES

PAGE = (Path(__file__).parents[4] / "docs" / "providers.md").read_text()


def test_every_capability_stands_in_the_table_as_it_is() -> None:
    documented = dict(re.findall(r"^\| (\w+) \| (yes|no) \|", PAGE, re.MULTILINE))
    fields = [field.name for field in CAPABILITIES.DESCRIPTOR.fields if field.name != "permission_modes"]
    assert documented == {name: "yes" if getattr(CAPABILITIES, name) else "no" for name in fields}


def test_every_permission_mode_stands_in_the_table() -> None:
    rows = re.findall(r"^\| (PERMISSION_MODE_\w+) \| (\w+) \|", PAGE, re.MULTILINE)
    assert rows == [(session_pb2.PermissionMode.Name(mode), native) for mode, native in PERMISSION_MODES.items()]


def test_every_problem_is_explained() -> None:
    assert set(re.findall(r"PROVIDER_[A-Z_]+", PAGE)) == set(problems.PROBLEMS)
