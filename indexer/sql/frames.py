"""The pipe between parent and worker: kind (one byte), length (four, little-endian), payload."""

import struct
from enum import Enum
from typing import BinaryIO

HEADER = struct.Struct("<cI")
MAX_BATCH_BYTES = 4 * 1024 * 1024  # stock Flight clients refuse 16 MB messages; gRPC's own default is 4
MAX_FRAME_BYTES = MAX_BATCH_BYTES + 64 * 1024  # a batch and its Arrow header


class Kind(Enum):
    """What a frame carries. Q and P go to the worker, the rest comes from it."""

    QUERY = b"Q"  # JSON: the request
    PARAMETERS = b"P"  # Arrow IPC stream of one row, after each QUERY; empty for none
    READY = b"R"  # nothing: imports done, waiting
    SCHEMA = b"S"  # Arrow IPC: the encapsulated schema message
    BATCH = b"B"  # Arrow IPC: one encapsulated record batch message
    NAMES = b"N"  # JSON: the placeholders' names, when only the schema was asked for
    END = b"E"  # JSON: {"rows": n, "bytes": n}
    ERROR = b"X"  # JSON: errors.to_wire


class BadFrame(Exception):
    """The other side sent what is no frame: it is broken, and nothing after it can be trusted."""


def parse_header(header: bytes) -> tuple[Kind, int]:
    """Return the kind and the payload's length in bytes; BadFrame when it is none or too long."""
    kind, length = HEADER.unpack(header)
    if length > MAX_FRAME_BYTES:
        raise BadFrame(f"a frame of {length} bytes; at most {MAX_FRAME_BYTES}")
    try:
        return Kind(kind), length
    except ValueError:
        raise BadFrame(f"no frame starts with {kind!r}") from None


def read_frame(stream: BinaryIO) -> tuple[Kind, bytes] | None:
    """Return the next frame, None when the other side is gone. Blocks."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    kind, length = parse_header(header)
    payload = stream.read(length)
    return (kind, payload) if len(payload) == length else None


def write_frame(stream: BinaryIO, kind: Kind, payload: "bytes | memoryview" = b"") -> None:
    """Write one frame whole. Blocks while the pipe is full: that is the backpressure."""
    stream.write(HEADER.pack(kind.value, len(payload)))
    stream.write(payload)
    stream.flush()
