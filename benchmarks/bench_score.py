"""Scoring: the SavedModel alone, Spark's own `predict_batch_udf`, and this project's two ways.

    python -m benchmarks.bench_score            # all, into build/bench/score.json
    python -m benchmarks.bench_score flat       # one: scores twice, prints its figures in JSON

All score the same million candidates, which come in no order (`benchmarks.score_rows`), each in a process of its own,
and twice: `whole_s` is from the process's start to the end of the first time, the model loaded and all; `rows/s` are of
the second, when the workers have the model and Java has compiled what it runs.

    bound      the SavedModel in one process, two threads, on flat record batches in memory, of 4096 rows
    udf        predict_batch_udf on local[2], from Parquet of flat rows to Parquet
    flat       esmm.scoring.with_predictions, the same
    grouped    esmm.scoring.predictions_by_user, from Parquet of flat pairs, and of a row a user, to Parquet

`growth` is by what part a Python worker's resident memory grew the second time, the most of all workers.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from inspect import Parameter, Signature
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq

from benchmarks import harness, score_rows
from benchmarks.harness import ROOT, Figures

DIRECTORY = ROOT / "build/bench/score"
THREADS, BATCH = 2, 4096
RATIOS = {
    "flat_vs_bound": ("flat", "bound", "rows/s"),
    "flat_vs_predict_batch_udf": ("flat", "udf", "rows/s"),
    "grouped_vs_bound": ("grouped", "bound", "rows/s"),
}
TOLERANCE = 1e-6

Score = Callable[[], None]
"""Scores all once."""


def bound() -> Score:
    """From record batches in memory to arrays."""
    import tensorflow as tf

    from esmm import schema, versions
    from esmm.export import load
    from esmm.padding import to_array

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    config = score_rows.config_of(DIRECTORY)
    columns = schema.feature_columns(config)
    model = load(config.scoring.models, versions.complete(config.scoring.models)[-1])
    in_memory = pq.read_table(DIRECTORY / "rows", columns=[column.name for column in columns])

    def score() -> None:
        for batch in in_memory.to_batches(BATCH):
            model({column.name: to_array(batch.column(column.name), column) for column in columns})

    return score


def _session() -> Any:
    from pyspark.sql import SparkSession

    from esmm import cli

    # Four partitions a core, where Spark's 200 are for a cluster.
    settings: dict[str, Any] = {"spark.ui.enabled": "false", "spark.sql.shuffle.partitions": 4 * THREADS}
    settings |= cli.spark_settings(score_rows.config_of(DIRECTORY))
    return SparkSession.builder.master(f"local[{THREADS}]").config(map=settings).getOrCreate()


def udf() -> Score:
    """Spark's own: columns to arrays by pandas, the model cached a worker."""
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql import types as T

    from esmm import schema, versions

    spark, config = _session(), score_rows.config_of(DIRECTORY)
    columns = schema.feature_columns(config)
    path = f"{config.scoring.models}/{versions.complete(config.scoring.models)[-1]}"

    def make() -> Callable[..., Mapping[str, np.ndarray]]:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        loaded = tf.saved_model.load(path)
        serve = loaded.signatures["serving_default"]

        def predict(*arrays: np.ndarray) -> Mapping[str, np.ndarray]:
            made = {
                column.name: tf.constant(array, column.type)
                for column, array in zip(columns, arrays, strict=True)
            }
            assert loaded is not None  # the function alone does not keep its variables
            return {name: tensor.numpy() for name, tensor in serve(**made).items()}

        # Spark counts the arguments.
        names = [Parameter(column.name, Parameter.POSITIONAL_ONLY) for column in columns]
        predict.__signature__ = Signature(names)  # type: ignore[attr-defined]
        return predict

    predict = predict_batch_udf(
        make,
        return_type=T.StructType([T.StructField(name, T.FloatType()) for name in schema.PREDICTIONS]),
        batch_size=BATCH,
        input_tensor_shapes=[[] if column.length is None else [column.length] for column in columns],
    )

    def score() -> None:
        rows = spark.read.parquet(str(DIRECTORY / "rows"))
        found = rows.select("user_id", "item_id", predict(*[column.name for column in columns]).alias("p"))
        found.select("user_id", "item_id", "p.*").write.mode("overwrite").parquet(
            str(DIRECTORY / "scored/udf")
        )

    return score


def flat() -> Score:
    """Rows as samples are."""
    from esmm import scoring, versions

    spark, config = _session(), score_rows.config_of(DIRECTORY)
    version = versions.complete(config.scoring.models)[-1]

    def score() -> None:
        rows = spark.read.parquet(str(DIRECTORY / "rows"))
        found = scoring.with_predictions(rows, config, version, keep=["user_id", "item_id"])
        found.write.mode("overwrite").parquet(str(DIRECTORY / "scored/flat"))

    return score


def grouped() -> Score:
    """Pairs, and users beside them; counted for drift, as by the nightly job."""
    from esmm import drift, scoring, versions

    spark, config = _session(), score_rows.config_of(DIRECTORY)
    version = versions.complete(config.scoring.models)[-1]

    def score() -> None:
        users, rows = (spark.read.parquet(str(DIRECTORY / kind)) for kind in ("users", "candidates"))
        watch, keep = drift.Watch(spark), ["user_id", "item_id"]
        found = scoring.predictions_by_user(users, rows, config, version, keep, watch)
        found.write.mode("overwrite").parquet(str(DIRECTORY / "scored/grouped"))

    return score


SCORERS = {"bound": bound, "udf": udf, "flat": flat, "grouped": grouped}


def measure(scorer: str) -> Figures:
    """Score twice in this process."""
    score = SCORERS[scorer]()
    score()
    whole = time.time() - psutil.Process().create_time()
    before = resident()
    seconds = harness.timed(score)
    after = resident()
    growth = {"growth": max(after[each] / before[each] - 1 for each in before)} if before else {}
    return {"rows/s": score_rows.ROWS / seconds, "whole_s": whole, **growth}


def resident() -> dict[int, int]:
    """Bytes that each of Spark's Python workers, which are the children of a daemon, holds in memory."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a zombie is none such, too
            if "pyspark.daemon" in (process.parent() or process).cmdline():
                found[process.pid] = process.memory_info().rss
    return found


def in_a_process(scorer: str) -> Callable[[], Figures]:
    """A measurement in a process of its own."""

    def run() -> Figures:
        environment = {
            "PYSPARK_PYTHON": sys.executable,
            "SPARK_CONF_DIR": str(ROOT / "conf/spark"),
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        ended = subprocess.run(
            [sys.executable, "-m", "benchmarks.bench_score", scorer],
            cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE,
        )  # fmt: skip
        found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
        return found

    return run


def check() -> None:
    """Raise ValueError where the three do not give every candidate the same probabilities."""
    names = ["item_id", "user_id", "pctr", "pcvr", "pctcvr"]
    found = {}
    for scorer in ("udf", "flat", "grouped"):
        table = pq.read_table(DIRECTORY / "scored" / scorer, columns=names).sort_by("item_id")
        found[scorer] = np.stack([table[name].to_numpy() for name in names])
    for scorer, values in found.items():
        if values.shape != (len(names), score_rows.ROWS) or abs(values - found["udf"]).max() > TOLERANCE:
            raise ValueError(f"{scorer}: expected the probabilities of predict_batch_udf to {TOLERANCE}")


def conclude(report: Mapping[str, Any]) -> dict[str, Any]:
    """What there is to reach, beside the figures."""
    check()
    growth = max(report["figures"][scorer]["growth"]["median"] for scorer in ("flat", "grouped"))
    return harness.medians(report) | {"worker_rss_growth": growth, "rows": score_rows.ROWS}


def main() -> None:
    """Measure all in turn, three times over."""
    score_rows.made_in(DIRECTORY)
    harness.run(
        "score", {scorer: in_a_process(scorer) for scorer in SCORERS}, ratios=RATIOS, conclude=conclude
    )


if __name__ == "__main__":
    if len(sys.argv) == 2:
        print(json.dumps(measure(sys.argv[1])))
    else:
        main()
