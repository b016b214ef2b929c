"""Compile requirements/*.txt, pinned and hashed, from the dependencies that pyproject.toml declares.

The sets are nested (run < claude < image < test): the largest is resolved first and the smaller ones are
held to its versions, so that an environment can grow from one set to the next without a change.

    .venv/bin/python tools/compile_requirements.py             keeps every pin that still fits
    .venv/bin/python tools/compile_requirements.py --upgrade   takes the newest versions that fit
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"

# Largest first: the first one decides the versions.
SETS: dict[str, list[str]] = {
    "test": ["--extra", "claude", "--extra", "deploy", "--group", "test", "--group", "check"],
    "image": ["--extra", "claude", "--extra", "deploy"],
    "claude": ["--extra", "claude"],
    "run": [],
}


def main() -> int:
    """Write every set; return uv's exit code when one cannot be resolved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    upgrade: bool = parser.parse_args().upgrade
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        print("uv was not found beside this Python or on PATH; run bin/test once, it installs uv.", file=sys.stderr)
        return 1
    REQUIREMENTS.mkdir(exist_ok=True)
    for name, selection in SETS.items():
        done = subprocess.run(compile_command(uv, name, selection, upgrade=upgrade), cwd=ROOT, check=False)
        if done.returncode != 0:
            return done.returncode
    return 0


def compile_command(uv: str, name: str, selection: list[str], *, upgrade: bool) -> list[str]:
    """Return the uv command that writes one set for every supported Python and platform.

    No index address, no machine's path and no command line end up in the file.
    """
    command = [uv, "pip", "compile", "pyproject.toml", *selection]
    command += ["--universal", "--python-version", "3.11", "--generate-hashes"]
    command += ["--no-header", "--no-emit-index-url", "--no-emit-find-links", "--no-annotate", "--quiet"]
    command += ["--output-file", f"requirements/{name}.txt"]
    largest = next(iter(SETS))
    if name != largest:
        command += ["--constraints", f"requirements/{largest}.txt"]
    if upgrade:
        command.append("--upgrade")
    return command


if __name__ == "__main__":
    sys.exit(main())
