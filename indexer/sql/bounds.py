"""How much one call may blow up its argument: the counts of `repeat`, `range` and their like, read from the tree.

A courtesy that answers at once and in words; the guarantee is the worker's memory limit and its deadline
(`repeat('x', 2e9)` ignores both of DuckDB's own), because data can always be doubled by a join or a recursion.
"""

import re
from collections.abc import Mapping
from typing import Any

from indexer.sql.errors import StatementRefused
from indexer.sql.functions import FUNCTIONS

Node = Mapping[str, Any]
Parameters = Mapping[str, Any] | None  # None: not known yet (a statement that is only prepared)

MAX_REPEAT = 10_000  # characters, elements or copies made by one call
MAX_RANGE = 1_000_000  # elements of a list made by one call of range or generate_series
MAX_PRODUCT = 10_000_000  # of calls nested in one another's arguments
UNKNOWN_YET = 1  # a parameter without a value: checked when it has one

# function -> place of the argument that says how much.
_COUNT_ARGUMENT: Mapping[str, int] = {
    "repeat": 1,
    "lpad": 1,
    "rpad": 1,
    "bar": 3,
    "list_resize": 1,
    "array_resize": 1,
    "to_base": 2,
    "bitstring": 1,
    "approx_top_k": 1,
    "reservoir_quantile": 2,
    "equi_width_bins": 2,
    "arg_max": 2,
    "arg_min": 2,
    "max_by": 2,
    "min_by": 2,
    "argmax": 2,
    "argmin": 2,
    "max": 1,
    "min": 1,
}
_SERIES = frozenset({"range", "generate_series"})
_FORMATS = frozenset({"format", "printf"})
_SIZES = frozenset({"len", "length", "array_length", "list_count", "cardinality", "strlen", "json_array_length"})
_INTERVALS = frozenset(name for name in FUNCTIONS if re.fullmatch(r"to_\w+s|to_(centuries|millennia)", name))
AMPLIFIERS = frozenset(_COUNT_ARGUMENT) | _SERIES | _FORMATS


def amplification(name: str, arguments: list[Node], parameters: Parameters) -> int:
    """Return by how much a call of the amplifier `name` may multiply its argument, at least 1.

    StatementRefused when that cannot be told from the text, or is over the limit.
    """
    if any(argument["name"] for argument in arguments):
        raise _refused(name, "a named argument", MAX_REPEAT)
    expressions = [argument["expression"] for argument in arguments]
    if name in _SERIES:
        return _series(name, expressions, parameters)
    if name in _FORMATS:
        return _format_width(name, expressions)
    place = _COUNT_ARGUMENT[name]
    if len(expressions) <= place:
        return 1
    return _within(name, bound(expressions[place], parameters), MAX_REPEAT)


def array_size(children: list[Node]) -> int:
    """Return the size of an array type, `INTEGER[3]` -> 3, and 1 for types without a size."""
    sizes = [bound(child, {}) or 1 for child in children if child.get("class") == "CONSTANT"]
    return _within("array type", max(sizes, default=1), MAX_REPEAT)


def bound(expression: Node, parameters: Parameters) -> int | None:
    """Return the largest magnitude the expression can have as a number, None when the text does not tell.

    Known: whole numbers, parameters with a value, their casts, `least(x, 10)`, and the length of something that is
    there already, which cannot blow it up by more than one.
    """
    match expression["class"]:
        case "CONSTANT":
            return _literal(expression["literal"])
        case "CAST":
            return bound(expression["child"], parameters)
        case "PARAMETER":
            return _parameter(expression["identifier"], parameters)
        case "FUNCTION":
            return _call_bound(expression, parameters)
        case _:
            return None


def _call_bound(call: Node, parameters: Parameters) -> int | None:
    name = str(call["function_name"]).lower()
    bounds = [bound(argument["expression"], parameters) for argument in call["arguments"]]
    if name == "least":
        return min((b for b in bounds if b is not None), default=None)
    if name in _SIZES and len(bounds) == 1:
        return 1
    if name in {"+", "-"} and bounds and None not in bounds:
        return sum(b for b in bounds if b is not None)
    return None


def _literal(literal: Mapping[str, Any]) -> int | None:
    if literal["kind"] == "NULL_LITERAL":
        return 0
    text = str(literal.get("text", ""))
    try:
        return abs(int(text)) if len(text) < 40 else None
    except ValueError:
        pass
    try:
        return abs(int(float(text)))
    except (ValueError, OverflowError):
        return None


def _parameter(identifier: str, parameters: Parameters) -> int | None:
    if parameters is None:
        return UNKNOWN_YET
    value = parameters.get(identifier, 0)  # a missing one fails later, with DuckDB's own words
    if value is None:
        return 0
    try:
        return abs(int(value))
    except (TypeError, ValueError, OverflowError):
        return None


def _series(name: str, expressions: list[Node], parameters: Parameters) -> int:
    if len(expressions) == 3 and _is_interval(expressions[2]):
        return 1  # between two moments: only the memory limit and the deadline can tell
    bounds = [bound(expression, parameters) for expression in expressions]
    if None in bounds:
        return _within(name, None, MAX_RANGE)
    return _within(name, sum(b for b in bounds[:2] if b is not None), MAX_RANGE)


def _is_interval(expression: Node) -> bool:
    if expression["class"] == "CAST":
        return str(expression["type_expr"].get("type_name", "")).lower() == "interval"
    return expression["class"] == "FUNCTION" and str(expression["function_name"]).lower() in _INTERVALS


def _format_width(name: str, expressions: list[Node]) -> int:
    if not expressions:
        return 1
    first = expressions[0]
    if first["class"] != "CONSTANT":
        raise _refused(name, "a format that is not written in the query", MAX_REPEAT)
    text = str(first["literal"].get("text", ""))
    if re.search(r"\{[^{}]*\{|%[^a-zA-Z%]*\*", text):
        raise _refused(name, "a width that is taken from an argument", MAX_REPEAT)
    return _within(name, max((int(digits[:20]) for digits in re.findall(r"\d+", text)), default=1), MAX_REPEAT)


def _within(name: str, count: int | None, limit: int) -> int:
    if count is None:
        raise _refused(name, "a size that the text does not bound", limit)
    if count > limit:
        raise _refused(name, f"a size of {count}", limit)
    return max(count, 1)


def _refused(name: str, found: str, limit: int) -> StatementRefused:
    return StatementRefused(
        f"{name} with {found}",
        f"a whole number up to {limit}, a parameter, or least(x, {limit})",
        f"bound it, for example with least(x, {min(limit, 1000)}), or as a table: FROM range(…)"
        if name in _SERIES
        else f"bound it, for example with least(x, {min(limit, 1000)})",
    )
