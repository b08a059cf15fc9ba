"""What a driver says of a closed door becomes the setting to look at; all else stays as it is."""

import pytest
from confluent_kafka import KafkaError

from consumer.errors import Retry, verdict_of_kafka
from consumer.kafka import ClientErrors
from schemas.access import why_kafka_refuses, why_postgres_refuses, why_redis_refuses

SERVER = 'connection to server at "10.0.0.7", port 5432 failed: '


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("SSL error: certificate verify failed", "sslrootcert"),
        ('root certificate file "/home/app/.postgresql/root.crt" does not exist', "sslrootcert"),
        ('server certificate for "db" does not match host name "other"', "another host"),
        ("server does not support SSL, but SSL was required", "sslmode"),
        ('FATAL:  password authentication failed for user "hookline"', "password"),
        ("fe_sendauth: no password supplied", "password"),
        ("Connection refused", None),
        ("FATAL:  the database system is starting up", None),
    ],
)
def test_postgresql(said: str, word: str | None) -> None:
    """A refusal names HOOKLINE_DATABASE_URL and its part; what may pass by itself is none."""
    why = why_postgres_refuses(SERVER + said)
    assert (why is None) if word is None else (why is not None and word in why)
    assert why is None or "HOOKLINE_DATABASE_URL" in why


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate in chain", "ssl_ca_certs"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] Hostname mismatch, not valid for 'x'", "another host"),
        ("invalid username-password pair or user is disabled.", "password"),
        ("Authentication required.", "password"),
        ("Error 111 connecting to 127.0.0.1:6379. Connection refused.", None),
    ],
)
def test_redis(said: str, word: str | None) -> None:
    """A refusal names HOOKLINE_REDIS_URL and its part; a Redis that is away is none."""
    why = why_redis_refuses(said)
    assert (why is None) if word is None else (why is not None and word in why)
    assert why is None or "HOOKLINE_REDIS_URL" in why


def test_kafka() -> None:
    """A refusal is waited for under its own sentence; brokers that are down keep the client's."""
    for code, setting in (
        (KafkaError._SSL, "HOOKLINE_KAFKA_CA_FILE"),  # noqa: SLF001 - public constants of the client
        (KafkaError._AUTHENTICATION, "HOOKLINE_KAFKA_SASL_PASSWORD"),  # noqa: SLF001 - same
    ):
        verdict = verdict_of_kafka(KafkaError(code))
        assert isinstance(verdict, Retry)
        assert setting in str(verdict)
    assert why_kafka_refuses("_ALL_BROKERS_DOWN") is None


def test_a_refusal_is_said_until_it_is_mended_and_no_longer() -> None:
    """Brokers that are down say less than the refusal before it, but more once it was mended."""
    errors = ClientErrors()
    down = KafkaError(KafkaError._ALL_BROKERS_DOWN)  # noqa: SLF001 - same
    errors.note(KafkaError(KafkaError._SSL))  # noqa: SLF001 - same
    errors.note(down)
    assert "HOOKLINE_KAFKA_CA_FILE" in (errors.problem or "")
    errors.problem = None
    errors.note(down)
    assert "HOOKLINE_KAFKA_CA_FILE" not in (errors.problem or "")
