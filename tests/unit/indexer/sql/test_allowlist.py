"""The gate finds a forbidden part wherever it stands: every place of every legitimate tree is tried."""

import contextlib
import copy
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.sql.allowlist import MAX_DEPTH, Vetted, vet
from indexer.sql.errors import StatementRefused

Tree = dict[str, Any]
Serialize = Callable[[str], Tree]
PUBLIC = ("sessions", "session_messages")


def gate(text: str, serialize: Callable[[str], Mapping[str, Any]], parameters: dict[str, Any] | None = None) -> Vetted:
    return vet(text, serialize=serialize, relations=PUBLIC, parameters=parameters)


def passes(tree: Tree) -> bool:
    try:
        gate("", lambda _: tree)
    except StatementRefused:
        return False
    return True


def places(value: Any, kind: str) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of each node of a kind: `class` for expressions, else by its type's ending."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        if isinstance(child, dict) and isinstance(child.get("type"), str) and kind_of(child) == kind:
            yield value, key
        yield from places(child, kind)


def kind_of(node: Tree) -> str:
    if "class" in node:
        return "expression"
    if node["type"].endswith("_NODE"):
        return "query"
    if node["type"].endswith("_MODIFIER") or "null_order" in node:
        return "part"
    return "table"


@pytest.fixture(scope="module")
def forbidden(serialize: Serialize) -> dict[str, list[Tree]]:
    """Return what may stand nowhere, by kind of node."""

    def item(sql: str) -> Tree:
        node: Tree = serialize(f"SELECT {sql}")["statements"][0]["node"]["select_list"][0]
        return node

    def table(sql: str) -> Tree:
        node: Tree = serialize(f"FROM {sql}")["statements"][0]["node"]["from_table"]
        return node

    copying = serialize("WITH x AS (COPY (SELECT 1) TO 'f') SELECT 1")["statements"][0]["node"]["cte_map"]["map"][0]
    return {
        "expression": [item("getenv('x')"), item("(SELECT token FROM core.secrets)"), item("repeat('x', 2000000000)")],
        "table": [table("core.secrets"), table("duckdb_tables"), table("read_blob('x')"), table("(FROM core.secrets)")],
        "query": [copying["value"]["query_node"], serialize("FROM core.secrets")["statements"][0]["node"]],
        "part": [{"type": "UNHEARD_OF_MODIFIER"}],
    }


def test_every_place_of_every_legitimate_query_is_checked(
    corpus: list[str], serialize: Serialize, forbidden: dict[str, list[Tree]]
) -> None:
    tried = 0
    for sql in corpus:
        tree = serialize(sql)
        assert passes(tree), sql
        for kind, intruders in forbidden.items():
            for holder, key in list(places(tree["statements"][0], kind)):
                original = holder[key]
                for intruder in intruders:
                    holder[key] = intruder
                    assert not passes(tree), f"{intruder['type']} passes as {key} of {holder.get('type')} in {sql}"
                    tried += 1
                holder[key] = original
    assert tried > 3000


def test_an_unknown_field_anywhere_is_refused(corpus: list[str], serialize: Serialize) -> None:
    for sql in corpus:
        tree = serialize(sql)
        for kind in ("expression", "table", "query", "part"):
            for holder, key in list(places(tree["statements"][0], kind)):
                holder[key]["invented"] = {"type": "ANYTHING"}
                assert not passes(tree), f"an unknown field of {holder[key]['type']} passes in {sql}"
                del holder[key]["invented"]


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_trees_put_together_at_random_pass_only_without_intruders(
    seed: int, corpus: list[str], serialize: Serialize, forbidden: dict[str, list[Tree]]
) -> None:
    """Graft parts of legitimate queries into one another, then one intruder: it is found at any depth."""
    chance = random.Random(seed)
    tree = serialize(chance.choice(corpus))
    for _ in range(chance.randrange(4)):
        kind = chance.choice(["expression", "query"])
        donor = list(places(serialize(chance.choice(corpus))["statements"][0], kind))
        targets = list(places(tree["statements"][0], kind))
        if donor and targets:
            (source, name), (holder, key) = chance.choice(donor), chance.choice(targets)
            holder[key] = copy.deepcopy(source[name])
    kind = chance.choice(list(forbidden))
    targets = list(places(tree["statements"][0], kind))
    if targets:
        holder, key = chance.choice(targets)
        holder[key] = chance.choice(forbidden[kind])
        assert not passes(tree)


@given(text=st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_text_is_vetted_or_refused_and_nothing_else(text: str, serialize: Serialize) -> None:
    with contextlib.suppress(StatementRefused):
        assert gate(text, serialize).text == text


def test_depth_is_bounded_before_pythons_stack_is(serialize: Serialize) -> None:
    gate("SELECT " + "NOT " * (MAX_DEPTH // 2 - 10) + "true", serialize)
    for text in ("SELECT " + "NOT " * 400 + "true", "SELECT " + "(SELECT " * 90 + "1" + ")" * 90):
        with pytest.raises(StatementRefused, match="nested too deeply"):
            gate(text, serialize)


def test_a_placeholder_in_a_bounded_place_is_checked_when_it_has_a_value(serialize: Serialize) -> None:
    text = "SELECT repeat('x', $n)"
    assert gate(text, serialize).parameters == {"n"}
    gate(text, serialize, {"n": 10_000})
    for value in (10_001, -2_000_000_000, "99999999", 1e12, float("inf"), [1]):
        with pytest.raises(StatementRefused):
            gate(text, serialize, {"n": value})


@pytest.mark.parametrize(
    "text",
    [
        "SELECT repeat(title, least(message_count, 100)) FROM sessions",
        "SELECT range(len(list_value(1, 2)))",
        "SELECT range(10, 900000)",
        "SELECT repeat('x', 100 + 100)",
        "SELECT generate_series(DATE '2026-01-01', now()::DATE, INTERVAL '1 day')",
        "SELECT lpad(month(created_at)::VARCHAR, 2, '0'), lpad(day(created_at)::VARCHAR, 2, '0') FROM sessions",
        "SELECT max(title, 3), arg_max(title, created_at, 5) FROM sessions",
    ],
)
def test_bounded_amplification_passes(text: str, serialize: Serialize) -> None:
    gate(text, serialize)


def test_a_refusal_says_what_was_found_what_is_allowed_and_what_to_do(serialize: Serialize) -> None:
    with pytest.raises(StatementRefused) as caught:
        gate("SELECT * FROM core.secrets", serialize)
    refused = caught.value
    assert refused.found == "the relation core.secrets"
    assert refused.allowed.startswith("session_messages, sessions")
    assert "SHOW TABLES" in refused.remedy
