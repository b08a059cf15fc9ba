"""What can be wrong with the embedded servers, for the person at the terminal."""


class EmbeddedError(Exception):
    """A server cannot run here; one sentence that says what to do."""
