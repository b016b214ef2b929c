"""Copy one file durably, in a process of its own: `python -I -S copy_file.py SOURCE TARGET`. Standard library only.

Of its own because POSIX locks belong to a process: closing any handle on the live DuckDB file inside the process that
has it open would drop DuckDB's lock, and a second writer could come in. Also because it can be killed.
"""

import contextlib
import fcntl
import os
import sys
from pathlib import Path

_FICLONE = 0x40049409  # linux/fs.h: share the blocks where the file system can (XFS, btrfs)
_CHUNK_BYTES = 16 * 1024 * 1024


def copy(source: Path, target: Path) -> None:
    """Make `target` a copy of `source` that is on disk when this returns, or is not there at all."""
    partial = target.with_suffix(".partial")
    with source.open("rb", buffering=0) as reader, partial.open("xb", buffering=0) as writer:
        _transfer(reader.fileno(), writer.fileno())
        os.fchmod(writer.fileno(), 0o400)
        os.fsync(writer.fileno())
    partial.rename(target)
    folder = os.open(target.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def _transfer(reader: int, writer: int) -> None:
    with contextlib.suppress(OSError):  # no shared blocks here: copy them
        fcntl.ioctl(writer, _FICLONE, reader)
        return
    size = os.fstat(reader).st_size
    done = 0
    while done < size:
        piece = os.pread(reader, min(_CHUNK_BYTES, size - done), done)
        if not piece:
            raise OSError(f"the file shrank from {size} to {done} bytes while it was copied")
        done += _written(writer, piece)


def _written(writer: int, piece: bytes) -> int:
    view = memoryview(piece)
    while view:
        view = view[os.write(writer, view) :]
    return len(piece)


if __name__ == "__main__":
    copy(Path(sys.argv[1]), Path(sys.argv[2]))
