"""Rows that are kept once made, for queries whose plans begin with them.

with cached(costly) as events:
    events.createOrReplaceTempView("events")

A frame that is merely persisted is as long a plan as ever: a view of it brings along all that it was made of, once for
each of its uses, which Spark analyses, compares with what it has cached, and optimises, time and again. Of a build of
few rows that was a fifth of the time.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import DataFrame


@contextmanager
def cached(frame: DataFrame) -> Iterator[DataFrame]:
    """The same rows, read from Spark's cache, into which the first query puts them; a lost block is made again."""
    spark, frame = frame.sparkSession, frame.persist()
    try:
        session, jvm = spark._jsparkSession, spark._jvm
        assert jvm is not None
        kept = session.sharedState().cacheManager().lookupCachedData(frame._jdf).get().cachedRepresentation()
        yield DataFrame(jvm.org.apache.spark.sql.Dataset.ofRows(session, kept), spark)
    finally:
        frame.unpersist()
