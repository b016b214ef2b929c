"""Page tokens and sizes."""

import base64
import contextlib

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import paging
from podium.errors import InvalidArgument
from podium.v1 import session_service_pb2 as api

REQUEST = api.ListSessionsRequest(provider="claude", labels={"a": "1", "b": "2"})


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1), st.text(max_size=100))
def test_a_token_brings_back_where_the_page_ended(number: int, name: str) -> None:
    token = paging.token(REQUEST, [number, name])
    assert paging.key(REQUEST, token, int, str) == [number, name]


def test_the_first_page_needs_no_token() -> None:
    assert paging.key(REQUEST, "", int, str) is None


def test_page_size_and_position_may_change_between_pages() -> None:
    token = paging.token(REQUEST, [1, "x"])
    later = api.ListSessionsRequest(
        provider="claude", labels={"b": "2", "a": "1"}, page_size=7, page_token=token, at_least_position=9
    )
    assert paging.key(later, token, int, str) == [1, "x"]


def test_a_token_of_other_filters_is_refused() -> None:
    token = paging.token(REQUEST, [1, "x"])
    with pytest.raises(InvalidArgument, match="with the same filters"):
        paging.key(api.ListSessionsRequest(provider="codex"), token, int, str)


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "é",
        "====",
        "A" * 5000,
        base64.urlsafe_b64encode(orjson.dumps({"a": 1})).decode(),
        base64.urlsafe_b64encode(orjson.dumps([])).decode(),
        base64.urlsafe_b64encode(orjson.dumps([0, None, True])).decode(),
    ],
)
def test_a_token_that_is_none_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument, match="page_token"):
        paging.key(REQUEST, token, int, str)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_no_text_breaks_it(token: str) -> None:
    with contextlib.suppress(InvalidArgument):
        paging.key(REQUEST, token, int, str)


def test_a_token_with_values_of_other_types_is_refused() -> None:
    token = paging.token(REQUEST, [1, 2])
    with pytest.raises(InvalidArgument, match="page_token"):
        paging.key(REQUEST, token, int, str)


@pytest.mark.parametrize(("asked", "size"), [(0, 50), (1, 1), (1000, 1000), (1001, 1000)])
def test_a_page_has_fifty_unless_asked_and_a_thousand_at_most(asked: int, size: int) -> None:
    assert paging.page_size(asked) == size


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="page_size"):
        paging.page_size(-1)
