"""What a person at the terminal can put right."""

from schemas.entitlement import CUSTOMER_ID


class UsageError(Exception):
    """A command cannot do what it was asked; each line is one sentence that says what to do."""


def require_customer(text: str) -> str:
    """Return a customer's id; raises UsageError for what cannot be one."""
    if not CUSTOMER_ID.fullmatch(text):
        raise UsageError(f"{text!r} is no customer's id: those look like cus_9s6XKzkNRiz8i3")
    return text
