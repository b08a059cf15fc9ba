"""The targets under atheris, which looks for inputs that reach code no input has reached."""

import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.targets import SAMPLES, TARGETS
from support.proving import Proof

RUNS = 200_000
TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("target", TARGETS)
def test_no_guided_input_breaks_a_law(proof: Proof, tmp_path: Path, target: str) -> None:
    """Inputs that atheris finds by coverage break no law and raise nothing."""
    pytest.importorskip("atheris", reason="atheris has no wheel for this machine")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, sample in enumerate(SAMPLES[target]):
        (corpus / str(number)).write_bytes(sample)
    seed = proof.random.getrandbits(31)
    options = [f"-atheris_runs={RUNS}", f"-seed={seed}", "-max_len=8192", "-verbosity=1"]
    answer = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "fuzz.guided", target, *options, str(corpus)],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{TESTS}:{TESTS.parent}", "PATH": ""},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert answer.returncode == 0, answer.stdout[-4000:] + answer.stderr[-4000:]
    assert f"Done {RUNS}" in answer.stderr
    proof.count(guided_inputs=RUNS, kept_for_new_coverage=len(list(corpus.iterdir())))
