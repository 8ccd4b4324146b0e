"""The instructions and barriers that the cost model counts, against the machine code."""

import json

import pytest

from kernels.choice.tuning import PAPER
from tests.kernels.paths.count_instructions import OPTIONS
from tests.kernels.process import run_compiled


def test_fused_tiles_execute_about_as_many_instructions_as_counted() -> None:
    done = run_compiled("-m", "tests.kernels.paths.count_instructions")
    assert done.returncode == 0, done.stderr
    compiled = json.loads(done.stdout)
    works = [options.works(PAPER)[0] for options in OPTIONS]
    assert len(compiled) == len(works)
    for work, (instructions, barriers) in zip(works, compiled, strict=True):
        assert work.instructions == pytest.approx(instructions, rel=0.25)
        assert work.barriers == pytest.approx(barriers, rel=0.25)
