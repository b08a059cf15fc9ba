"""What a person at the terminal can put right."""


class UsageError(Exception):
    """A command cannot do what it was asked; each line is one sentence that says what to do."""
