"""Generate podium/v1 from proto/podium/v1: messages, gRPC code and typed stubs for both.

The generated code is checked in, because a build hook goes stale in an editable install;
tests/project/test_contract.py proves it fresh. mypy-protobuf writes the stubs, because protoc's own
`--pyi_out` leaves servicers and channels untyped.

    .venv/bin/python tools/generate_proto.py                  after a change to a .proto file
    .venv/bin/python tools/generate_proto.py --move-baseline  at a release: what clients may rely on from now on
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
PACKAGE = Path("podium/v1")
# The image of the last release that `buf breaking` compares with.
BASELINE = PROTO / "baseline.binpb"
SCRIPTS = Path(sys.executable).parent


class GenerationError(Exception):
    """protoc or buf refused; what they found is on stderr."""


def main() -> int:
    """Bring podium/v1 up to date, or move the baseline."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--move-baseline", action="store_true", help="make today's contract the released one")
    move_baseline: bool = parser.parse_args().move_baseline
    try:
        if move_baseline:
            build_image(BASELINE)
        else:
            replace_generated()
    except GenerationError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def replace_generated() -> None:
    """Write podium/v1 anew and remove what a deleted .proto file left there."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = generated_files(Path(folder))
    target = ROOT / PACKAGE
    for name in generated_files(ROOT).keys() - fresh.keys():
        (target / name).unlink()
    for name, content in fresh.items():
        (target / name).write_bytes(content)
    print(f"{len(fresh)} files in {PACKAGE}")


def generate(destination: Path) -> None:
    """Generate everything below `destination`/podium/v1.

    Raises:
        GenerationError: protoc found a mistake in a .proto file.
    """
    sources = sorted(path.relative_to(PROTO).as_posix() for path in (PROTO / PACKAGE).glob("*.proto"))
    command = [
        "protoc",
        f"--proto_path={PROTO}",
        f"--proto_path={Path(grpc_tools.__file__).parent / '_proto'}",
        f"--proto_path={google_rpc_protos()}",
        f"--plugin=protoc-gen-mypy={SCRIPTS / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={SCRIPTS / 'protoc-gen-mypy_grpc'}",
        f"--python_out={destination}",
        f"--grpc_python_out={destination}",
        f"--mypy_out=quiet:{destination}",
        f"--mypy_grpc_out=quiet:{destination}",
        *sources,
    ]
    if protoc.main(command) != 0:
        raise GenerationError("protoc found the mistakes above; podium/v1 is as it was.")


def generated_files(root: Path) -> dict[str, bytes]:
    """Return the generated files below `root`/podium/v1 by name."""
    return {path.name: path.read_bytes() for path in sorted((root / PACKAGE).glob("*_pb2*.py*"))}


def google_rpc_protos() -> Path:
    """Return the folder in which `google/rpc/*.proto` lies (googleapis-common-protos)."""
    return Path(str(metadata.distribution("googleapis-common-protos").locate_file("")))


def build_image(destination: Path) -> None:
    """Write the contract as one descriptor set.

    Raises:
        GenerationError: buf found a mistake in a .proto file.
    """
    command = [str(SCRIPTS / "buf"), "build", "--exclude-source-info", "--output", str(destination)]
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        raise GenerationError("buf found the mistakes above; the baseline is as it was.")


if __name__ == "__main__":
    sys.exit(main())
