"""The gate: a query's text in, a vetted statement out, or a refusal that says what to change. Pure.

An allow-list over DuckDB's own syntax tree. Deny-lists fail: to DuckDB `WITH x AS (COPY … TO 'file') SELECT 1` is a
SELECT.
The tree's shape is in `grammar`, the function names in `functions`, the sizes in `bounds`; here is the walk.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from indexer.sql import bounds
from indexer.sql.errors import StatementRefused
from indexer.sql.functions import FUNCTIONS, TABLE_FUNCTIONS, TYPES, WINDOW_FUNCTIONS
from indexer.sql.grammar import (
    COMMON_FIELDS,
    CTE,
    EXPRESSIONS_BY_CLASS,
    PARTS_BY_TYPE,
    QUERIES_BY_TYPE,
    SAMPLE_CLAUSE,
    TABLES_BY_TYPE,
    Fields,
    Role,
)

Node = Mapping[str, Any]
Serialize = Callable[[str], Mapping[str, Any]]  # json_serialize_sql, as parsed JSON

MAX_STATEMENT_CHARS = 100_000
MAX_DEPTH = 150  # nodes within nodes; DuckDB's own limit is 1,000 and Python's stack is below that
MAX_NODES = 50_000

CATALOG = "podium"  # what the snapshot is attached as
SCHEMA = "main"
# Relations DuckDB finds without a schema beside ours; no CTE may take such a name, so a slip in scoping finds nothing.
RESERVED_PREFIXES = ("duckdb_", "pg_", "sqlite_", "pragma_")

_NOTHING: tuple[object, ...] = (None, "", False, 0, [])
_ONE_SELECT = "exactly one SELECT (WITH, VALUES, FROM, DESCRIBE, SUMMARIZE and SHOW TABLES included)"


@dataclass(frozen=True, slots=True)
class Vetted:
    """A statement that passed. `parameters` are the names of its placeholders: `1`, `2` for `?` and `$1`."""

    text: str
    tree: Mapping[str, Any]
    parameters: frozenset[str]


def vet(
    text: str,
    *,
    serialize: Serialize,
    relations: Iterable[str],
    parameters: Mapping[str, Any] | None = None,
) -> Vetted:
    """Return the statement when it is one SELECT over `relations` made of allowed parts.

    Args:
        text: at most MAX_STATEMENT_CHARS characters.
        serialize: DuckDB's `json_serialize_sql`; it parses and runs nothing.
        relations: the public views, without schema.
        parameters: values by placeholder name; None when the statement is only prepared.

    StatementRefused otherwise.
    """
    if len(text) > MAX_STATEMENT_CHARS:
        raise StatementRefused(
            f"a statement of {len(text)} characters",
            f"at most {MAX_STATEMENT_CHARS}",
            "pass long values as parameters",
        )
    statement = _single_statement(serialize(text))
    walk = _Walk(frozenset(name.lower() for name in relations), parameters)
    walk.query(statement["node"], frozenset(), 0, 1)
    names = frozenset(str(entry["key"]) for entry in statement["named_param_map"])
    return Vetted(text, statement, names)


def _single_statement(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    if tree.get("error"):
        message = str(tree.get("error_message", "a statement that does not parse"))
        if tree.get("error_type") == "not implemented":
            message = "a statement that is not a SELECT, or PIVOT without IN (…)"
        raise StatementRefused(message, _ONE_SELECT, "rewrite it as one SELECT; PIVOT needs its values: ON c IN (…)")
    statements: list[Mapping[str, Any]] = tree["statements"]
    if len(statements) != 1:
        raise StatementRefused(f"{len(statements)} statements", _ONE_SELECT, "send them one by one")
    return statements[0]


class _Walk:
    """One pass over one tree. `scope` holds the CTE names in sight, `gain` the product of amplifying calls around."""

    def __init__(self, relations: frozenset[str], parameters: bounds.Parameters) -> None:
        self._relations = relations
        self._parameters = parameters
        self._nodes = 0
        self._visitors: Mapping[Role, Callable[[Node, frozenset[str], int, int], None]] = {
            Role.EXPR: self.expression,
            Role.EXPRS: self.expression,
            Role.QUERY: self.query,
            Role.QUERIES: self.query,
            Role.TABLE: self.table,
            Role.PARTS: self._part,
            Role.SAMPLE: self._sample,
        }

    def query(self, node: Node, scope: frozenset[str], depth: int, gain: int) -> None:
        fields = self._enter(node, QUERIES_BY_TYPE, "type", "query", depth)
        scope = self._ctes(node.get("cte_map"), scope, depth + 1, gain)
        if node["type"] != "RECURSIVE_CTE_NODE":
            self._fields(node, fields, scope, depth, gain)
            return
        # Only the right side may read what the recursion has so far; on the left its name means something else.
        self.query(node["left"], scope, depth + 1, gain)
        self.query(node["right"], scope | {str(node["cte_name"]).lower()}, depth + 1, gain)
        rest = {name: role for name, role in fields.items() if name not in {"left", "right"}}
        self._fields({k: v for k, v in node.items() if k not in {"left", "right"}}, rest, scope, depth, gain)

    def _ctes(self, clause: Any, scope: frozenset[str], depth: int, gain: int) -> frozenset[str]:
        """Check each WITH entry in order; an entry sees those before it, never itself, unless it recurses."""
        for entry in (clause or {}).get("map", []):
            name = str(entry["key"]).lower()
            if name.startswith(RESERVED_PREFIXES):
                raise StatementRefused(
                    f"WITH {name}",
                    f"names that do not start with {', '.join(RESERVED_PREFIXES)}",
                    "choose another name",
                )
            self._fields(entry["value"], CTE, scope, depth, gain)
            scope = scope | {name}
        return scope

    def table(self, node: Node, scope: frozenset[str], depth: int, gain: int) -> None:
        fields = self._enter(node, TABLES_BY_TYPE, "type", "table reference", depth)
        if node["type"] == "BASE_TABLE":
            self._relation([str(part).lower() for part in node["qualified_name"]["path"]], scope)
        elif node["type"] == "TABLE_FUNCTION":
            self._table_function(node["function"], scope, depth + 1, gain)
            node = {key: value for key, value in node.items() if key != "function"}
        elif node["type"] == "SHOW_REF":
            self._show(node)
        self._fields(node, fields, scope, depth, gain)

    def _relation(self, path: list[str], scope: frozenset[str]) -> None:
        if path[:-1] == [] and path[-1] in scope:
            return
        if path[:-1] in ([], [SCHEMA], [CATALOG, SCHEMA]) and path[-1] in self._relations:
            return
        raise StatementRefused(
            f"the relation {'.'.join(path)}",
            f"{', '.join(sorted(self._relations))}, and the query's own WITH entries",
            "SHOW TABLES lists what can be read; SQL reads no files",
        )

    def _table_function(self, call: Node, scope: frozenset[str], depth: int, gain: int) -> None:
        path = [str(part).lower() for part in (call.get("qualified_name") or {}).get("path", [])]
        if call.get("class") != "FUNCTION" or len(path) != 1 or path[0] not in TABLE_FUNCTIONS:
            raise StatementRefused(
                f"the table function {'.'.join(path)}",
                ", ".join(sorted(TABLE_FUNCTIONS)),
                "read the public views instead",
            )
        fields = self._enter(call, EXPRESSIONS_BY_CLASS, "class", "expression", depth)
        self._fields(call, fields, scope, depth, gain)  # streams: its length costs time, which the deadline bounds

    def _show(self, node: Node) -> None:
        if node["show_type"] == "SHOW_SPECIAL" and str(node["table_name"]).strip('"').lower() == "tables":
            return
        if node["show_type"] != "SHOW_SPECIAL" and node["query"] is not None:
            return
        raise StatementRefused(f"SHOW {node['table_name']}", "SHOW TABLES, DESCRIBE, SUMMARIZE", "use one of these")

    def expression(self, node: Node, scope: frozenset[str], depth: int, gain: int) -> None:
        fields = self._enter(node, EXPRESSIONS_BY_CLASS, "class", "expression", depth)
        match node["class"]:
            case "FUNCTION":
                gain = self._call(node, FUNCTIONS, gain)
            case "WINDOW":
                gain = self._call(node, WINDOW_FUNCTIONS, gain)
            case "TYPE":
                gain = self._type(node, gain)
            case _:
                pass  # its fields say it all
        self._fields(node, fields, scope, depth, gain)

    def _call(self, node: Node, allowed: frozenset[str], gain: int) -> int:
        """Check the name; `title.upper()` arrives as a path too, and is the same call."""
        path = [str(part).lower() for part in node["qualified_name"]["path"]]
        name = path[-1]
        if name not in allowed or name != str(node["function_name"]).lower():
            raise StatementRefused(
                f"the function {'.'.join(path)}", "the functions listed in docs/sql.md", "compute it in another way"
            )
        if name not in bounds.AMPLIFIERS:
            return gain
        if len(path) > 1:
            raise StatementRefused(f"{name} written as a method", f"{name}(value, …)", "write it as a plain call")
        return self._amplified(name, gain * bounds.amplification(name, node["arguments"], self._parameters))

    def _type(self, node: Node, gain: int) -> int:
        path = [str(part).lower() for part in node["qualified_name"]["path"]]
        if len(path) != 1 or path[0] not in TYPES:
            raise StatementRefused(
                f"the type {'.'.join(path)}", "DuckDB's plain, list, struct and map types", "cast to one"
            )
        return self._amplified("array type", gain * bounds.array_size(node["children"]))

    @staticmethod
    def _amplified(name: str, gain: int) -> int:
        if gain > bounds.MAX_PRODUCT:
            raise StatementRefused(
                f"{name} nested to a size of {gain}", f"a product of at most {bounds.MAX_PRODUCT}", "make it smaller"
            )
        return gain

    def _enter(self, node: Node, kinds: Mapping[str, Fields], key: str, what: str, depth: int) -> Fields:
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            raise StatementRefused(
                "a statement nested too deeply or too large",
                f"{MAX_DEPTH} levels, {MAX_NODES} parts",
                "split it with WITH, or pass lists as one parameter",
            )
        kind = node.get(key)
        if not isinstance(kind, str) or kind not in kinds:
            raise StatementRefused(f"a {what} of kind {kind}", ", ".join(sorted(kinds)), "leave it out")
        return kinds[kind]

    def _fields(self, node: Node, fields: Fields, scope: frozenset[str], depth: int, gain: int) -> None:
        for name, value in node.items():
            if name in fields:
                self._field(f"{node.get('type', '')} {name}", value, fields[name], scope, depth + 1, gain)
            elif name not in COMMON_FIELDS or isinstance(value, (dict, list)):
                raise _unknown(f"{node.get('type', '')} {name}")

    def _field(self, where: str, value: Any, role: object, scope: frozenset[str], depth: int, gain: int) -> None:
        if isinstance(role, frozenset):
            if value not in role:
                raise StatementRefused(f"{where} {value}", ", ".join(sorted(role)), "leave it out")
        elif isinstance(role, Mapping):
            for item in _flat(value):
                self._fields(item, role, scope, depth, gain)
        else:
            self._role(where, value, role, scope, depth, gain)

    def _role(self, where: str, value: Any, role: object, scope: frozenset[str], depth: int, gain: int) -> None:
        match role:
            case Role.PLAIN | Role.EMPTY:
                if not (_is_plain(value) if role is Role.PLAIN else value in _NOTHING):
                    raise _unknown(where)
            case Role.CTES:
                pass  # checked before the rest, because it opens a scope
            case Role.EXPR | Role.EXPRS | Role.QUERY | Role.QUERIES | Role.TABLE | Role.PARTS | Role.SAMPLE:
                visit = self._visitors[role]
                for item in _flat(value):
                    visit(item, scope, depth, gain)
            case _:
                raise AssertionError(f"grammar gives {where} no known role: {role!r}")

    def _part(self, node: Node, scope: frozenset[str], depth: int, gain: int) -> None:
        self._fields(node, self._enter(node, PARTS_BY_TYPE, "type", "clause", depth), scope, depth, gain)

    def _sample(self, node: Node, scope: frozenset[str], depth: int, gain: int) -> None:
        self._fields(node, SAMPLE_CLAUSE, scope, depth, gain)


def _flat(value: Any) -> Iterable[Node]:
    """Yield the nodes in null, a node, a list of nodes, or a list of lists of nodes."""
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    elif value is not None:
        yield value


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    return not isinstance(value, dict)


def _unknown(where: str) -> StatementRefused:
    return StatementRefused(
        f"a part that is not offered ({where})", "the SELECT described in docs/sql.md", "leave it out"
    )
