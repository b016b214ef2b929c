"""The documents say what is so: tables are made from the code, examples are the tested files, what is named exists."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from podium import auth, errors
from podium.eventlog import servercommand
from runner.providers import problems

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
README, ARCHITECTURE = ROOT / "README.md", ROOT / "ARCHITECTURE.md"
EXAMPLES = {"python": ROOT / "examples/python/client.py", "js": ROOT / "examples/node/client.mjs"}
FOLDERS = r"(?:podium|gateway|runner|indexer|proto|tests|tools|deploy|bench|docs|examples|bin)"


def test_the_tables_of_settings_are_fresh() -> None:
    made = tool("document_settings")
    text = made.DOCUMENT.read_text(encoding="utf-8")
    assert text == made.documented(text), "run `.venv/bin/python tools/document_settings.py`"


def test_every_setting_has_a_meaning() -> None:
    made = tool("document_settings")
    fields = [(name, field) for settings, _ in made.TABLES.values() for name, field in settings.model_fields.items()]
    assert [name for name, field in fields if not field.description] == []
    assert len(fields) > 40


def test_every_setting_of_the_nats_server_is_in_its_table() -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    source = Path(servercommand.__file__).read_text(encoding="utf-8")
    names = set(re.findall(r'values\.(?:text|needed|number|secret)\("(\w+)"\)', source))
    assert [name for name in sorted(names) if f"`PODIUM_NATS_{name}`" not in text] == []
    assert "`PODIUM_NATS_PASSWORD_<ROLE>`" in text
    assert len(names) > 10


def test_the_table_of_commands_is_fresh() -> None:
    made = tool("document_commands")
    text = made.DOCUMENT.read_text(encoding="utf-8")
    assert text == made.documented(text), "run `.venv/bin/python tools/document_commands.py`"


def test_the_table_of_errors_is_fresh() -> None:
    made = tool("document_errors")
    assert made.DOCUMENT.read_text(encoding="utf-8") == made.document(), (
        "run `.venv/bin/python tools/document_errors.py`"
    )


def test_every_reason_that_is_raised_is_in_the_table_of_reasons() -> None:
    raised = tool("document_errors").codes_by_reason()
    assert sorted(raised.keys() - errors.REASONS.keys()) == []
    assert len(raised) > 20


def test_every_code_that_ends_a_turn_is_in_a_table_of_problems() -> None:
    codes = tool("document_errors").problem_codes()
    assert sorted(codes - problems.PROBLEMS.keys() - problems.RUNNER_PROBLEMS.keys()) == []
    assert codes >= {"RUNNER_LOST", "PROVIDER_NOT_LOGGED_IN"}


@pytest.mark.parametrize("language", EXAMPLES)
def test_the_readmes_example_is_the_tested_one(language: str) -> None:
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    example = EXAMPLES[language].read_text(encoding="utf-8")
    assert blocks
    assert [block for block in blocks if block not in example] == [], f"README.md differs from {EXAMPLES[language]}"


def test_every_test_that_proves_a_promise_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", ARCHITECTURE.read_text(encoding="utf-8"))
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).is_file()
        or not re.search(
            rf"^\s*(?:async )?(?:def|class) {name}\b", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE
        )
    ]
    assert missing == []
    assert len(named) > 30


def test_every_promise_has_its_proof() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8").partition("| promise | proof |")[2].partition("\n\n")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [row for row in rows if "`tests/" not in row] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_document_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert [found for found in links(document, text) if not leads_somewhere(document, found)] == []
    paths = re.findall(rf"`({FOLDERS}/[\w/.-]*[\w/])`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_command_that_makes_a_token_makes_one(tmp_path: Path) -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    found = re.search(r"^python (-c 'import json; .*')$", text, re.MULTILINE)
    assert found is not None
    command = [sys.executable, *shlex.split(found[1])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    token, entry = done.stdout.splitlines()

    auth.write_tokens(tmp_path / "tokens.json", [json.loads(entry)])
    whose = auth.Tokens.read(tmp_path / "tokens.json").authenticate(token)

    assert whose.name == "ci"
    assert whose.roles == {auth.Role.READ, auth.Role.RUN, auth.Role.APPROVE}


def tool(name: str) -> ModuleType:
    """Return a program of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def links(document: Path, text: str) -> Iterator[str]:
    """Yield the links of a document that stay within the project."""
    code = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
    for found in re.findall(r'(?:\]\(|src=")([^)"\s]+)[)"]', code.sub("", text)):
        if "://" not in found:
            yield found


def leads_somewhere(document: Path, link: str) -> bool:
    """Whether a link's file exists, and its heading, where it names one."""
    path, _, anchor = link.partition("#")
    target = (document.parent / path) if path else document
    if not target.exists():
        return False
    if not anchor or target.suffix != ".md":
        return True
    headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
    return anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
