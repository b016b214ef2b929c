"""The import contracts of pyproject.toml turn red for each import that they forbid."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT_S_MAX = 60

# Modules that the contracts name; each exists, empty, in the copy that is checked.
MODULES = [
    *(f"podium/{name}" for name in ("v1", "names", "errors", "clock", "session", "settings", "telemetry", "rpc")),
    *(f"podium/{name}" for name in ("eventlog", "cli", "scripted_model")),
    *("gateway/decide", "runner/providers/claude", "runner/providers/codex", "indexer/store", "indexer/lists"),
]


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    config = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    start = config.index("[tool.importlinter]")
    (tmp_path / "pyproject.toml").write_text(config[start:], encoding="utf-8")
    for module in MODULES:
        folder = tmp_path / module
        folder.mkdir(parents=True)
        for package in [folder, *folder.parents]:
            if package == tmp_path:
                break
            (package / "__init__.py").touch()
    return tmp_path


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "lint-imports"
    command = [str(program), "--no-cache"]
    environment = {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LINT_S_MAX, check=False
    )


SERVICES_APART = "The services stand on podium and never import one another"
ONE_WAY = "Imports run one way inside podium, and every module has its place"
CLI_APART = "The CLI reaches the services over gRPC, never by import, and no service imports it"
SCRIPT_APART = "The scripted model knows no service, and no service knows it"
NATS = "Only podium.eventlog knows NATS"
DUCKDB = "Only the indexer's store and its SQL reader know DuckDB"
CLAUDE = "Only the Claude provider knows its SDK"


@pytest.mark.parametrize(
    ("module", "statement", "contract"),
    [
        ("gateway/decide", "import runner.providers", SERVICES_APART),
        ("indexer/lists", "import gateway.decide", SERVICES_APART),
        ("runner/providers/codex", "import indexer.store", SERVICES_APART),
        ("podium/rpc", "import gateway.decide", SERVICES_APART),
        ("podium/cli", "import gateway.decide", CLI_APART),
        ("gateway/decide", "import podium.cli", CLI_APART),
        ("podium/scripted_model", "import runner.providers", SCRIPT_APART),
        ("runner/providers/codex", "import podium.scripted_model", SCRIPT_APART),
        ("podium/session", "import podium.eventlog", ONE_WAY),
        ("podium/rpc", "import podium.cli", ONE_WAY),
        ("podium/utils", "", ONE_WAY),
        ("gateway/decide", "import nats", NATS),
        ("podium/rpc", "import nats.js", NATS),
        ("indexer/lists", "import duckdb", DUCKDB),
        ("gateway/decide", "import duckdb", DUCKDB),
        ("runner/providers/codex", "import claude_agent_sdk", CLAUDE),
    ],
)
def test_a_forbidden_import_breaks_its_contract(skeleton: Path, module: str, statement: str, contract: str) -> None:
    folder = skeleton / module
    folder.mkdir(exist_ok=True)
    (folder / "__init__.py").write_text(f"{statement}\n")

    done = lint(skeleton)

    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{contract} BROKEN" in done.stdout, done.stdout


def test_the_allowed_imports_keep_every_contract(skeleton: Path) -> None:
    allowed = {
        "podium/eventlog": "import nats\nimport podium.session\nimport podium.settings\n",
        "podium/cli": "import podium.rpc\nimport podium.eventlog\nimport podium.scripted_model\n",
        "gateway/decide": "import podium.session\nimport podium.eventlog\n",
        "indexer/store": "import duckdb\nimport podium.eventlog\n",
        "runner/providers/claude": "import claude_agent_sdk\n",
    }
    for module, text in allowed.items():
        (skeleton / module / "__init__.py").write_text(text)

    done = lint(skeleton)

    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    assert f"Contracts: {len(contracts)} kept, 0 broken." in done.stdout, done.stdout + done.stderr
