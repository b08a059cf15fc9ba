"""The plans file: what a price gives, and every mistake named with its line."""

from pathlib import Path

import pytest

from schemas.plans import Plans, PlansError, Price, load_plans

SAMPLE = Path(__file__).parents[2] / "ops" / "plans.sample.toml"
GOOD = """\
default = "starter"
tiers = ["starter", "pro", "enterprise"]
[prices]
price_1 = "pro"
[lookup_keys]
"pro.yearly" = "pro"
[products]
prod_1 = "enterprise"
prod_free = "starter"
"""


def load(tmp_path: Path, text: str) -> Plans:
    """Load plans from a file with this text."""
    path = tmp_path / "plans.toml"
    path.write_text(text, encoding="utf-8")
    return load_plans(path)


TIERS: list[tuple[list[Price], str | None, tuple[str, bool]]] = [
    ([Price("price_1")], None, ("pro", True)),
    ([Price("price_1", "prod_1")], None, ("pro", True)),
    ([Price("other", "prod_1")], None, ("enterprise", True)),
    ([Price("other", "prod_1", "pro.yearly")], None, ("pro", True)),
    ([Price("addon"), Price("price_1")], None, ("pro", True)),
    ([Price("price_1"), Price("x", "prod_1"), Price("y", "prod_free")], None, ("enterprise", True)),
    ([Price("price_1")], "enterprise", ("pro", True)),
    ([Price("x", "prod_free")], "enterprise", ("starter", True)),
    ([Price("other")], "enterprise", ("enterprise", False)),
    ([Price("other")], "gold", ("starter", False)),
    ([Price("other")], None, ("starter", False)),
    ([], None, ("starter", False)),
]


@pytest.mark.parametrize(("prices", "hint", "expected"), TIERS)
def test_tier(
    tmp_path: Path, prices: list[Price], hint: str | None, expected: tuple[str, bool]
) -> None:
    """Price id, then lookup key, then product; the highest tier wins; a hint only fills a gap."""
    assert load(tmp_path, GOOD).tier_of(prices, hint) == expected


def test_rank(tmp_path: Path) -> None:
    """Tiers rank as listed, lowest first, and an unknown one ranks below all."""
    plans = load(tmp_path, GOOD)
    assert [plans.rank(tier) for tier in ("gold", "starter", "pro", "enterprise")] == [-1, 0, 1, 2]


MISTAKES = {
    "default_unknown": (GOOD.replace('default = "starter"', 'default = "free"'), 1, "default"),
    "default_missing": (GOOD.replace('default = "starter"', ""), 1, "default"),
    "tiers_missing": ('default = "starter"\n', 1, "tiers"),
    "tiers_empty": ('default = "starter"\ntiers = []\n', 2, "tiers"),
    "tiers_a_text": ('default = "starter"\ntiers = "starter"\n', 2, "tiers"),
    "tier_twice": (GOOD.replace('"enterprise"]', '"pro", "enterprise"]'), 2, "twice"),
    "unknown_tier": (GOOD.replace('price_1 = "pro"', 'price_1 = "gold"'), 4, "'gold'"),
    "unknown_tier_quoted_key": (GOOD.replace('yearly" = "pro"', 'yearly" = "gold"'), 6, "'gold'"),
    "key_that_another_begins_with": (
        GOOD.replace('price_1 = "pro"', 'price_10 = "pro"\nprice_1 = "gold"'),
        5,
        "prices.price_1 ",
    ),
    "key_in_two_tables": (GOOD + 'price_1 = "gold"\n', 10, "products.price_1"),
    "dotted_key": (GOOD.replace('[prices]\nprice_1 = "pro"', 'prices.p = "gold"'), 3, "prices.p"),
    "inline_table": (GOOD.replace('[prices]\nprice_1 = "pro"', 'prices = {p = "x"}'), 3, "prices"),
    "no_name": (GOOD.replace('price_1 = "pro"', '"" = "pro"'), 4, "without a name"),
    "tier_not_a_text": (GOOD.replace('price_1 = "pro"', "price_1 = 3"), 4, "unknown tier 3"),
    "unknown_table": (GOOD + '[plans]\nx = "pro"\n', 10, "plans"),
    "table_not_a_table": ("prices = 3\n" + GOOD.replace("[prices]\nprice_1", "x"), 1, "[prices]"),
    "not_toml": (GOOD + "nonsense\n", 10, "not TOML"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    """Every mistake says the file, the line and what to write there."""
    text, line, words = MISTAKES[name]
    with pytest.raises(PlansError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert "plans.toml" in message
    assert f"line {line}" in message
    assert words in message


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    """Nobody has to start the program once for each mistake."""
    text = GOOD.replace('"pro"\n[', '"gold"\n[').replace('default = "starter"', 'default = "x"')
    with pytest.raises(PlansError) as caught:
        load(tmp_path, text)
    assert [part.split(":")[0].split("line ")[1] for part in str(caught.value).splitlines()] == [
        "1",
        "4",
        "6",
    ]


def test_missing_file_names_the_setting(tmp_path: Path) -> None:
    """Where there is no file, the message names the setting to change."""
    with pytest.raises(PlansError, match="HOOKLINE_PLANS_FILE"):
        load_plans(tmp_path / "none.toml")


def test_sample_file_is_valid() -> None:
    """The sample that people copy loads, with the three tiers in order."""
    plans = load_plans(SAMPLE)
    assert (plans.default, plans.tiers) == ("starter", ("starter", "pro", "enterprise"))
