"""Entry of the launcher: `python -I -S .../runner/launcher/__main__.py SPEC [ARGUMENT...]`.

-I and -S keep the environment and site-packages out of it, so the one path it needs is added here, last,
where nothing in it can stand in for the standard library.
"""

# Not pathlib: it alone would cost a third of the launcher's start.
# ruff: noqa: PTH100, PTH120
import os
import sys

sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from runner.launcher.supervise import main

if __name__ == "__main__":
    main(sys.argv[1:])
