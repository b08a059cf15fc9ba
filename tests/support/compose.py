"""docker-compose.yml as Compose reads it, with the secrets that its own script makes."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
SCRIPT = Path("ops/docker/secrets.sh")
IMAGE = "hookline:"

_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>[A-Z_]+):-(?P<default>[^}]*)\}")


def read_compose(shell: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the file with its variables filled in from a person's shell."""
    return dict(_fill(yaml.safe_load((ROOT / "docker-compose.yml").read_text()), shell or {}))


def our_services(compose: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the services that run hookline's own image."""
    services = compose["services"].items()
    return {name: service for name, service in services if service["image"].startswith(IMAGE)}


def make_secrets(folder: Path) -> Path:
    """Run the script that makes the secrets in a folder of the test's own."""
    script = folder / SCRIPT
    script.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / SCRIPT, script)
    subprocess.run([script], check=True)  # noqa: S603 - our own script
    return folder / "secrets"


def mounts(
    compose: Mapping[str, Any], service: Mapping[str, Any], secrets: Path
) -> dict[str, Path]:
    """Return each file that the service is given: path in the container -> path here."""
    found = {}
    for name in service.get("secrets", []):
        found[f"/run/secrets/{name}"] = secrets / Path(compose["secrets"][name]["file"]).name
    for config in service.get("configs", []):
        found[config["target"]] = ROOT / compose["configs"][config["source"]]["file"]
    return found


def variables(
    compose: Mapping[str, Any], service: Mapping[str, Any], secrets: Path
) -> dict[str, str]:
    """Return what the service's environment is; a file that it is not given is not found."""
    files = mounts(compose, service, secrets)
    return {name: str(files.get(value, value)) for name, value in service["environment"].items()}


def _fill(value: Any, shell: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _fill(entry, shell) for key, entry in value.items()}
    if isinstance(value, list):
        return [_fill(entry, shell) for entry in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: _replacement(found, shell), value)
    return value


def _replacement(found: re.Match[str], shell: Mapping[str, str]) -> str:
    if found["name"] is None:
        return "$"
    return shell.get(found["name"]) or found["default"]
