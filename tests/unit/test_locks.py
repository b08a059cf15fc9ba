"""The lock files of the image: what is tested is what is shipped, and nothing more."""

import re

import pytest

from support.locks import IMAGE, IMAGE_TOOLS, MAIN, ROOT, extras, names, pins, project


@pytest.mark.parametrize("path", [IMAGE, IMAGE_TOOLS])
def test_the_image_holds_the_versions_that_are_tested(path: str) -> None:
    """Each pin of the image is one of requirements.lock, with hashes, and names no registry."""
    image = pins(path)
    assert image
    assert image.items() <= pins(MAIN).items()
    text = (ROOT / path).read_text()
    entries = re.split(r"\n(?=\S)", text)
    assert len(entries) == len(image)
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text


def test_the_image_locks_cover_the_project() -> None:
    """Every production dependency and every tool that makes the wheel is pinned, no extra is."""
    image = pins(IMAGE)
    assert names(project()["project"]["dependencies"]) <= image.keys()
    assert names(project()["build-system"]["requires"]) <= pins(IMAGE_TOOLS).keys()
    assert extras() & image.keys() == set()


def audited() -> set[str]:
    """Return the locks that `make audit` holds against advisories."""
    text = (ROOT / "Makefile").read_text()
    found = re.search(r"^LOCKS := ((?:.*\\\n)*.*)", text, re.MULTILINE)
    assert found
    return set(found[1].replace("\\\n", " ").split())


def committed_locks() -> set[str]:
    """Return all lock files of the repository."""
    paths = {path.relative_to(ROOT) for path in ROOT.rglob("*.lock")}
    return {str(p) for p in paths if not {".venv", ".hookline"} & set(p.parts)}


def test_every_lock_is_audited() -> None:
    """No pin is left out of the audit."""
    assert audited() == committed_locks()


@pytest.mark.parametrize("path", sorted(audited()))
def test_every_pin_has_hashes(path: str) -> None:
    """What is installed is what was looked at, to the byte, whoever serves it."""
    entries = re.findall(r"^[a-z0-9].*(?:\n .*)*", (ROOT / path).read_text(), re.MULTILINE)
    assert entries
    assert all(" \\\n    --hash=sha256:" in entry for entry in entries)
