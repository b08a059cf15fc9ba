"""Settings of every process, read from HOOKLINE_* variables; nothing here opens a connection.

A settings object is frozen. Each secret may also come from a file: HOOKLINE_X_FILE names it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "HOOKLINE_"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
MAX_SECRETS = 8

S = TypeVar("S", bound="ProcessSettings")


class SettingsError(Exception):
    """All problems of one process's settings, a sentence each in `problems`; never a value."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def _check_url(schemes: tuple[str, ...]) -> Callable[[SecretStr], SecretStr]:
    def check(url: SecretStr) -> SecretStr:
        try:
            scheme = urlsplit(url.get_secret_value()).scheme
        except ValueError:
            scheme = ""
        if scheme not in schemes:
            raise ValueError(f"must start with one of {', '.join(s + '://' for s in schemes)}")
        return url

    return check


SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")


def _check_sentinel(url: SecretStr) -> SecretStr:
    parts = urlsplit(url.get_secret_value())
    hosts = parts.netloc.rpartition("@")[2]
    if parts.scheme in SENTINEL_SCHEMES and not (
        re.fullmatch(r"[^,:/]+(:\d+)?(,[^,:/]+(:\d+)?)*", hosts)
        and re.fullmatch(r"/[^/]+(/\d+)?/?", parts.path)
    ):
        raise ValueError("must read redis+sentinel://host:port,host:port/service/0")
    return url


def _split(value: Any) -> Any:
    """Turn comma separated text into a tuple; blanks around an entry are not part of it."""
    if isinstance(value, str):
        return tuple(entry.strip() for entry in value.split(",")) if value.strip() else ()
    return value


def _check_secrets(secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for position, secret in enumerate(secrets, 1):
        text = secret.get_secret_value()
        if not text or text.split() != [text] or not text.isascii():
            raise ValueError(f"entry {position} is empty, or has white space or other than ASCII")
    if len(set(secrets)) != len(secrets):
        raise ValueError("names the same secret twice")
    return secrets


Secrets = Annotated[
    tuple[SecretStr, ...], NoDecode, BeforeValidator(_split), AfterValidator(_check_secrets)
]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_check_url(("postgresql", "postgres")))]
RedisUrl = Annotated[
    SecretStr,
    AfterValidator(_check_url(("redis", "rediss", "unix", *SENTINEL_SCHEMES))),
    AfterValidator(_check_sentinel),
]
Port = Annotated[int, Field(ge=1, le=65535)]


def holds_secret(field: FieldInfo) -> bool:
    """Tell whether a settings field is a secret, and so may come from a file."""
    return "SecretStr" in str(field.annotation)


class ProcessSettings(BaseSettings):
    """What every process has; the other classes add the servers that a process talks to."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True
    )

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="least level of the log's lines"),
    ] = "info"
    admin_host: Annotated[
        str, Field(description="address of the admin port (`/healthz`, `/readyz`, `/metrics`)")
    ] = "127.0.0.1"


class TracingSettings(ProcessSettings):
    """Whether spans are recorded."""

    tracing: Annotated[
        bool,
        Field(
            description="record OpenTelemetry spans; needs the extra `hookline[tracing]`, and "
            "OpenTelemetry's own `OTEL_` variables say where to"
        ),
    ] = False


class KafkaSettings(ProcessSettings):
    """Where Kafka is and how to be let in."""

    kafka_bootstrap: Annotated[str, Field(min_length=1, description="brokers, `host:port,…`")]
    kafka_topic: Annotated[
        str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$", description="topic of the events")
    ] = "stripe.events"
    kafka_security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        Field(description="how to talk to Kafka"),
    ] = "PLAINTEXT"
    kafka_sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"],
        Field(description="how to log in to Kafka, with a `SASL_…` protocol"),
    ] = "SCRAM-SHA-512"
    kafka_sasl_username: Annotated[str | None, Field(description="Kafka user")] = None
    kafka_sasl_password: Annotated[SecretStr | None, Field(description="its password")] = None
    kafka_ca_file: Annotated[
        Path | None, Field(description="PEM of the authority that signed the brokers' certificates")
    ] = None
    kafka_client_cert_file: Annotated[Path | None, Field(description="PEM, client certificate")] = (
        None
    )
    kafka_client_key_file: Annotated[Path | None, Field(description="PEM, its key")] = None

    @model_validator(mode="after")
    def _check_kafka_access(self) -> Self:
        sasl = self.kafka_security_protocol.startswith("SASL")
        if sasl and not (self.kafka_sasl_username and self.kafka_sasl_password):
            raise ValueError(
                f"HOOKLINE_KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol} needs "
                "HOOKLINE_KAFKA_SASL_USERNAME and HOOKLINE_KAFKA_SASL_PASSWORD"
            )
        for name in ("kafka_ca_file", "kafka_client_cert_file", "kafka_client_key_file"):
            path: Path | None = getattr(self, name)
            if path is not None and not path.is_file():
                raise ValueError(f"{PREFIX}{name.upper()}: there is no file {path}")
        if bool(self.kafka_client_cert_file) != bool(self.kafka_client_key_file):
            raise ValueError(
                "HOOKLINE_KAFKA_CLIENT_CERT_FILE and HOOKLINE_KAFKA_CLIENT_KEY_FILE: set both"
            )
        return self

    def kafka_access(self) -> dict[str, str | int | float | bool]:
        """Return the librdkafka settings that every client of this deployment shares."""
        password = self.kafka_sasl_password
        sasl = self.kafka_security_protocol.startswith("SASL")
        access: dict[str, object] = {
            "bootstrap.servers": self.kafka_bootstrap,
            "security.protocol": self.kafka_security_protocol,
            "sasl.mechanism": self.kafka_sasl_mechanism if sasl else None,
            "sasl.username": self.kafka_sasl_username,
            "sasl.password": password.get_secret_value() if password else None,
            "ssl.ca.location": self.kafka_ca_file,
            "ssl.certificate.location": self.kafka_client_cert_file,
            "ssl.key.location": self.kafka_client_key_file,
        }
        return {key: str(value) for key, value in access.items() if value is not None}


class GroupSettings(KafkaSettings):
    """Which consumer group applies the events."""

    kafka_group: Annotated[str, Field(min_length=1, description="consumer group")] = "hookline"


class DatabaseSettings(ProcessSettings):
    """Where PostgreSQL is."""

    database_url: Annotated[
        DatabaseUrl,
        Field(
            description="`postgresql://user:password@host:port/database`; TLS by "
            "`?sslmode=verify-full&sslrootcert=file`"
        ),
    ]

    def sqlalchemy_url(self) -> str:
        """Return the database URL with the driver that hookline uses; it holds the password."""
        return "postgresql+psycopg://" + self.database_url.get_secret_value().split("://", 1)[1]


class RedisSettings(ProcessSettings):
    """Where Redis or Valkey is."""

    redis_url: Annotated[
        RedisUrl,
        Field(
            description="`redis://host:port/0`, or `redis+sentinel://host:port,…/service/0`; "
            "TLS by `rediss…`, its authority by `?ssl_ca_certs=file`; no cluster"
        ),
    ]


class PlansSettings(ProcessSettings):
    """Which plan gives which tier."""

    plans_file: Annotated[
        Path, Field(description="TOML file that maps prices, lookup keys and products to tiers")
    ]


class GraceSettings(ProcessSettings):
    """How long access outlives a failed payment."""

    grace_hours: Annotated[
        float,
        Field(ge=0, le=24 * 90, description="access after an unpaid invoice's first failure"),
    ] = 24


class RecallSettings(DatabaseSettings, PlansSettings, GraceSettings):
    """What `hookline recompute` and `hookline explain` need, which fold recorded events again."""


class MigrateSettings(KafkaSettings, DatabaseSettings, PlansSettings):
    """What `hookline migrate` needs."""


class SecretSettings(ProcessSettings):
    """Stripe's signing secrets."""

    webhook_secrets: Annotated[
        Secrets,
        Field(
            min_length=1,
            max_length=MAX_SECRETS,
            description="signing secrets of the Stripe endpoint, 1 to 8, comma separated",
        ),
    ]


class RecordSettings(SecretSettings):
    """Whose records count."""

    verify_records: Annotated[
        bool, Field(description="check the signature that travels with each record")
    ] = True
    retired_secrets: Annotated[
        Secrets,
        Field(
            max_length=MAX_SECRETS,
            description="dropped signing secrets that records in the topic may still bear",
        ),
    ] = ()

    def record_secrets(self) -> list[str] | None:
        """Return the secrets that a record may be signed with; None: signatures do not matter."""
        if not self.verify_records:
            return None
        known = self.webhook_secrets + self.retired_secrets
        return [secret.get_secret_value() for secret in known]


class EraseSettings(GroupSettings, DatabaseSettings):
    """What `hookline erase` needs: Kafka only tells how long it keeps its records."""


class PositionsSettings(GroupSettings, DatabaseSettings):
    """What `hookline positions` needs."""


class BatchSettings(DatabaseSettings, RedisSettings, PlansSettings, GraceSettings):
    """What applying takes, wherever that which is applied comes from."""


class ReplaySettings(BatchSettings, RecordSettings):
    """What `hookline dead-letters replay` needs: all that decides what an event does."""


class ModeSettings(ProcessSettings):
    """Which of Stripe's two modes this deployment serves."""

    livemode: Annotated[
        Literal["test", "live"],
        Field(description="the mode this deployment serves; the other one's events are ignored"),
    ]


def _check_api_base(base: str) -> str:
    parts = urlsplit(base)
    if parts.scheme != "https" and (parts.scheme != "http" or parts.hostname not in LOOPBACK):
        raise ValueError("must start with https://; the API key would travel in plain otherwise")
    return base.rstrip("/")


class StripeSettings(ProcessSettings):
    """How to ask Stripe's API."""

    stripe_api_key: Annotated[
        SecretStr | None,
        Field(description="restricted key that may read; without, nothing is asked of Stripe"),
    ] = None
    stripe_api_base: Annotated[
        str, AfterValidator(_check_api_base), Field(description="where Stripe's API is")
    ] = "https://api.stripe.com"

    @model_validator(mode="after")
    def _check_key_mode(self) -> Self:
        """Refuse a key of the other mode: its subscriptions would look like everybody's."""
        key = self.stripe_api_key.get_secret_value() if self.stripe_api_key else ""
        mode = getattr(self, "livemode", None)
        other = {"test": "_live_", "live": "_test_"}.get(mode or "")
        if other and other in key:
            raise ValueError(
                f"HOOKLINE_STRIPE_API_KEY is of the other mode than HOOKLINE_LIVEMODE={mode}"
            )
        return self


class BackfillSettings(BatchSettings, ModeSettings, StripeSettings):
    """What `hookline backfill` and `hookline verify` need."""


class ReconcileSettings(
    GroupSettings, DatabaseSettings, SecretSettings, ModeSettings, StripeSettings
):
    """What `hookline reconcile` needs."""


class IngestSettings(ModeSettings, KafkaSettings, SecretSettings, TracingSettings):
    """What `hookline ingest` needs."""

    ingest_host: Annotated[str, Field(description="address of the webhook port")] = "127.0.0.1"
    ingest_port: Annotated[Port, Field(description="webhook port")] = 8080
    ingest_admin_port: Annotated[Port, Field(description="admin port of ingest")] = 9080
    allow_single_broker: Annotated[
        bool,
        Field(
            description="in live mode: be ready although the topic has fewer than 3 replicas or "
            "min in-sync below 2; one broker survives a killed process, not a power cut"
        ),
    ] = False


class ConsumerSettings(
    GroupSettings, BatchSettings, RecordSettings, StripeSettings, TracingSettings
):
    """What `hookline consume` needs; with a key of Stripe's, HOOKLINE_LIVEMODE as well."""

    reconcile_minutes: Annotated[
        float,
        Field(
            ge=0,
            le=14 * 24 * 60,
            description="with a Stripe key: how often to look for events that never came; 0: never",
        ),
    ] = 15
    verify_at: Annotated[
        time | None,
        Field(
            description="with a Stripe key: when to hold all subscriptions against Stripe each "
            "night, `HH:MM` in UTC; without, never"
        ),
    ] = None

    kafka_group_protocol: Annotated[
        Literal["consumer", "classic"],
        Field(description="`consumer` (KIP-848, brokers from 4.0) or `classic` (from 3.7)"),
    ] = "consumer"
    kafka_group_instance_id: Annotated[
        str | None, Field(description="static membership: a name of its own for each process")
    ] = None
    consumer_admin_port: Annotated[Port, Field(description="admin port of a consumer")] = 9082
    failpoint: Annotated[
        str | None,
        Field(
            description="for tests: kill, stop or delay at a named place (consumer/failpoints.py)"
        ),
    ] = None


class DoctorSettings(GroupSettings, BatchSettings, StripeSettings):
    """What `hookline doctor` needs: what a consumer has; what else is set, it looks at too."""

    webhook_secrets: Annotated[
        Secrets, Field(max_length=MAX_SECRETS, description="signing secrets of the endpoint")
    ] = ()
    retired_secrets: Annotated[
        Secrets, Field(max_length=MAX_SECRETS, description="dropped signing secrets")
    ] = ()
    livemode: Annotated[
        Literal["test", "live"] | None, Field(description="the mode this deployment serves")
    ] = None
    allow_single_broker: Annotated[bool, Field(description="as ingest has it")] = False
    kafka_group_protocol: Annotated[
        Literal["consumer", "classic"], Field(description="as consumers have it")
    ] = "consumer"
    ingest_admin_port: Annotated[Port, Field(description="admin port of ingest")] = 9080
    gatekeeper_admin_port: Annotated[Port, Field(description="admin port of the gatekeeper")] = 9081
    consumer_admin_port: Annotated[Port, Field(description="admin port of a consumer")] = 9082

    def known_secrets(self) -> list[str]:
        """Return the secrets that records may be signed with, those in use first."""
        return [s.get_secret_value() for s in self.webhook_secrets + self.retired_secrets]


class ReaderSettings(DatabaseSettings, RedisSettings, PlansSettings):
    """What a reader of entitlements needs: `hookline warm`, or an application."""


class GatekeeperSettings(ReaderSettings):
    """What `hookline gatekeeper` needs."""

    gatekeeper_host: Annotated[
        str, Field(description="address of the entitlement port; other than loopback needs a token")
    ] = "127.0.0.1"
    gatekeeper_port: Annotated[Port, Field(description="entitlement port")] = 8081
    gatekeeper_admin_port: Annotated[Port, Field(description="admin port of the gatekeeper")] = 9081
    gatekeeper_tokens: Annotated[
        Secrets,
        Field(description="bearer tokens that callers may show, comma separated (several: roll)"),
    ] = ()

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        if self.gatekeeper_host not in LOOPBACK and not self.gatekeeper_tokens:
            raise ValueError(
                f"HOOKLINE_GATEKEEPER_HOST={self.gatekeeper_host} is not loopback: "
                "set HOOKLINE_GATEKEEPER_TOKENS too"
            )
        return self


def load(kind: type[S], **given: Any) -> S:
    """Read one process's settings from the environment; keyword arguments come first.

    Raises SettingsError with every problem at once, naming variables and never values.
    """
    secrets, problems = _read_secret_files(kind)
    try:
        settings = kind(**(secrets | given))
    except ValidationError as error:
        problems += [_sentence(problem) for problem in error.errors()]
    else:
        if not problems:
            return settings
    raise SettingsError(problems)


def _read_secret_files(kind: type[ProcessSettings]) -> tuple[dict[str, str], list[str]]:
    """Read the files that stand in for secrets; an unreadable one is a problem, not an error."""
    values: dict[str, str] = {}
    problems: list[str] = []
    for field_name, field in kind.model_fields.items():
        name = f"{PREFIX}{field_name}".upper()
        path = os.environ.get(f"{name}_FILE")
        if not path or not holds_secret(field):
            continue
        if name in os.environ:
            problems.append(f"{name} and {name}_FILE are both set: keep one")
        try:
            values[field_name] = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            problems.append(f"{name}_FILE: cannot read {path}: {error.strerror}")
        except UnicodeDecodeError:
            problems.append(f"{name}_FILE: {path} is not UTF-8 text")
    return values, problems


def _sentence(problem: Mapping[str, Any]) -> str:
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return str(message)
    name = f"{PREFIX}{problem['loc'][0]}".upper()
    if problem["type"] == "missing":
        return f"{name} is not set"
    return f"{name}: {message[:1].lower()}{message[1:]}"
