"""How many, in words."""


def count(number: int, one: str, many: str | None = None) -> str:
    """Say how many in words."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
