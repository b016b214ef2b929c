"""The part of DuckDB's syntax tree that a query may use, as data: node kind -> field -> what may stand there.

The tree is what `json_serialize_sql` gives (DuckDB 2.0). A kind or a field that is not listed is refused,
so that a newer DuckDB fails closed. `tests/unit/indexer/sql/test_grammar.py` holds each entry to a query that needs it.

What may stand in a field:
    PLAIN   a scalar, or lists of scalars: carries no node
    EMPTY   null, "", false, 0 or an empty list: a feature that is not offered
    EXPR    an expression or null            EXPRS   a list of them, lists of lists included
    QUERY   a query node or null             QUERIES a list of them
    TABLE   a table reference or null
    PARTS   modifiers: ORDER BY, LIMIT, DISTINCT, each a node of its own
    SAMPLE  null or a sample clause          CTES    the WITH clause
    a dict  an unnamed structure, or a list of such
    a set   exactly one of these words
"""

from collections.abc import Mapping
from enum import Enum


class Role(Enum):
    """What a field of a node holds, and so how it is checked."""

    PLAIN = "plain"
    EMPTY = "empty"
    EXPR = "expression"
    EXPRS = "expressions"
    QUERY = "query"
    QUERIES = "queries"
    TABLE = "table"
    PARTS = "modifiers"
    SAMPLE = "sample"
    CTES = "ctes"


Fields = Mapping[str, object]  # field -> Role | frozenset[str] | Fields

PLAIN, EMPTY, EXPR, EXPRS = Role.PLAIN, Role.EMPTY, Role.EXPR, Role.EXPRS
QUERY, QUERIES, TABLE, PARTS, SAMPLE, CTES = (
    Role.QUERY,
    Role.QUERIES,
    Role.TABLE,
    Role.PARTS,
    Role.SAMPLE,
    Role.CTES,
)

_PATH: Fields = {"path": PLAIN}
_SUBSELECT: Fields = {"node": QUERY, "named_param_map": EMPTY}
_ARGUMENT: Fields = {"name": PLAIN, "expression": EXPR}
_CALL: Fields = {
    "function_name": PLAIN,
    "schema": PLAIN,
    "catalog": PLAIN,
    "qualified_name": _PATH,
    "arguments": _ARGUMENT,
    "distinct": PLAIN,
}
_QUERY: Fields = {"modifiers": PARTS, "cte_map": CTES}
_TABLE: Fields = {"alias": PLAIN, "sample": SAMPLE}
_ORDER: Fields = {"null_order": PLAIN, "expression": EXPR}

CTE: Fields = {
    "aliases": PLAIN,
    "materialized": PLAIN,
    "key_targets": EMPTY,
    "payload_aggregates": EMPTY,
    "query_node": QUERY,
}

SAMPLE_CLAUSE: Fields = {
    "sample_size": {"type": {"id": PLAIN, "type_info": EMPTY}, "is_null": PLAIN, "value": PLAIN},
    "is_percentage": PLAIN,
    "method": PLAIN,
    "seed": PLAIN,
    "repeatable": PLAIN,
    "sample_rate": PLAIN,
}

QUERIES_BY_TYPE: Mapping[str, Fields] = {
    "SELECT_NODE": {
        **_QUERY,
        "select_list": EXPRS,
        "from_table": TABLE,
        "where_clause": EXPR,
        "group_expressions": EXPRS,
        "group_sets": PLAIN,
        "aggregate_handling": PLAIN,
        "having": EXPR,
        "sample": SAMPLE,
        "qualify": EXPR,
    },
    "SET_OPERATION_NODE": {
        **_QUERY,
        "setop_type": PLAIN,
        "setop_all": PLAIN,
        "left": QUERY,
        "right": QUERY,
        "children": QUERIES,
    },
    "RECURSIVE_CTE_NODE": {
        **_QUERY,
        "cte_name": PLAIN,
        "union_all": PLAIN,
        "left": QUERY,
        "right": QUERY,
        "aliases": PLAIN,
        "key_targets": EMPTY,
    },
}

PARTS_BY_TYPE: Mapping[str, Fields] = {
    "ORDER_MODIFIER": {"orders": PARTS},
    "ORDER_DEFAULT": _ORDER,
    "ASCENDING": _ORDER,
    "DESCENDING": _ORDER,
    "LIMIT_MODIFIER": {"limit": EXPR, "offset": EXPR, "limit_type": PLAIN},
    "DISTINCT_MODIFIER": {"distinct_on_targets": EXPRS},
}

TABLES_BY_TYPE: Mapping[str, Fields] = {
    "BASE_TABLE": {
        **_TABLE,
        "schema_name": PLAIN,
        "table_name": PLAIN,
        "catalog_name": PLAIN,
        "qualified_name": _PATH,
        "column_name_alias": PLAIN,
        "at_clause": EMPTY,
    },
    "EMPTY": _TABLE,
    "EXPRESSION_LIST": {**_TABLE, "expected_names": PLAIN, "expected_types": EMPTY, "values": EXPRS},
    "JOIN": {
        **_TABLE,
        "left": TABLE,
        "right": TABLE,
        "condition": EXPR,
        "join_type": PLAIN,
        "ref_type": frozenset({"ASOF", "CROSS", "NATURAL", "POSITIONAL", "REGULAR"}),
        "using_columns": PLAIN,
        "delim_flipped": PLAIN,
        "duplicate_eliminated_columns": EMPTY,
        "is_implicit": PLAIN,
        "ranking_expression": EMPTY,
        "nearest_count": PLAIN,
        "nearest_order_type": PLAIN,
        "nearest_approx": EMPTY,
    },
    "PIVOT": {
        **_TABLE,
        "source": TABLE,
        "aggregates": EXPRS,
        "unpivot_names": PLAIN,
        "pivots": {
            "pivot_expressions": EXPRS,
            "unpivot_names": PLAIN,
            "entries": {"values": PLAIN, "star_expr": EXPR, "alias": PLAIN},
            "pivot_enum": EMPTY,
        },
        "groups": PLAIN,
        "column_name_alias": PLAIN,
        "include_nulls": PLAIN,
    },
    "SHOW_REF": {
        **_TABLE,
        "table_name": PLAIN,
        "query": QUERY,
        "show_type": frozenset({"DESCRIBE", "SUMMARY", "SHOW_SPECIAL"}),
        "catalog_name": EMPTY,
        "schema_name": EMPTY,
        "qualified_name": _PATH,
    },
    "SUBQUERY": {**_TABLE, "subquery": _SUBSELECT, "column_name_alias": PLAIN},
    "TABLE_FUNCTION": {**_TABLE, "function": EXPR, "column_name_alias": PLAIN, "with_ordinality": PLAIN},
}

EXPRESSIONS_BY_CLASS: Mapping[str, Fields] = {
    "BETWEEN": {"input": EXPR, "lower": EXPR, "upper": EXPR},
    "CASE": {"case_checks": {"when_expr": EXPR, "then_expr": EXPR}, "else_expr": EXPR},
    "CAST": {"child": EXPR, "try_cast": PLAIN, "type_expr": EXPR},
    "COLLATE": {"child": EXPR, "collation": PLAIN},
    "COLUMN_REF": {"column_names": PLAIN},
    "COMPARISON": {"left": EXPR, "right": EXPR},
    "CONJUNCTION": {"children": EXPRS},
    "CONSTANT": {"literal": {"kind": PLAIN, "text": PLAIN}},
    "FUNCTION": {**_CALL, "filter": EXPR, "order_bys": PARTS, "is_operator": PLAIN, "export_state": EMPTY},
    "LAMBDA": {"lhs": EXPR, "expr": EXPR, "syntax_type": PLAIN},
    "OPERATOR": {"children": EXPRS},
    "PARAMETER": {"identifier": PLAIN},
    "POSITIONAL_REFERENCE": {"index": PLAIN},
    "STAR": {
        "relation_name": PLAIN,
        "exclude_list": PLAIN,
        "replace_list": {"key": PLAIN, "value": EXPR},
        "columns": PLAIN,
        "expr": EXPR,
        "qualified_exclude_list": {"catalog": PLAIN, "schema": PLAIN, "table": PLAIN, "column": PLAIN},
        "rename_list": {
            "key": {"catalog": PLAIN, "schema": PLAIN, "table": PLAIN, "column": PLAIN},
            "value": PLAIN,
        },
    },
    "SUBQUERY": {"subquery_type": PLAIN, "subquery": _SUBSELECT, "child": EXPR, "comparison_type": PLAIN},
    "TYPE": {"catalog": EMPTY, "schema": EMPTY, "type_name": PLAIN, "children": EXPRS, "qualified_name": _PATH},
    "WINDOW": {
        **_CALL,
        "partitions": EXPRS,
        "orders": PARTS,
        "start": PLAIN,
        "end": PLAIN,
        "start_expr": EXPR,
        "end_expr": EXPR,
        "offset_expr": EXPR,
        "default_expr": EXPR,
        "ignore_nulls": PLAIN,
        "has_ignore_nulls": PLAIN,
        "filter_expr": EXPR,
        "exclude_clause": PLAIN,
        "arg_orders": PARTS,
    },
}

# Fields of every node, checked elsewhere or without meaning for safety.
COMMON_FIELDS = frozenset({"type", "class", "alias", "query_location", "query_location_length"})
