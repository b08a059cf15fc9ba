"""Why a server does not let us in, said with the setting to look at; pure, knows no driver.

Each function takes what a driver says and returns a sentence, or None where it is about
something else. The sentence quotes nothing, for a driver may quote more than a log may hold.
"""

import re
from typing import Protocol

_KAFKA = {
    "_SSL": (
        "Kafka's certificate is not accepted: look at HOOKLINE_KAFKA_CA_FILE, which must hold the "
        "authority that signed it, and at HOOKLINE_KAFKA_BOOTSTRAP, which must name the host it "
        "is made for"
    ),
    "_AUTHENTICATION": (
        "Kafka refuses the user or the password: look at HOOKLINE_KAFKA_SASL_USERNAME and "
        "HOOKLINE_KAFKA_SASL_PASSWORD"
    ),
}
_POSTGRES = (
    (
        re.compile(r"certificate verify failed|root certificate file"),
        (
            "PostgreSQL's certificate is not accepted: look at sslrootcert in "
            "HOOKLINE_DATABASE_URL, which must name the authority that signed it"
        ),
    ),
    (
        re.compile(r"does not match host name"),
        (
            "PostgreSQL's certificate is made for another host: look at the host in "
            "HOOKLINE_DATABASE_URL"
        ),
    ),
    (
        re.compile(r"server does not support SSL"),
        "PostgreSQL does not speak TLS: look at sslmode in HOOKLINE_DATABASE_URL",
    ),
    (
        re.compile(r"password authentication failed|no password supplied"),
        "PostgreSQL refuses the user or the password: look at HOOKLINE_DATABASE_URL",
    ),
)
_REDIS = (
    (
        re.compile(r"Hostname mismatch|IP address mismatch|doesn't match"),
        "Redis' certificate is made for another host: look at the host in HOOKLINE_REDIS_URL",
    ),
    (
        re.compile(r"CERTIFICATE_VERIFY_FAILED"),
        (
            "Redis' certificate is not accepted: look at ssl_ca_certs in HOOKLINE_REDIS_URL, which "
            "must name the authority that signed it"
        ),
    ),
    (
        re.compile(r"invalid username-password|WRONGPASS|NOAUTH|Authentication required|AUTH "),
        "Redis refuses the user or password of HOOKLINE_REDIS_URL",
    ),
)


def why_kafka_refuses(name: str) -> str | None:
    """Say why Kafka is closed to us; takes the name of the client's error, such as `_SSL`."""
    return _KAFKA.get(name)


def why_postgres_refuses(text: str) -> str | None:
    """Say why PostgreSQL is closed to us; takes all that libpq says."""
    return next((why for pattern, why in _POSTGRES if pattern.search(text)), None)


def why_redis_refuses(text: str) -> str | None:
    """Say why Redis is closed to us; takes all that the client says."""
    return next((why for pattern, why in _REDIS if pattern.search(text)), None)


class KafkaClientError(Protocol):
    """What a Kafka client passes to its error callback."""

    def name(self) -> str:
        """Return the name of the error."""


class Refusals:
    """Why the brokers refuse one client: a request only times out, its error callback is told."""

    def __init__(self) -> None:
        self.why: str | None = None

    def note(self, error: KafkaClientError) -> None:
        """Note one error, as the client's `error_cb`; never raises."""
        self.why = why_kafka_refuses(error.name()) or self.why
