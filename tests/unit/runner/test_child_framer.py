"""A stream of bytes is cut into lines, however it arrives, and no line takes more memory than it may."""

from hypothesis import given
from hypothesis import strategies as st

from runner.providers.child import Framer, Line


def fed(framer: Framer, chunks: list[bytes]) -> list[Line]:
    lines = [line for chunk in chunks for line in framer.push(chunk)]
    rest = framer.rest()
    return lines if rest is None else [*lines, rest]


@given(st.lists(st.binary(max_size=20) | st.just(b"\n")))
def test_lines_do_not_depend_on_how_the_bytes_arrive(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    expected = whole.split(b"\n")
    expected = expected[:-1] if expected[-1] == b"" else expected
    found = fed(Framer(), chunks)
    assert [line.data for line in found] == expected
    assert all(line.size_bytes == len(line.data) for line in found)


@given(st.lists(st.binary(max_size=20)))
def test_a_line_that_is_too_long_is_cut_and_says_so(chunks: list[bytes]) -> None:
    whole = fed(Framer(), chunks)
    cut = fed(Framer(line_bytes_max=5), chunks)
    assert [(line.data[:5], line.size_bytes) for line in whole] == [(line.data, line.size_bytes) for line in cut]


def test_ten_megabytes_in_small_pieces_take_linear_time() -> None:
    framer = Framer()
    assert not [line for _ in range(10_000) for line in framer.push(b"x" * 1000)]
    (line,) = framer.push(b"\n")
    assert line.size_bytes == 10_000_000
