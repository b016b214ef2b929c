"""The generated code in podium/v1 is what the .proto files say, and says nothing about a machine."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_proto", ROOT / "tools" / "generate_proto.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_checked_in_code_is_fresh(generator: ModuleType, tmp_path: Path) -> None:
    generator.generate(tmp_path)

    fresh, checked_in = generator.generated_files(tmp_path), generator.generated_files(ROOT)

    stale = sorted(name for name in fresh.keys() | checked_in.keys() if fresh.get(name) != checked_in.get(name))
    assert not stale, f"run `.venv/bin/python tools/generate_proto.py`; these differ: {', '.join(stale)}"
    assert len(fresh) >= 4


def test_the_generated_code_holds_no_path_of_this_machine(generator: ModuleType) -> None:
    here = str(ROOT).encode()

    assert [name for name, content in generator.generated_files(ROOT).items() if here in content] == []
