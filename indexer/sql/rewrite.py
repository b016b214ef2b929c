"""GROUP BY a key, select its row: what PostgreSQL and MySQL take as a functional dependency, DuckDB does not. Pure.

`SELECT s.title, COUNT(m.id) … GROUP BY s.id` is a BinderException in DuckDB whatever keys are declared. Within a
group all rows of `s` are one row (or the NULLs of an outer join), so `any_value(s.title)` means the same. This wraps
such columns in DuckDB's own tree; the caller turns it back into text and sends that through the gate again.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from indexer.sql.functions import AGGREGATES

Node = dict[str, Any]
Render = Callable[[Node], str]  # an expression of the tree -> SQL

# The one complaint that starts a rewrite (DuckDB 2.0, binder; it ends differently for SELECT and for HAVING).
UNGROUPED_COLUMN = "must appear in the GROUP BY clause or "


@dataclass(frozen=True, slots=True)
class Relation:
    """A public view: its columns in order, and the one that identifies a row, if any."""

    columns: tuple[str, ...]
    key: str | None


def wrap_dependent_columns(
    statement: Mapping[str, Any], relations: Mapping[str, Relation], render: Render
) -> Node | None:
    """Return a copy of the statement with dependent columns in `any_value`, None when there are none.

    Args:
        statement: one entry of `statements`, as `json_serialize_sql` gives it.
        relations: the public views by lower-case name.
        render: gives the text of an expression, to keep the names of the answer's columns.
    """
    result: Node = copy.deepcopy(dict(statement))
    changed = [_Select(node, scope, relations, render).wrap() for node, scope in _selects(result["node"], frozenset())]
    return result if any(changed) else None


def _selects(value: Any, shadowed: frozenset[str]) -> Iterator[tuple[Node, frozenset[str]]]:
    """Yield each SELECT with the CTE names that hide views in it; inner ones first."""
    if isinstance(value, list):
        for item in value:
            yield from _selects(item, shadowed)
    elif isinstance(value, dict):
        entries = (value.get("cte_map") or {}).get("map", []) if "cte_map" in value else []
        inner = shadowed | {str(entry["key"]).lower() for entry in entries}
        for child in value.values():
            yield from _selects(child, inner)
        if value.get("type") == "SELECT_NODE":
            yield value, inner


class _Select:
    """One SELECT: which relations are grouped by their key, and which of their columns stand bare."""

    def __init__(self, node: Node, shadowed: frozenset[str], relations: Mapping[str, Relation], render: Render) -> None:
        self._node = node
        self._render = render
        self._changed = False
        self._sources = dict(_sources(node["from_table"], shadowed, relations))
        self._groups = [self._resolved(group) for group in self._group_columns()]
        self._grouped = {
            alias
            for alias, relation in self._sources.items()
            if relation is not None and relation.key is not None and (alias, relation.key) in self._groups
        }

    def wrap(self) -> bool:
        """Change the node in place; tell whether anything changed."""
        if not self._grouped or len(self._node["group_sets"]) != 1:
            return False  # with ROLLUP the key is NULL in some sets, and the row no longer follows from it
        names = {str(item["alias"] or _name(item) or "").lower() for item in self._node["select_list"]}
        self._node["select_list"] = [new for item in self._node["select_list"] for new in self._item(item)]
        for clause in ("having", "qualify"):
            self._node[clause] = self._expression(self._node[clause])
        for modifier in self._node["modifiers"]:
            for order in modifier.get("orders", []):
                # A bare name in ORDER BY is the answer's column of that name, which is wrapped already.
                if (_name(order["expression"], bare=True) or "").lower() not in names - {""}:
                    order["expression"] = self._expression(order["expression"])
        return self._changed

    def _group_columns(self) -> Iterator[Node]:
        """Yield the grouped expressions, `GROUP BY 1` looked up in the select list."""
        items = self._node["select_list"]
        for group in self._node["group_expressions"]:
            text = group.get("literal", {}).get("text", "") if group["class"] == "CONSTANT" else ""
            place = int(text) if text.isdigit() and len(text) < 6 else 0
            yield items[place - 1] if 0 < place <= len(items) else group

    def _resolved(self, node: Node) -> tuple[str, str] | None:
        """Return (relation's alias, column) in lower case for a column that belongs to exactly one known relation."""
        if node["class"] != "COLUMN_REF":
            return None
        path = [str(part).lower() for part in node["column_names"]]
        if len(path) == 2 and path[0] in self._sources:
            return path[0], path[1]
        if len(path) != 1 or None in self._sources.values():
            return None
        owners = [a for a, r in self._sources.items() if r is not None and path[0] in map(str.lower, r.columns)]
        return (owners[0], path[0]) if len(owners) == 1 else None

    def _item(self, item: Node) -> list[Node]:
        """Return what stands for one entry of the select list, under the names DuckDB would have given."""
        if item["class"] == "STAR":
            return self._star(item)
        if item["class"] == "COLUMN_REF":
            wrapped = self._expression(item)
            return [{**wrapped, "alias": item["alias"] or _name(item)}] if wrapped is not item else [item]
        before = copy.deepcopy(item)
        wrapped = self._expression(item)
        if wrapped != before and not item["alias"]:
            wrapped["alias"] = self._render(before)
        return [wrapped]

    def _star(self, star: Node) -> list[Node]:
        """Spell `s.*` out when `s` is grouped by its key; other stars stay as they are."""
        alias = str(star["relation_name"]).lower() or (next(iter(self._sources)) if len(self._sources) == 1 else "")
        plain = not any(star[k] for k in ("exclude_list", "replace_list", "rename_list", "columns", "expr"))
        relation = self._sources.get(alias)
        if not plain or relation is None or alias not in self._grouped or star["qualified_exclude_list"]:
            return [star]
        return [new for column in relation.columns for new in self._item(_column(alias, column))]

    def _expression(self, node: Any) -> Any:
        """Return the expression with dependent columns wrapped; aggregates and subqueries are left alone."""
        if isinstance(node, list):
            return [self._expression(item) for item in node]
        if not isinstance(node, dict):
            return node
        if node.get("class") == "COLUMN_REF":
            return self._column(node)
        if node.get("class") == "SUBQUERY" or _is_aggregate(node):
            return node
        for name, value in node.items():
            if isinstance(value, (dict, list)):
                node[name] = self._expression(value)
        return node

    def _column(self, node: Node) -> Node:
        found = self._resolved(node)
        if found is None or found[0] not in self._grouped or found in self._groups:
            return node
        self._changed = True
        return _call("any_value", _column(*found))


def _sources(
    table: Any, shadowed: frozenset[str], relations: Mapping[str, Relation]
) -> Iterator[tuple[str, Relation | None]]:
    """Yield (alias, view) for what FROM brings in; None for whatever is not a public view."""
    if not isinstance(table, dict) or table["type"] == "EMPTY":
        return
    if table["type"] == "JOIN":
        yield from _sources(table["left"], shadowed, relations)
        yield from _sources(table["right"], shadowed, relations)
        return
    name = str(table.get("table_name", "")).lower()
    alias = str(table["alias"]).lower() or name
    hidden = (
        table["type"] != "BASE_TABLE" or table["column_name_alias"] or (not table["schema_name"] and name in shadowed)
    )
    yield alias, None if hidden else relations.get(name)


def _name(node: Node, *, bare: bool = False) -> str | None:
    """Return the last name of a column reference; with `bare`, only when nothing stands before it."""
    if node["class"] != "COLUMN_REF" or (bare and len(node["column_names"]) > 1):
        return None
    return str(node["column_names"][-1])


def _is_aggregate(node: Node) -> bool:
    return node.get("class") == "FUNCTION" and str(node["function_name"]).lower() in AGGREGATES


def _column(relation: str, column: str) -> Node:
    return {
        "class": "COLUMN_REF",
        "type": "COLUMN_REF",
        "alias": "",
        "query_location": 0,
        "query_location_length": 0,
        "column_names": [relation, column],
    }


def _call(name: str, argument: Node) -> Node:
    return {
        "class": "FUNCTION",
        "type": "FUNCTION",
        "alias": "",
        "query_location": 0,
        "query_location_length": 0,
        "function_name": name,
        "schema": "",
        "filter": None,
        "order_bys": {"type": "ORDER_MODIFIER", "orders": []},
        "distinct": False,
        "is_operator": False,
        "export_state": False,
        "catalog": "",
        "arguments": [{"name": "", "expression": argument}],
        "qualified_name": {"path": [name]},
    }
