"""Copy one file durably, in a process of its own: `python -I -S copy_file.py SOURCE TARGET`. Standard library only.

Of its own because POSIX locks belong to a process: closing any handle on the live DuckDB file inside the process that
has it open would drop DuckDB's lock, and a second writer could come in. Also because it can be killed.
"""

import fcntl
import os
import sys

_FICLONE = 0x40049409  # linux/fs.h: share the blocks where the file system can (XFS, btrfs)
_CHUNK_BYTES = 16 * 1024 * 1024


def copy(source: str, target: str) -> None:
    """Make `target` a copy of `source` that is on disk when this returns, or is not there at all."""
    partial = f"{target}.partial"
    with open(source, "rb", buffering=0) as reader, open(partial, "xb", buffering=0) as writer:
        _transfer(reader.fileno(), writer.fileno())
        os.fchmod(writer.fileno(), 0o400)
        os.fsync(writer.fileno())
    os.rename(partial, target)
    folder = os.open(os.path.dirname(target), os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def _transfer(reader: int, writer: int) -> None:
    try:
        fcntl.ioctl(writer, _FICLONE, reader)
        return
    except OSError:
        pass  # no shared blocks here: copy them
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
    copy(sys.argv[1], sys.argv[2])
