"""Compile products of stored weights for sm_90 and print facts: `python -m tests.kernels.ops.compile_stored`.

Each of CALLS in the options that the H100 would choose: registers' spills, wgmma instructions and waits for all of
them, instructions of a step of its loop, and those that the cost model counts for one thread of a step.
"""

import json
from dataclasses import replace

from kernels.choice.choice import choose
from kernels.choice.tuning import LANGUAGE
from kernels.compiled.job import specialise
from kernels.compiled.jobs import launches
from kernels.compiled.machine_code import disassembled
from kernels.cost.machine import H100, assuming
from kernels.launch.integers import cdiv

CALLS = [
    replace(LANGUAGE, N=64, M=512, stored=(scheme, scheme), activation=activation)
    for scheme, activation in (("fp8_blocks", "swiglu"), ("mxfp4", "interleaved_swiglu"))
]

if __name__ == "__main__":
    rows = []
    for call in CALLS:
        with assuming(H100):
            options = choose(call, H100)
            experts = [launch for launch in launches(call, options) if launch.stage == "experts"]
        works = [work for work in options.works(call) if work.stage == "experts"]
        codes = disassembled([specialise(launch, "sm_90").compile() for launch in experts])
        for launch, work, deep, code in zip(experts, works, (call.D, call.H), codes, strict=True):
            steps = cdiv(deep, launch.arguments["depth"] * launch.arguments["splits"])
            rows.append(
                {
                    "kernel": launch.kernel.__name__,
                    "spills": code.local,
                    "wgmmas": len(code.wgmmas),
                    "full_waits": code.full_waits,
                    "step": code.step.instructions if code.step else None,
                    "counted": work.unpacked / work.programs / steps / (32 * launch.warps),
                }
            )
    print(json.dumps(rows))  # noqa: T201 - the test reads it
