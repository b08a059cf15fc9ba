"""ops/docker/Dockerfile: its own steps, carried out in a clean virtual environment."""

import re
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from ops.options import PROCESSES
from schemas.settings import PREFIX
from support.dockerfile import Image, let_through, read_steps
from support.locks import IMAGE, ROOT, extras, names, pins, project

pytestmark = pytest.mark.timeout(600)

DOCKERFILE = ROOT / "ops" / "docker" / "Dockerfile"
IGNORE = ROOT / ".dockerignore"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Provide what the Dockerfile makes of what .dockerignore lets through."""
    folder = tmp_path_factory.mktemp("docker")
    context = folder / "context"
    for path in let_through(ROOT, IGNORE):
        (context / path.parent).mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, context / path)
    made = Image(folder, context)
    made.build(DOCKERFILE)
    yield made
    shutil.rmtree(folder)


INSTALLED = "from importlib.metadata import distributions as d; print(*{x.name for x in d()})"


def test_only_what_the_image_needs_is_let_through(tmp_path: Path) -> None:
    """No secret, no history and no data of this machine goes into a build."""
    inside = ["ops/cli.py", "ops/docker/build.lock", "schemas/topics.py", "README.md"]
    outside = [
        *("secrets/database_url", ".git/config", ".hookline/env", ".venv/bin/python", ".env"),
        *("tests/conftest.py", "ops/__pycache__/cli.pyc", "docker-compose.yml", "dist/x.whl"),
    ]
    for path in map(tmp_path.joinpath, inside + outside):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert let_through(tmp_path, IGNORE) == sorted(map(Path, inside))


def test_both_stages_are_of_one_exact_python() -> None:
    """What was installed in one runs in the other, and on a version that hookline supports."""
    bases = {rest.split()[0] for word, rest in read_steps(DOCKERFILE.read_text()) if word == "FROM"}
    (base,) = bases
    found = re.fullmatch(r"python:(3\.\d+)\.\d+-slim-[a-z]+", base)
    assert found is not None
    least = project()["project"]["requires-python"].removeprefix(">=")
    assert [*map(int, found[1].split("."))] >= [*map(int, least.split("."))]


def test_the_image_is_not_root_and_stops_in_order(image: Image) -> None:
    """Its user is a number, as Kubernetes wants it; the command is hookline, ended by SIGTERM."""
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", image.records["USER"])
    assert image.records["ENTRYPOINT"] == '["hookline"]'
    assert image.records["STOPSIGNAL"] == "SIGTERM"


def test_nothing_but_the_environment_is_in_the_image(image: Image) -> None:
    """Sources, wheels and build tools stay behind."""
    assert [path.name for path in image.root.iterdir()] == ["opt"]
    assert [path.name for path in (image.root / "opt").iterdir()] == ["hookline"]


def test_the_image_holds_production_dependencies_alone(image: Image) -> None:
    """No embedded server, no test tool, no pip; each version as locked."""
    installed = names(image.execute("python", "-c", INSTALLED).stdout.split())
    assert "hookline" in installed
    assert names(project()["project"]["dependencies"]) <= installed
    assert installed - {"hookline"} <= pins(IMAGE).keys()
    assert installed & extras() == set()


def test_the_image_knows_its_version(image: Image) -> None:
    """The wheel inside is of this tree."""
    answer = image.run("version")
    assert (answer.returncode, answer.stdout.strip()) == (0, version("hookline")), answer.stderr


ARGUMENTS = {
    "erase": ("cus_1",),
    "explain": ("cus_1",),
    "retention": ("--months", "1"),
    "dead-letters": ("list",),
    "dead-letters replay": ("--all",),
    "positions": ("show",),
}
"""What a command cannot do without."""


@pytest.mark.parametrize("process", PROCESSES)
def test_each_process_says_what_is_not_set(image: Image, process: str) -> None:
    """Everything it imports is there: without settings it ends with sentences, not a traceback."""
    answer = image.run(*process.split(), *ARGUMENTS.get(process, ()))
    assert answer.returncode == 2, answer.stderr
    required = [n for n, field in PROCESSES[process].model_fields.items() if field.is_required()]
    sentences = sorted(f"hookline: {PREFIX}{name.upper()} is not set" for name in required)
    assert sorted(answer.stderr.splitlines()) == sentences


def test_the_image_carries_the_migrations(image: Image) -> None:
    """The files that are no modules of their own package came along."""
    where = "from ops.migrate import MIGRATIONS; print(MIGRATIONS)"
    folder = Path(image.execute("python", "-c", where).stdout.strip())
    assert folder.is_relative_to(image.root)
    found = {path.relative_to(folder) for path in folder.rglob("*.*") if path.suffix != ".pyc"}
    source = ROOT / "ops" / "migrations"
    expected = {path.relative_to(source) for path in source.rglob("*.*") if path.suffix != ".pyc"}
    assert found == expected


def test_events_can_be_sent_from_the_image(image: Image) -> None:
    """`hookline send` needs no package that the image lacks."""
    answer = image.run("send", "/nowhere", HOOKLINE_WEBHOOK_SECRETS="whsec_x")
    assert answer.returncode == 2, answer.stderr
    assert "Traceback" not in answer.stderr
