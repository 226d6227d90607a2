"""What a user's SQL may be: one SELECT that reads the catalog's tables and nothing else.

DuckDB 2.0 parses ``WITH x AS (COPY … TO 'file') SELECT …`` and INSERT, UPDATE and DELETE in the same place
as a SELECT, and reaches files, raw memory, logging and profiling by table functions. Both show in the parse
tree, so it is compared with what is allowed; `nhcatalog.query` shuts off files besides.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb

from nhcatalog.errors import UserError
from nhcatalog.macros import MACROS

QUERY_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
TABLE_FUNCTIONS = frozenset(
    {"generate_series", "histogram", "histogram_values", "json_each", "json_tree", "range", "unnest"}
    | {name for name, macro in MACROS.items() if macro.is_table}
)


class QueryError(UserError):
    """SQL that is refused or fails."""


class TooMuch(QueryError):
    """SQL that takes more memory or time than it may."""


def one_select(connection: duckdb.DuckDBPyConnection, query: str) -> duckdb.Statement:
    """The query as a parsed statement, if it is exactly one SELECT that only reads.

    Raises
    ------
    QueryError
        If it is not, or does not parse.
    """
    if "\0" in query:
        raise QueryError("the SQL holds a NUL character", "leave it out")
    if any("\ud800" <= character <= "\udfff" for character in query):  # what Python makes of bytes that are no text
        raise QueryError("the SQL is not UTF-8 text", "save it as UTF-8")
    try:
        statements = connection.extract_statements(query)
        (serialized,) = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()[0]
        tree = json.loads(serialized)
    except RecursionError:
        raise QueryError("the SQL is nested too deeply", "write it with fewer levels") from None
    except (duckdb.Error, ValueError, TypeError) as error:
        raise QueryError(one_line(error), "correct the SQL") from None
    if len(statements) != 1:
        raise QueryError(f"{len(statements)} SQL statements", "give exactly one SELECT (PIVOT needs ON … IN (…))")
    kind = statements[0].type.name
    if kind != "SELECT":
        raise QueryError(f"a statement of type {kind}", "give one SELECT (PIVOT needs ON … IN (…))")
    if tree["error"] or len(tree["statements"]) != 1:
        raise QueryError(tree.get("error_message", "not one statement"), "give exactly one SELECT")
    for node in _nodes(tree):
        _check(node)
    return statements[0]


def as_subquery(query: str) -> str:
    """Return the text of a statement in parentheses, without the semicolons at its end.

    Examples
    --------
    >>> as_subquery("select 1;")
    '(select 1\\n)'
    """
    content = query.encode(errors="surrogatepass")  # DuckDB counts bytes
    stop = len(content)
    for at, kind in reversed(duckdb.tokenize(query)):
        token = content[at:stop].strip()
        is_open = token.startswith(b"/*") and not token.endswith(b"*/")  # DuckDB says what is wrong with it
        if is_open or not (str(kind).endswith("comment") or token.startswith(b";")):
            break
        stop = at
    # DuckDB 1.5 lists no comments: one may be left, and ends with the line
    return f"({content[:stop].decode(errors='surrogatepass').rstrip()}\n)"


def one_line(error: BaseException) -> str:
    """DuckDB's message, suggestions included, without its picture of the SQL."""
    return " ".join(str(error).split("\n\nLINE ")[0].split())


def _check(node: dict[str, Any]) -> None:
    kind = str(node.get("type"))
    if kind.endswith("_NODE") and kind not in QUERY_NODES:
        raise QueryError(f"{kind.split('_')[0]} inside a SELECT", "leave it out: a query only reads")
    if kind == "TABLE_FUNCTION":
        name = str(node["function"].get("function_name")).lower()
        if name not in TABLE_FUNCTIONS:
            raise QueryError(
                f"the table function '{name}' is not allowed",
                f"read the catalog's tables, or use {', '.join(sorted(TABLE_FUNCTIONS))}",
            )


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
