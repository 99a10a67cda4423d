"""The model, its training, its evaluation and its use."""

import datetime as dt
from typing import Literal

from pydantic import Field

from esmm.config.fields import Positive, PositiveDuration, Probability, Section, TableName
from esmm.config.logs import Log


class Model(Section):
    """The network."""

    variant: Literal["esmm"] = "esmm"
    """The file in esmm/models."""
    towers: tuple[Positive, ...] = (512, 256, 128)
    """Widths of the hidden layers of each of the two towers."""
    dropout: Probability = 0.0
    """Share of a hidden layer's outputs that a training step sets to 0."""


class Training(Section):
    """The run that fits the model."""

    ranks: Positive = 1
    """Horovod processes."""
    batch_size: Positive = 4096
    """Samples a rank and step."""
    epochs: Positive = 1
    """Times that every sample is used."""
    learning_rate: float = Field(default=0.05, gt=0)
    """Adagrad's, of the first step."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Whether the rate stays, or falls along half a cosine to 0 at the last step."""
    initial_accumulator: float = Field(default=1e-5, gt=0)
    """What Adagrad's sums of squared gradients start from. A row of a table sees the gradient of a few samples of
    a batch, divided by the whole batch: from 0.1, as libraries have it, it would hardly ever learn."""
    reader_threads: Positive = 2
    """Threads of a rank that decode Parquet."""
    cache: str | None = None
    """A directory on the ranks' local disks: there a rank keeps its rows, decoded, while it trains, so that epochs
    after the first read no Parquet. Of use where the samples are far away; what is there is removed at the end."""
    cache_gib: Positive = 50
    """What a rank keeps there at most; it reads the rest anew in each epoch."""
    threads: Positive | None = None
    """TensorFlow's threads a rank; by default the machine's cores divided by the ranks."""
    directory: str
    """Where checkpoints and TensorBoard events go."""
    log_every: Positive = 50
    """Steps between two lines of progress."""
    start_timeout: PositiveDuration = dt.timedelta(minutes=5)
    """How long the launcher waits for all ranks to start."""
    nics: tuple[str, ...] = ()
    """Network interfaces that ranks talk over, where hosts have several."""


class Evaluation(Section):
    """What is measured on held-out days."""

    directory: str
    """Where the metrics (JSON) and the page (HTML) go."""
    truth: str | None = None
    """The simulator's table of true probabilities, where there is one."""


class Scoring(Section):
    """The nightly scores."""

    candidates: Log
    """Pairs to score: `user_id`, `item_id`."""
    table: str
    """The directory of the table of scores."""
    catalog: TableName | None = None
    """As `samples.catalog`."""
    models: str
    """The directory that holds one directory a model version."""
    batch_size: Positive = 4096
    """Rows that the model scores at a time."""
