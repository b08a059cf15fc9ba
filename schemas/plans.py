"""Which price gives which tier, from a TOML file; `load_plans` reads it, the rest is pure."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLES = ("prices", "lookup_keys", "products")

Place = tuple[str, str]
"""A table of the file, "" for none, and a key in it."""


class PlansError(Exception):
    """What is wrong with a plans file: one sentence a line, each naming file and line."""


@dataclass(frozen=True, slots=True)
class Price:
    """What identifies a price of a subscription; all but the id may be unknown."""

    id: str
    product: str | None = None
    lookup_key: str | None = None


@dataclass(frozen=True)
class Plans:
    """The tiers, lowest first, and what each price, lookup key and product gives."""

    default: str
    tiers: tuple[str, ...]
    prices: Mapping[str, str]
    lookup_keys: Mapping[str, str]
    products: Mapping[str, str]

    def rank(self, tier: str) -> int:
        """Return the place of a tier, 0 the lowest; -1 for one that is not in the list."""
        return self.tiers.index(tier) if tier in self.tiers else -1

    def tier_of(self, prices: Iterable[Price], hint: str | None) -> tuple[str, bool]:
        """Return the highest tier of these prices, and whether any of them is mapped.

        None mapped: the hint if it names a tier, else the default.
        """
        mapped = [tier for price in prices if (tier := self._mapped(price)) is not None]
        if mapped:
            return max(mapped, key=self.rank), True
        return (hint if hint in self.tiers else self.default) or self.default, False

    def _mapped(self, price: Price) -> str | None:
        return (
            self.prices.get(price.id)
            or self.lookup_keys.get(price.lookup_key or "")
            or self.products.get(price.product or "")
        )


def load_plans(path: Path) -> Plans:
    """Read a plans file; raises PlansError naming every problem with its line."""
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise PlansError(f"HOOKLINE_PLANS_FILE: cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PlansError(f"{path}: not TOML: {error}") from None
    problems = list(_problems(document))
    if problems:
        lines = [f"{path}, line {_line_of(text, *place)}: {what}" for place, what in problems]
        raise PlansError("\n".join(lines))
    return Plans(
        document["default"],
        tuple(document["tiers"]),
        *(dict(document.get(table, {})) for table in TABLES),
    )


def _problems(document: Mapping[str, Any]) -> Iterable[tuple[Place, str]]:
    """Yield each problem with the table and key it stands at."""
    tiers = document.get("tiers")
    if not isinstance(tiers, list) or not tiers or not all(_is_name(tier) for tier in tiers):
        yield (
            ("", "tiers"),
            'tiers must list the tiers, lowest first, as in tiers = ["starter", "pro"]',
        )
        return
    if len(set(tiers)) != len(tiers):
        yield ("", "tiers"), "tiers names a tier twice"
    if document.get("default") not in tiers:
        yield ("", "default"), f"default must be one of the tiers: {', '.join(tiers)}"
    for name in document.keys() - {"default", "tiers", *TABLES}:
        yield ("", name), f"{name} is not known here; the tables are {', '.join(TABLES)}"
    for table in TABLES:
        yield from _table_problems(table, document.get(table, {}), tiers)


def _table_problems(table: str, entries: Any, tiers: list[str]) -> Iterable[tuple[Place, str]]:
    if not isinstance(entries, dict):
        yield ("", table), f"{table} must be a table, [{table}]"
        return
    for key, tier in entries.items():
        if not _is_name(key):
            yield (table, key), f"{table} has an entry without a name"
        if tier not in tiers:
            yield (
                (table, key),
                f"{table}.{key} has the unknown tier {tier!r}; known: {', '.join(tiers)}",
            )


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _line_of(text: str, table: str, key: str) -> int:
    """Return the line where a key of a table stands, else that of the table, else 1."""
    entry = re.compile(rf"""\s*(?:{re.escape(table)}\s*\.\s*)?["']?{re.escape(key)}["']?\s*[.=]""")
    current, line_of_table = "", 1
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"""\s*\[+\s*["']?([^"'\]]*?)["']?\s*\]""", line)
        current = header.group(1) if header else current
        if table and re.match(rf"\s*\[?\s*{re.escape(table)}\b", line):
            line_of_table = number
        if (header and key == current) or (current in {table, ""} and entry.match(line)):
            return number
    return line_of_table
