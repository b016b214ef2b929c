"""The folder that everything of a demo lies in."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tenacity

PATH_LENGTH_MAX = 40
"""The CLI puts sockets below it, whose paths may have 104 characters."""


@contextmanager
def own_folder(*, keep: bool) -> Iterator[Path]:
    """Make a folder with a short path, and remove it with all that is in it unless `keep`."""
    parent = Path(tempfile.gettempdir())
    if len(str(parent)) > PATH_LENGTH_MAX - len("/podium-demo-12345678"):
        parent = Path("/tmp")  # noqa: S108 - mkdtemp makes a name that nobody else has
    folder = Path(tempfile.mkdtemp(prefix="podium-demo-", dir=parent))
    try:
        yield folder
    finally:
        if not keep:
            _remove(folder)


@tenacity.retry(stop=tenacity.stop_after_delay(5), wait=tenacity.wait_fixed(0.1), reraise=True)
def _remove(folder: Path) -> None:
    """Remove the folder; a process that is just ending may write one more file."""
    if folder.exists():
        shutil.rmtree(folder)
