"""Rows of samples to files made for training.

The rows of a day come in an order that the seed alone decides, in files of about equal size; a file is one
row group, which is what a reader of samples takes at a time. Rows go to files by a hash of the exposure's id,
so that sizes differ by chance alone: of 16 384 rows a file, by about 1 %.
"""

import math

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from esmm.config import Config
from esmm.schema import DAY


def write(rows: DataFrame, directory: str, config: Config, *, rows_of_a_day: int) -> None:
    """Write one directory a day, at least as many files in each as there are ranks.

    `rows_of_a_day` is what the largest day may have. A day that has fewer rows than ranks has fewer files.
    """
    files = max(math.ceil(rows_of_a_day / config.samples.rows_per_file), config.training.ranks)
    order = F.xxhash64("exposure_id", F.lit(config.seed))
    (
        rows.repartition(files, order)
        .sortWithinPartitions(DAY, order)
        .write.partitionBy(DAY)
        # One row group a file: a block that holds what a file does, at up to 4 KiB a row.
        .option("parquet.block.size", max(config.samples.rows_per_file * 4096, 2**26))
        .parquet(directory)
    )
