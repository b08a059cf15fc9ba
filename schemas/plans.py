"""Which price gives which tier, from a TOML file; `load_plans` reads it, the rest is pure."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLES = ("prices", "lookup_keys", "products")


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
        lines = [f"{path}, line {_line_of(text, key)}: {problem}" for key, problem in problems]
        raise PlansError("\n".join(lines))
    return Plans(
        document["default"],
        tuple(document["tiers"]),
        *(dict(document.get(table, {})) for table in TABLES),
    )


def _problems(document: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Yield each problem with the key it stands at."""
    tiers = document.get("tiers")
    if not isinstance(tiers, list) or not tiers or not all(_is_name(tier) for tier in tiers):
        yield "tiers", 'tiers must list the tiers, lowest first, as in tiers = ["starter", "pro"]'
        return
    if len(set(tiers)) != len(tiers):
        yield "tiers", "tiers names a tier twice"
    if document.get("default") not in tiers:
        yield "default", f"default must be one of the tiers: {', '.join(tiers)}"
    for name in document.keys() - {"default", "tiers", *TABLES}:
        yield name, f"{name} is not known here; the tables are {', '.join(TABLES)}"
    for table in TABLES:
        entries = document.get(table, {})
        if not isinstance(entries, dict):
            yield table, f"{table} must be a table, [{table}]"
            continue
        for key, tier in entries.items():
            if tier not in tiers:
                yield key, f"{table}.{key} has the unknown tier {tier!r}; known: {', '.join(tiers)}"


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _line_of(text: str, key: str) -> int:
    """Return the number of the first line that begins with a key, or 1."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip().lstrip("[\"'").startswith(key):
            return number
    return 1
