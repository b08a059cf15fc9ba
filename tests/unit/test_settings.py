"""Settings: every problem at once, by the name of its variable, and never a secret's value."""

from pathlib import Path

import pytest

from schemas.settings import (
    ConsumerSettings,
    GatekeeperSettings,
    IngestSettings,
    MigrateSettings,
    ProcessSettings,
    SettingsError,
    load,
)

KAFKA = {"HOOKLINE_KAFKA_BOOTSTRAP": "127.0.0.1:9092"}
DATABASE = {"HOOKLINE_DATABASE_URL": "postgresql://u:s3cret@127.0.0.1/db"}
REDIS = {"HOOKLINE_REDIS_URL": "redis://:s3cret@127.0.0.1/0"}
PLANS = {"HOOKLINE_PLANS_FILE": "plans.toml"}
SECRETS = {"HOOKLINE_WEBHOOK_SECRETS": "whsec_s3cret"}
INGEST = KAFKA | SECRETS | {"HOOKLINE_LIVEMODE": "test"}
CONSUMER = KAFKA | DATABASE | REDIS | PLANS | SECRETS
KEEPER = DATABASE | REDIS | PLANS


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Provide the environment to set variables in."""
    return monkeypatch


def put(environment: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """Set variables."""
    for name, value in variables.items():
        environment.setenv(name, value)


def problems(kind: type[ProcessSettings]) -> list[str]:
    """Return what is wrong."""
    with pytest.raises(SettingsError) as caught:
        load(kind)
    return caught.value.problems


def test_every_missing_variable_is_named_at_once() -> None:
    """A person fixes all of them in one go."""
    assert problems(IngestSettings) == [
        "HOOKLINE_WEBHOOK_SECRETS is not set",
        "HOOKLINE_KAFKA_BOOTSTRAP is not set",
        "HOOKLINE_LIVEMODE is not set",
    ]


@pytest.mark.parametrize(
    ("kind", "base", "name", "value"),
    [
        (IngestSettings, INGEST, "HOOKLINE_LIVEMODE", "both"),
        (IngestSettings, INGEST, "HOOKLINE_INGEST_PORT", "70000"),
        (IngestSettings, INGEST, "HOOKLINE_INGEST_PORT", "http"),
        (IngestSettings, INGEST, "HOOKLINE_WEBHOOK_SECRETS", ""),
        (IngestSettings, INGEST, "HOOKLINE_WEBHOOK_SECRETS", "a,,s3cret"),
        (IngestSettings, INGEST, "HOOKLINE_WEBHOOK_SECRETS", "with blank"),
        (IngestSettings, INGEST, "HOOKLINE_WEBHOOK_SECRETS", "s3cret,s3cret"),
        (IngestSettings, INGEST, "HOOKLINE_WEBHOOK_SECRETS", ",".join("abcdefghi")),
        (IngestSettings, INGEST, "HOOKLINE_KAFKA_TOPIC", "white space"),
        (IngestSettings, INGEST, "HOOKLINE_KAFKA_SECURITY_PROTOCOL", "TLS"),
        (IngestSettings, INGEST, "HOOKLINE_KAFKA_CA_FILE", "/nowhere/ca.pem"),
        (ConsumerSettings, CONSUMER, "HOOKLINE_REDIS_URL", "redis+sentinel://:s3cret@a:1,b:2/"),
        (ConsumerSettings, CONSUMER, "HOOKLINE_REDIS_URL", "redis+sentinel://:s3cret@a,,b/ours"),
        (ConsumerSettings, CONSUMER, "HOOKLINE_DATABASE_URL", "mysql://u:s3cret@h/db"),
        (ConsumerSettings, CONSUMER, "HOOKLINE_REDIS_URL", "http://:s3cret@h"),
        (ConsumerSettings, CONSUMER, "HOOKLINE_GRACE_HOURS", "-1"),
        (ConsumerSettings, CONSUMER, "HOOKLINE_GRACE_HOURS", "nan"),
        (ConsumerSettings, CONSUMER, "HOOKLINE_VERIFY_RECORDS", "perhaps"),
        (GatekeeperSettings, KEEPER, "HOOKLINE_GATEKEEPER_HOST", "0.0.0.0"),  # noqa: S104 - refused
    ],
)
def test_a_bad_value_is_named_and_not_shown(
    environment: pytest.MonkeyPatch,
    kind: type[ProcessSettings],
    base: dict[str, str],
    name: str,
    value: str,
) -> None:
    """The sentence names the variable; a value, which may be a secret, stands nowhere."""
    put(environment, base | {name: value})
    found = problems(kind)
    assert len(found) == 1
    assert name in found[0]
    assert "s3cret" not in found[0]


@pytest.mark.parametrize(
    ("kind", "base"),
    [(IngestSettings, INGEST), (ConsumerSettings, CONSUMER), (GatekeeperSettings, KEEPER)],
)
def test_secrets_never_stand_in_a_repr(
    environment: pytest.MonkeyPatch, kind: type[ProcessSettings], base: dict[str, str]
) -> None:
    """A settings object may be logged by mistake without giving anything away."""
    put(environment, base)
    settings = load(kind)
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in str(settings)
    assert "s3cret" not in settings.model_dump_json()


def test_secrets_are_split_and_trimmed(environment: pytest.MonkeyPatch) -> None:
    """Blanks around a comma are not part of a secret."""
    put(environment, INGEST | {"HOOKLINE_WEBHOOK_SECRETS": " new , old "})
    secrets = load(IngestSettings).webhook_secrets
    assert [secret.get_secret_value() for secret in secrets] == ["new", "old"]


def test_a_secret_may_come_from_a_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """HOOKLINE_X_FILE stands in for HOOKLINE_X; a line feed at the end is not part of it."""
    path = tmp_path / "url"
    path.write_text("postgresql://u:s3cret@127.0.0.1/db\n")
    put(environment, KAFKA | PLANS | {"HOOKLINE_DATABASE_URL_FILE": str(path)})
    url = load(MigrateSettings).sqlalchemy_url()
    assert url == "postgresql+psycopg://u:s3cret@127.0.0.1/db"


def test_a_file_and_a_value_are_one_too_many(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Which one is meant is not guessed."""
    path = tmp_path / "secrets"
    path.write_text("whsec_file")
    put(environment, INGEST | {"HOOKLINE_WEBHOOK_SECRETS_FILE": str(path)})
    assert "both set" in problems(IngestSettings)[0]


def test_an_unreadable_file_is_named_with_all_other_problems(
    environment: pytest.MonkeyPatch,
) -> None:
    """A missing file does not hide what else is wrong."""
    put(environment, {"HOOKLINE_WEBHOOK_SECRETS_FILE": "/nowhere"})
    found = problems(IngestSettings)
    assert "HOOKLINE_WEBHOOK_SECRETS_FILE: cannot read /nowhere" in found[0]
    assert "HOOKLINE_LIVEMODE is not set" in found


def test_sasl_needs_a_user_and_a_password(environment: pytest.MonkeyPatch) -> None:
    """A half set up login is found before Kafka refuses it."""
    put(environment, INGEST | {"HOOKLINE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL"})
    assert "HOOKLINE_KAFKA_SASL_PASSWORD" in problems(IngestSettings)[0]


def test_kafka_access_carries_tls_and_sasl(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What librdkafka is told is what the variables say."""
    ca = tmp_path / "ca.pem"
    ca.write_text("x")
    put(
        environment,
        INGEST
        | {
            "HOOKLINE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "HOOKLINE_KAFKA_SASL_USERNAME": "hookline",
            "HOOKLINE_KAFKA_SASL_PASSWORD": "s3cret",
            "HOOKLINE_KAFKA_CA_FILE": str(ca),
        },
    )
    assert load(IngestSettings).kafka_access() == {
        "bootstrap.servers": "127.0.0.1:9092",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "hookline",
        "sasl.password": "s3cret",
        "ssl.ca.location": str(ca),
    }


def test_settings_are_frozen(environment: pytest.MonkeyPatch) -> None:
    """Nobody changes a setting while a process runs."""
    put(environment, INGEST)
    settings = load(IngestSettings)
    with pytest.raises(ValueError, match="frozen"):
        settings.ingest_port = 1
