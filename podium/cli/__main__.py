"""`podium`, and `python -m podium.cli`."""

import os
import sys

from podium.cli import failures, output
from podium.cli.failures import Exit
from podium.errors import PodiumError


def main() -> int:
    """Run the command line; the exit code is one of `failures.Exit`."""
    # gRPC's own complaints on standard error say nothing that the error does not.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from podium.cli.app import app  # noqa: PLC0415 - after the environment that gRPC reads when it is imported

    try:
        app(prog_name="podium")
    except PodiumError as error:
        failures.show(error, as_json=output.Mode.as_json)
        return failures.exit_code(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main())
