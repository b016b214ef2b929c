"""Write docs/errors.md: every reason with its gRPC code and what to do, and every problem that ends a turn.

    .venv/bin/python tools/document_errors.py            after a change to an error, a reason or a problem

The meaning comes from the two tables in the code. The gRPC codes come from where errors are raised: the source is
searched, so that the table cannot claim what nobody does. tests/project/test_documents.py proves the document fresh,
and that every reason and code in the source is in its table.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from podium import errors  # noqa: E402 - the packages are found through ROOT
from runner.providers import problems  # noqa: E402

DOCUMENT = ROOT / "docs/errors.md"
PACKAGES = ("podium", "gateway", "runner", "indexer")
# The CLI's own errors never cross the API; docs/cli.md has its exit codes.
LOCAL = ROOT / "podium/cli"
REASON = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")

INTRODUCTION = """\
# Errors

Made by `tools/document_errors.py`; do not edit.

## What a call fails with

A call that fails has a gRPC status code, a sentence for people that says what was found and what was expected, and a
`google.rpc.ErrorInfo` (in the standard `grpc-status-details-bin` trailer) for programs: `domain` is `podium`, `reason`
is one of the words below, `metadata` has the facts. Reasons are stable: a program may depend on them, not on sentences.

A call with the code `UNAVAILABLE` or `ABORTED` may be sent again as it is, a command with the same `request_id`: it has
one effect however often it arrives.

| reason | gRPC code | what to do |
|---|---|---|
"""

PROBLEMS = """
## What a turn fails with

A turn that fails or is lost is no failed call: the fact `turn_ended` has a `Problem` with one of these codes, and so
has the session while its status is `error`. The session stays usable. `retryable` says that the same prompt may succeed
a little later.

| code | retryable | what to do |
|---|---|---|
"""


def main() -> int:
    """Write the document anew."""
    DOCUMENT.write_text(document(), encoding="utf-8")
    return 0


def document() -> str:
    """Return the whole document."""
    codes = codes_by_reason()
    reasons = [
        f"| `{reason}` | {', '.join(f'`{code}`' for code in sorted(codes[reason]))} | {advice} |"
        for reason, advice in sorted(errors.REASONS.items())
        if codes[reason]
    ]
    retryable = problems.RETRYABLE | problems.RUNNER_RETRYABLE
    turns = [
        f"| `{code}` | {'yes' if code in retryable else 'no'} | {advice} |"
        for code, advice in sorted({**problems.PROBLEMS, **problems.RUNNER_PROBLEMS}.items())
    ]
    return INTRODUCTION + "\n".join(reasons) + "\n" + PROBLEMS + "\n".join(turns) + "\n"


def codes_by_reason() -> dict[str, set[str]]:
    """Return the gRPC codes with which each reason is raised anywhere in the services; FENCED never leaves a runner."""
    found: dict[str, set[str]] = defaultdict(set)
    for kind, reason in raised():
        if kind is not errors.Fenced:
            found[reason].add(kind.code)
    return found


def raised() -> Iterator[tuple[type[errors.PodiumError], str]]:
    """Yield the class and reason of every error that the source makes."""
    kinds = {kind.__name__: kind for kind in (*errors.PodiumError.__subclasses__(), errors.PodiumError)}
    for call in calls():
        kind = kinds.get(name_of(call.func))
        if kind is errors.InvalidArgument:
            given = [one.value for one in call.keywords if one.arg == "reason"]
            yield from ((kind, reason) for value in given for reason in words(value))
            if not given:
                yield kind, "INVALID_FIELD"
        elif kind is not None and call.args:
            yield from ((kind, reason) for reason in words(call.args[0]))


def problem_codes() -> set[str]:
    """Return every code with which the runner's source can end a turn: told by its first word."""
    found: set[str] = set()
    for tree in trees("runner"):
        found.update(word for word in words(tree) if word.startswith(("PROVIDER_", "RUNNER_", "WORKSPACE_", "PROMPT_")))
    return found


def calls() -> Iterator[ast.Call]:
    """Yield every call in the source of the services."""
    for package in PACKAGES:
        for tree in trees(package):
            yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def trees(package: str) -> Iterator[ast.AST]:
    """Yield the source of each module of a package, but for the CLI and generated code."""
    for path in sorted((ROOT / package).rglob("*.py")):
        if not path.is_relative_to(LOCAL) and not path.match("*_pb2*"):
            yield ast.parse(path.read_text(encoding="utf-8"))


def name_of(function: ast.expr) -> str:
    """Return the last part of a called name: `errors.NotFound` -> `NotFound`."""
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def words(value: ast.AST) -> Iterator[str]:
    """Yield the reasons that stand in an expression as they are."""
    for node in ast.walk(value):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and REASON.fullmatch(node.value):
            yield node.value


if __name__ == "__main__":
    sys.exit(main())
