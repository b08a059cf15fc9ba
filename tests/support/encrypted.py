"""Servers that speak TLS and ask for a password, with certificates made for the run."""

import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from ops.embedded.ports import HOST, free_ports
from ops.embedded.stack import Ports, Stack
from support.proxy import Proxy

USER = "hookline"
KAFKA_PASSWORD = "kafka-pass-5d1f"
REDIS_PASSWORD = "redis-pass-8c2e"
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Certificates:
    """An authority, another one that signed nothing, and a certificate for 127.0.0.1 alone."""

    authority: Path
    stranger: Path
    certificate: Path
    key: Path
    both: Path


@dataclass(frozen=True)
class Encrypted:
    """Three servers behind TLS; `variables` lets a deployment in."""

    certificates: Certificates
    variables: dict[str, str]
    passwords: tuple[str, ...]


def make_certificates(folder: Path) -> Certificates:
    """Make keys and certificates that are valid for a day; needs `openssl` 3."""
    folder.mkdir()
    for name in ("authority", "stranger"):
        _make(folder, name, "-subj", f"/CN={name}")
    _make(
        *(folder, "server", "-subj", "/CN=server"),
        *("-CA", str(folder / "authority.pem"), "-CAkey", str(folder / "authority.key")),
        *("-addext", f"subjectAltName=IP:{HOST}", "-addext", "basicConstraints=CA:FALSE"),
    )
    certificate, key, both = (folder / f"server.{kind}" for kind in ("pem", "key", "both"))
    both.write_text(key.read_text() + certificate.read_text())
    return Certificates(folder / "authority.pem", folder / "stranger.pem", certificate, key, both)


def _make(folder: Path, name: str, *more: str) -> None:
    files = ("-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem"))
    subprocess.run(  # noqa: S603 - our own command line
        ["openssl", "req", "-x509", "-days", "1", *NEW_KEY, *files, *more],  # noqa: S607 - on PATH
        check=True,
        capture_output=True,
    )
    (folder / f"{name}.key").chmod(0o600)


@contextmanager
def encrypted_servers(folder: Path) -> Iterator[Encrypted]:
    """Start all three behind TLS: Kafka speaks it itself.

    The packaged PostgreSQL and Valkey are built without TLS, so a proxy speaks it for them.
    """
    found = make_certificates(folder / "tls")
    ports, (secure,) = Ports.free(), free_ports(1)
    stack = Stack(
        folder / "stack",
        ports=ports,
        kafka_properties=_kafka(ports, secure, found),
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(found.certificate, found.key)
    with (
        stack,
        Proxy(ports.valkey, tls=context) as valkey,
        Proxy(ports.postgres, tls=context, asked=True) as postgres,
    ):
        _set_passwords(stack)
        database = stack.postgres.url.replace(f":{ports.postgres}/", f":{postgres.port}/")
        yield Encrypted(
            found,
            {
                "HOOKLINE_KAFKA_BOOTSTRAP": f"{HOST}:{secure}",
                "HOOKLINE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
                "HOOKLINE_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
                "HOOKLINE_KAFKA_SASL_USERNAME": USER,
                "HOOKLINE_KAFKA_SASL_PASSWORD": KAFKA_PASSWORD,
                "HOOKLINE_KAFKA_CA_FILE": str(found.authority),
                "HOOKLINE_DATABASE_URL": f"{database}?sslmode=verify-full"
                f"&sslrootcert={found.authority}",
                "HOOKLINE_REDIS_URL": f"rediss://:{REDIS_PASSWORD}@{HOST}:{valkey.port}/0"
                f"?ssl_ca_certs={found.authority}",
            },
            (KAFKA_PASSWORD, REDIS_PASSWORD, stack.postgres.url.split(":")[2].split("@")[0]),
        )


def _kafka(ports: Ports, secure: int, found: Certificates) -> dict[str, str]:
    plain = f"PLAINTEXT://{HOST}:{ports.kafka},SASL_SSL://{HOST}:{secure}"
    return {
        "listeners": f"{plain},CONTROLLER://{HOST}:{ports.controller}",
        "advertised.listeners": plain,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,"
        "CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(found.both),
    }


def _set_passwords(stack: Stack) -> None:
    admin = AdminClient({"bootstrap.servers": stack.kafka.bootstrap})
    scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    change = UserScramCredentialUpsertion(USER, scram, KAFKA_PASSWORD.encode())
    admin.alter_user_scram_credentials([change])[USER].result()
    with redis.Redis.from_url(stack.valkey.url) as client:
        client.config_set("requirepass", REDIS_PASSWORD)
