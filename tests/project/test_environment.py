"""The builder of the environment, where the machine lacks something."""

import importlib.util
import os
import shutil
import sys
from types import ModuleType
from typing import Any, NamedTuple

import pytest


@pytest.fixture
def environment(checkout: Any, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/environment.py, loaded, with the clean settings of the small checkout."""
    for name, value in checkout.environment.items():
        if name != "PATH":
            monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("environment", checkout.root / "tools" / "environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "environment", module)
    spec.loader.exec_module(module)
    return module


def test_a_python_without_pip_installs_one_in_the_environment(
    environment: ModuleType, checkout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "lends_pip", lambda: False)

    environment.ensure(environment.Checkout(checkout.root), "run")

    assert (environment.site_packages(checkout.root / ".venv") / "pip").is_dir()
    assert checkout.report("ls")["installed"] == ["fake_run"]


def test_a_python_without_any_pip_says_what_to_install(
    environment: ModuleType, checkout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "lends_pip", lambda: False)
    monkeypatch.setattr(environment, "has_ensurepip", lambda: False)

    with pytest.raises(environment.EnvironmentBuildError, match="apt install python3-venv"):
        environment.ensure(environment.Checkout(checkout.root), "run")

    assert checkout.generations == set()


def test_a_full_disk_is_seen_before_it_is_full(
    environment: ModuleType, checkout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(free=10_000_000))

    with pytest.raises(environment.EnvironmentBuildError, match="10 MB free; 900 MB are needed"):
        environment.ensure(environment.Checkout(checkout.root), "run")


def test_a_held_lock_is_not_waited_for_without_end(
    environment: ModuleType, checkout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "LOCK_WAIT_S_MAX", 0.1)
    small = environment.Checkout(checkout.root)
    small.generations.mkdir()

    with environment.locked(small), pytest.raises(environment.EnvironmentBuildError, match="Another build has held"):
        environment.ensure(small, "run")


def test_an_unknown_set_is_a_usage_error(environment: ModuleType) -> None:
    assert environment.main(["everything"]) == os.EX_USAGE
