"""Training: towers alone, the whole model on batches that are there, the whole model from Parquet, two ranks.

    make bench-train

Each measurement is a process of its own (`benchmarks.train_speed`) on the same rows, the model that of
benchmarks/reference.yaml. Towers alone are the bound: no model of these widths takes its steps faster. They do not
need the gradient by their inputs, which every model that learns embeddings does: `towers_with_inputs` are the bound
with it. One rank, two and four are pinned to a core each, four to half of one where there are two cores. The bytes are
those that two ranks exchange of tables in a step, against Horovod's own sparse gradients, which hold a row for each id
of the batch; `wire bytes` are what really went over the loopback, towers' gradients and all, by rank and step.

Into build/bench/train.json.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import ROOT, Figures

BATCHES = (1024, 4096)
BFLOAT16 = ("--set", "model.precision=bfloat16")
RATIOS = {
    "resident_float32_vs_bound": ("resident", "towers", "samples/s"),
    "resident_float32_vs_towers_with_inputs": ("resident", "towers_with_inputs", "samples/s"),
    "resident_bfloat16_vs_float32_bound": ("resident, bfloat16", "towers", "samples/s"),
    "parquet_vs_resident": ("parquet", "resident", "samples/s"),
    "two_ranks_vs_one": ("2 ranks", "1 rank", "samples/s"),
    "table_bytes_vs_horovod": ("2 ranks", "horovod", "table bytes"),
}
"""At a batch of 4096."""


def main() -> None:
    """Measure all in turn, three times over."""
    measurements: dict[str, Callable[[], Figures]] = {}
    for batch in BATCHES:
        mark = "" if batch == BATCHES[-1] else f", batch {batch}"
        of_batch = ("--batch", batch)
        measurements |= {
            f"towers{mark}": in_a_process("towers", *of_batch),
            f"towers_with_inputs{mark}": in_a_process("towers_with_inputs", *of_batch),
            f"towers, bfloat16{mark}": in_a_process("towers", *of_batch, *BFLOAT16),
            f"resident{mark}": in_a_process("resident", *of_batch),
            f"resident, bfloat16{mark}": in_a_process("resident", *of_batch, *BFLOAT16),
            f"parquet{mark}": in_a_process("parquet", *of_batch),
            f"parquet, bfloat16{mark}": in_a_process("parquet", *of_batch, *BFLOAT16),
        }
    measurements |= {
        "1 rank": in_a_process("resident", "--core"),
        "2 ranks": in_a_process("resident", "--ranks", 2, "--core", ranks=2),
        "4 ranks": in_a_process("resident", "--ranks", 4, "--core", ranks=4),
        "horovod": in_a_process("ids"),
    }
    harness.run("train", measurements, ratios=RATIOS, conclude=harness.medians)


def in_a_process(what: str, *options: object, ranks: int = 1) -> Callable[[], Figures]:
    """A measurement in processes of its own."""
    launcher = [
        Path(sys.executable).with_name("horovodrun"),
        "-np",
        ranks,
        "--gloo",
        "-H",
        f"localhost:{ranks}",
    ]
    command = [
        *(launcher if ranks > 1 else ()),
        sys.executable,
        "-m",
        "benchmarks.train_speed",
        what,
        *options,
    ]

    def run() -> Figures:
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
        ended = subprocess.run(
            [str(word) for word in command],
            cwd=ROOT,
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        # Under horovodrun lines begin with their rank.
        line = next(line for line in reversed(ended.stdout.splitlines()) if "{" in line)
        found: dict[str, float] = json.loads(line[line.index("{") :])
        return found

    return run


if __name__ == "__main__":
    main()
