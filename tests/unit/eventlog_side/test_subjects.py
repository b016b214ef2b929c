import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.errors import InvalidArgument
from podium.eventlog.subjects import name_of, part

tokens = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True).filter(lambda name: ".." not in name)


@given(tokens)
def test_a_name_is_one_part_of_a_subject_and_comes_back(name: str) -> None:
    assert "." not in part(name)
    assert name_of(part(name)) == name


@pytest.mark.parametrize("name", ["", "a b", "a>", "*", "A", "a~b", "é", "a..b", "x" * 64])
def test_what_is_no_name_never_becomes_a_subject(name: str) -> None:
    with pytest.raises(InvalidArgument):
        part(name)
