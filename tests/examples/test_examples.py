"""Every file of examples/ runs as a person would run it, at a small size."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL_GPT = (
    *("--megabytes", "2", "--hold-out-every", "20", "--vocab", "512", "--eval-steps", "8"),
    *("--dim", "64", "--layers", "1", "--seq-len", "64", "--lr", "1e-2", "--steps", "160"),
)


def run_example(name, *arguments, cwd):
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=cwd,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=280,
    )


def test_every_example_is_run_here():
    assert {p.name for p in EXAMPLES.glob("*.py")} == {"numpy_iterate.py", "pretrain_gpt.py"}


@pytest.mark.parametrize("arguments", [(), ("data",)])
def test_numpy_iterate(tmp_path, arguments):
    done = run_example("numpy_iterate.py", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "9,984 samples in 39 batches, each once" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == list(arguments)


def test_pretrain_gpt_learns_and_resumes_exactly(tmp_path):
    done = run_example("pretrain_gpt.py", *SMALL_GPT, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASS") == 4
    assert "FAIL" not in done.stdout
    assert re.search(r"process \d+ resumes after step 80 from \{.*\"position\": 1280", done.stdout)
    assert re.search(r"100%.*loss=\d.*tokens_s=\d.*waiting=\d", done.stderr)
    output = tmp_path / "demo-output"
    assert (output / "loss.png").read_bytes().startswith(b"\x89PNG")
    steps = [json.loads(line) for line in (output / "steps.jsonl").read_text().splitlines()]
    assert [s["step"] for s in steps] == list(range(160))
    assert len({s["pid"] for s in steps}) == 2
    assert len({s["batch"] for s in steps}) == 160


def test_pretrain_gpt_fails_when_the_model_has_not_learned(tmp_path):
    done = run_example("pretrain_gpt.py", *SMALL_GPT[:-1], "2", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count("PASS") == 2
    assert done.stdout.count("FAIL held-out loss") == 2
