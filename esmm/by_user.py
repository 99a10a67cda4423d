"""Users and the rows of each, in one stream of record batches: what a user has leaves the JVM once.

    stream(users, rows)                     # user {clicked: [3, 5]}   row null
                                            # user null                row {item: 7}
                                            # user null                row {item: 9}
    for group in groups(record_batches):    # users [{…}], rows [{7}, {9}], user_of_row [0, 0]

A user comes before its rows, which a batch may end in the middle of: the next group then begins with the same user. So
nobody, the JVM or Python, holds all rows of a user at once, however many there are.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def stream(users: DataFrame, rows: DataFrame) -> DataFrame:
    """Users and rows, each with a `user_id`, bigint and not below 0, as structs `user` and `row`, one of them null.

    The `user_id` is in the user's alone. Within a partition each user, of whom there must be one, is followed by its
    rows.
    """
    user = F.struct(*users.columns).alias("user")
    row = F.struct(*(name for name in rows.columns if name != "user_id")).alias("row")
    no_user, no_row = (
        F.lit(None).cast(frame.select(struct).schema[0].dataType)
        for frame, struct in ((users, user), (rows, row))
    )
    both = users.select("user_id", user, no_row.alias("row")).union(
        rows.select("user_id", no_user.alias("user"), row)
    )
    # Spark sorts by one number without comparing rows. An id has 63 bits, so that there is one to spare.
    place = F.shiftleft("user_id", 1).bitwiseOR(F.col("row").isNotNull().cast("bigint"))
    return both.repartition("user_id").sortWithinPartitions(place).select("user", "row")


class Group(NamedTuple):
    """Some rows, and the users that they are of."""

    users: pa.RecordBatch
    rows: pa.RecordBatch
    user_of_row: np.ndarray
    """int64 [rows], ascending: each row's user by its place among the users."""


def groups(batches: Iterable[pa.RecordBatch]) -> Iterator[Group]:
    """The record batches of a partition of `stream`, taken apart."""
    last = None
    for batch in batches:
        is_user = np.asarray(batch.column("user").is_valid())
        users = pa.RecordBatch.from_struct_array(batch.column("user").filter(pa.array(is_user)))
        rows = pa.RecordBatch.from_struct_array(batch.column("row").filter(pa.array(~is_user)))
        number = np.cumsum(is_user)
        if last is None:
            number -= 1
        else:
            users = _joined(last, users)
        yield Group(users, rows, number[~is_user])
        last = users.slice(users.num_rows - 1)


def _joined(*batches: pa.RecordBatch) -> pa.RecordBatch:
    [batch] = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return batch
