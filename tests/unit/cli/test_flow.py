"""Text that comes in pieces looks the same as text that comes at once, and wraps at words."""

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from podium.cli.flow import Flow, printable


def shown(*pieces: str, width: int | None = None, first: str = "  ", indent: str = "  ", column: int = 0) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width or 80, force_terminal=width is not None, color_system=None)
    flow = Flow(console, first=first, indent=indent, column=column)
    for piece in pieces:
        flow.write(piece)
    flow.finish()
    return file.getvalue()


def test_each_line_is_indented() -> None:
    assert shown("one\ntwo\n\nthree") == "  one\n  two\n\n  three\n"


def test_the_first_line_may_begin_otherwise() -> None:
    assert shown("one\ntwo", first="> ") == "> one\n  two\n"


def test_a_terminal_wraps_at_words() -> None:
    assert shown("one two three four", width=12) == "  one two\n  three four\n"


def test_what_stands_on_the_line_already_counts() -> None:
    assert shown("one two", width=12, first=" ", indent="   ", column=6) == " one\n   two\n"


def test_wide_characters_count_twice() -> None:
    assert shown("日本 日本", width=10) == "  日本\n  日本\n"


def test_a_file_gets_lines_as_they_are() -> None:
    assert shown("word " * 40).count("\n") == 1


def test_indentation_of_code_is_kept() -> None:
    assert shown("def f():\n    return 1") == "  def f():\n      return 1\n"


def test_nothing_ends_no_line() -> None:
    assert shown() == ""


def test_control_characters_are_not_shown() -> None:
    assert printable("a\x1b[2Jb\x07\rc\x9bd") == "a[2Jbcd"


@given(st.text(alphabet="ab \n日\t", max_size=60), st.data(), st.integers(8, 30))
def test_the_cuts_between_pieces_do_not_show(text: str, data: st.DataObject, width: int) -> None:
    # A tab is as wide as where it stands says, so it is never at the end of a piece here.
    text = text.replace("\t", "  ")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert shown(*pieces, width=width) == shown(text, width=width)
