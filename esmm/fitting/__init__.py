"""One pass over the training samples before training: what vocabularies, means and boundaries are.

    fitted = fit(config, plan, exchange, run)       # the same on every rank
    models.make(config, fitted=fitted)

Each rank reads its share of the plan's row groups, of the columns that something is learnt from alone, and what
they find is merged. Where nothing is to be learnt nothing is read. A run that goes on from a checkpoint takes what it
learnt when it began.

What a rank holds meanwhile does not grow with the number of rows: of each table with a vocabulary about 64 bytes for
each different id of its share, at the peak, while they are sorted (`esmm.fitting.counts`); 8 MiB a feature cut at
quantiles (`esmm.fitting.quantiles`); three numbers a standardised column (`esmm.fitting.moments`); a few row groups.
"""

from contextlib import closing
from typing import TYPE_CHECKING

import structlog

from esmm import fitted, runs, schema
from esmm.config import BucketFeature, Config
from esmm.epochs import Piece
from esmm.errors import DataError
from esmm.fitted import NOTHING, Fitted
from esmm.fitting.counts import Counts
from esmm.fitting.moments import Sums
from esmm.fitting.quantiles import Histogram
from esmm.plan import ReadingPlan
from esmm.reader import read_row_groups

if TYPE_CHECKING:
    from esmm.distributed.exchange import Exchange

log = structlog.get_logger()


def fit(config: Config, plan: ReadingPlan, exchange: "Exchange", run: str) -> Fitted:
    """Learn from a plan's samples what the config's features need to know of them.

    Args:
        config: its vocabularies, standardised numbers and quantiles say what is to be learnt.
        plan: the training samples, the same on every rank.
        exchange: the ranks; all of them call this.
        run: the digest of the run (`esmm.runs`), by which a run that goes on finds what it learnt.

    Raises DataError, on every rank the same, where one cannot read its share.
    """
    learners = _Learners(config)
    if not learners.columns:
        return NOTHING
    root = runs.checkpoints_of(config)
    known = exchange.broadcast_object(fitted.load(root, run) if exchange.rank == 0 else None)
    if known is not None:
        return known
    exchange.at(0, "fitting features")
    learners.read(plan, exchange)
    found = learners.merged(exchange)
    if exchange.rank == 0:
        fitted.save(root, run, found)
        log.info("features fitted", rows=plan.rows, vocabularies=found.summary()["vocabularies"])
    return found


class _Learners:
    """One rank's part of it: what is learnt, and from which columns."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._columns_of: dict[str, list[str]] = {}
        for column, table in schema.tables_of(config).items():
            if config.embeddings[table].vocabulary is not None:
                self._columns_of.setdefault(table, []).append(column)
        self._counts = {table: Counts() for table in self._columns_of}
        self._sums = {
            name: Sums(feature)
            for name, feature in schema.number_features(config).items()
            if feature.standardise
        }
        self._quantiles = {
            name: feature.quantiles
            for name, feature in config.features.items()
            if isinstance(feature, BucketFeature) and feature.quantiles
        }
        self._histograms = {name: Histogram() for name in self._quantiles}
        numbers = {*self._sums, *self._histograms}
        ids = {column for columns in self._columns_of.values() for column in columns}
        weight = {schema.WEIGHT.name} if numbers else set()
        self.columns = [
            column for column in schema.training_columns(config) if column.name in numbers | ids | weight
        ]
        """What has to be read."""

    def read(self, plan: ReadingPlan, exchange: "Exchange") -> None:
        """Learn from this rank's share: every row group is one rank's."""
        share = [Piece(group) for group in plan.row_groups[exchange.rank :: exchange.size]]
        failed = None
        try:
            threads = self._config.training.reader_threads
            with closing(read_row_groups(share, self.columns, threads)) as groups:
                for arrays in exchange.awaited(groups):
                    for table, columns in self._columns_of.items():
                        self._counts[table].add([arrays[column] for column in columns])
                    for name, sums in self._sums.items():
                        sums.add(arrays[name], arrays[schema.WEIGHT.name])
                    for name, histogram in self._histograms.items():
                        histogram.add(arrays[name], arrays[schema.WEIGHT.name])
        except DataError as error:
            failed = error
        # Ranks meet only here, so that one that cannot read keeps none of the others waiting.
        for each in filter(None, exchange.gather_objects(failed)):
            raise each

    def merged(self, exchange: "Exchange") -> Fitted:
        """What all ranks have learnt together."""
        vocabularies = {}
        for table, counts in self._counts.items():
            embedding = self._config.embeddings[table]
            assert embedding.vocabulary is not None
            # One row is for all ids that have none.
            most, floor = embedding.rows - 1, embedding.vocabulary.min_count
            vocabularies[table] = counts.frequent(exchange, min_count=floor, most=most)
        return Fitted(
            vocabularies,
            {name: sums.moments(exchange) for name, sums in self._sums.items()},
            {
                name: histogram.boundaries(exchange, self._quantiles[name])
                for name, histogram in self._histograms.items()
            },
        )
