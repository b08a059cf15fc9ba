"""Where the plain server finds a document."""


def plain_key(customer: str) -> str:
    """Return the key of a customer's document."""
    return f"plain:{customer}"
