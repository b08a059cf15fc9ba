"""`python -m ops.train_dictionary NUMBER`: make a new dictionary for payloads.

Trained on the simulator's events alone, in all their shapes, so that nobody's data ships. Run
it when Stripe's objects have changed much; then raise schemas.payload.NEWEST to the number.
"""

import sys
from pathlib import Path

import zstandard

from ops.simulator.history import World
from schemas import payload

CUSTOMERS = 150
SIZE = 16 * 1024
"""64 and 110 KB were no better."""

END = 1_795_000_000


def train(number: int) -> bytes:
    """Return a dictionary with this id."""
    histories = World("dictionary", END).histories(CUSTOMERS)
    trained = zstandard.train_dictionary(
        SIZE,
        [event.body for history in histories for event in history.events],
        dict_id=number,
        level=payload.LEVEL,
    )
    return trained.as_bytes()


def main(number: int) -> None:
    """Write the dictionary beside the others; raises FileExistsError rather than change one."""
    path = Path(payload.__file__).parent / "dictionaries" / f"{number}.zdict"
    with path.open("xb") as file:
        file.write(train(number))


if __name__ == "__main__":
    main(int(sys.argv[1]))
