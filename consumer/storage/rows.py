"""Many rows in one statement: columns travel as arrays and meet again in unnest()."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import TextClause, text


class Rows:
    """A set of rows with named columns of given PostgreSQL types, as one parameter a column.

    Arrays are bound in binary (engine.py), which is what makes this fast. A column of type
    jsonb travels as text and is cast: an array of jsonb would turn None into JSON's null.
    """

    def __init__(self, **columns: str) -> None:
        self._columns = columns
        self.names = ", ".join(columns)
        self.selected = ", ".join(
            f"CAST(new.{name} AS {kind})" if _carrier(kind) != kind else f"new.{name}"
            for name, kind in columns.items()
        )
        arrays = ", ".join(f"CAST(:{name} AS {_carrier(kind)}[])" for name, kind in columns.items())
        self.source = f"unnest({arrays}) AS new ({self.names})"

    def bind(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Turn rows into columns of equal length; raises KeyError for a row that lacks one."""
        return {name: [row[name] for row in rows] for name in self._columns}

    def insert(self, table: str, rest: str = "") -> TextClause:
        """Return the INSERT of these rows into a table, with what follows the SELECT."""
        return text(
            f"INSERT INTO {table} ({self.names}) "  # noqa: S608 - names from this code only
            f"SELECT {self.selected} FROM {self.source} {rest}"
        )


def array_literal(items: Iterable[str]) -> str:
    """Spell a text[] as PostgreSQL reads it: a ragged array of arrays cannot be bound."""
    quoted = ('"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"' for item in items)
    return "{" + ",".join(quoted) + "}"


def _carrier(kind: str) -> str:
    return "text" if kind in {"jsonb", "text[]"} else kind
