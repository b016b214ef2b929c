"""What is checked in: nothing of a person, a machine or a registry, and pins for all that is declared."""

import re
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
LOCK_FILES = {"uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock", "package-lock.json", "yarn.lock", "pnpm-lock.yaml"}
SETS = ["run", "claude", "image", "test"]

# Each pattern is split, so that this file is not what it finds.
FORBIDDEN = {
    "a home folder": rb"/(?:ho" rb"me|Us" rb"ers)/(?!(?:podium|runner|you|me|user|dev|tmp)/)[a-z][\w.-]+/",
    "root's home": rb"(?<![\w.])/ro" rb"ot/",
    "an index address": rb"(?:--index-url|--extra-index-url|--find-links|UV_INDEX\w*|PIP_INDEX_URL)[ =]+\S*ht"
    rb"tps?:",
    "a package file's address": rb"files\.python" rb"hosted\.org",
    "a private key": rb"-----BEGIN (?:[A-Z]+ )?PRIV" rb"ATE KEY-----",
    "an Anthropic key": rb"sk-" rb"ant-(?:api|oat)\d\d-[\w-]{20,}",
    "an OpenAI key": rb"sk-" rb"proj-[\w-]{20,}",
    "an AWS key": rb"AK" rb"IA[0-9A-Z]{16}",
    "a GitHub token": rb"gh" rb"[pousr]_[A-Za-z0-9]{36}",
    "a token of ours": rb"podi" rb"um_[\w-]{43}(?![\w-])",
    "a folder beside the project": rb"\.\./sha" rb"red\b",
}


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=30).stdout
    files = [ROOT / name for name in listed.decode().split("\0") if name]
    assert files
    return [path for path in files if path.is_file()]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_tracked_file_holds(tracked: list[Path], what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = [(path, pattern.search(path.read_bytes())) for path in tracked]
    places = [f"{path.relative_to(ROOT)}: {match.group(0)!r}" for path, match in found if match]
    assert places == []


def test_there_is_no_lock_file_beside_the_requirements(tracked: list[Path]) -> None:
    assert [path for path in tracked if path.name in LOCK_FILES] == []


def test_tests_are_no_packages(tracked: list[Path]) -> None:
    assert [path for path in tracked if path.name == "__init__.py" and "tests" in path.relative_to(ROOT).parts] == []


def test_every_declared_dependency_is_pinned_in_its_set() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    declared = {
        "run": project["project"]["dependencies"],
        "claude": project["project"]["optional-dependencies"]["claude"],
        "image": project["project"]["optional-dependencies"]["deploy"],
        "test": [*groups["test"], *groups["check"]],
    }
    for name, requirements in declared.items():
        pinned = pins(name)
        for requirement in map(Requirement, requirements):
            version = pinned.get(requirement.name.lower())
            assert version is not None, f"{requirement.name} is missing in requirements/{name}.txt: compile them again"
            assert requirement.specifier.contains(version), f"{requirement} is pinned to {version}: compile them again"


def test_the_sets_are_nested_so_that_an_environment_can_grow() -> None:
    for smaller, larger in pairwise(SETS):
        assert pins(smaller).items() <= pins(larger).items()


@pytest.mark.parametrize("name", SETS)
def test_every_pin_has_its_hashes_and_no_address(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert "://" not in text


def pins(name: str) -> dict[str, str]:
    """Return the versions that a set pins, by package."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, flags=re.MULTILINE))
