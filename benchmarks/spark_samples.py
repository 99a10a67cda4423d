"""Samples from raw logs as jobs/build_samples.py makes them, and how long it took, stage by stage.

spark-submit.sh benchmarks/spark_samples.py --config CONFIG --from DAY --to DAY --figures figures.json

    {"s": 28.3, "stages": [{"stage": "parquet at …", "s": 9.1, "tasks": 8, "shuffle_read_mib": 310.2, …}, …]}
"""

import argparse
import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

# spark-submit puts this file's directory on the path, not the repository's.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.harness import timed
from esmm import cli, samples
from esmm import config as configs

MIB = 2**20


def main() -> None:
    """Build, and write the seconds from build()'s start to its end, with what each stage took."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("config", "figures"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("from", "to"):
        parser.add_argument(f"--{name}", type=dt.datetime.fromisoformat, required=True)
    options = vars(parser.parse_args())
    config = configs.load(options["config"])
    days = cli.days(options["from"], options["to"])
    spark = SparkSession.builder.config(map=cli.spark_settings(config)).getOrCreate()
    try:
        # The logs end with the last purchase, before the last day's windows do.
        seconds = timed(lambda: samples.build(spark, config, days, allow_immature=True).or_raise())
        options["figures"].write_text(json.dumps({"s": seconds, "stages": stages(spark)}))
    finally:
        spark.stop()


def stages(spark: SparkSession) -> list[dict[str, Any]]:
    """The stages that ran, in order: seconds from start to end and of all tasks, and the bytes they moved."""
    context = spark.sparkContext
    gateway = context._gateway
    assert gateway is not None
    quantiles = gateway.new_array(gateway.jvm.double, 0)
    found = context._jsc.sc().statusStore().stageList(None, False, False, quantiles, None)
    return [
        _stage(found.apply(index)) for index in reversed(range(found.size())) if _has_run(found.apply(index))
    ]


def _has_run(stage: Any) -> bool:
    return bool(stage.submissionTime().isDefined() and stage.completionTime().isDefined())


def _stage(stage: Any) -> dict[str, Any]:
    milliseconds = stage.completionTime().get().getTime() - stage.submissionTime().get().getTime()
    return {
        "stage": stage.name(),
        "s": milliseconds / 1000,
        "tasks": stage.numCompleteTasks(),
        "tasks_s": stage.executorRunTime() / 1000,
        "garbage_collection_s": stage.jvmGcTime() / 1000,
        "input_mib": stage.inputBytes() / MIB,
        "output_mib": stage.outputBytes() / MIB,
        "shuffle_read_mib": stage.shuffleReadBytes() / MIB,
        "shuffle_write_mib": stage.shuffleWriteBytes() / MIB,
        "spilled_mib": stage.diskBytesSpilled() / MIB,
    }


if __name__ == "__main__":
    main()
