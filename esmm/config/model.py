"""The model, its evaluation and its use."""

from typing import Annotated, Literal

from pydantic import Field

from esmm.config.fields import Positive, Probability, Section, TableName
from esmm.config.gates import Gates
from esmm.config.logs import Log


class Model(Section):
    """The network."""

    variant: Literal["esmm"] = "esmm"
    """The file in esmm/models."""
    towers: tuple[Positive, ...] = (512, 256, 128)
    """Widths of the hidden layers of each of the two towers."""
    dropout: Probability = 0.0
    """Share of a hidden layer's outputs that a training step sets to 0."""
    layer_norm: bool = False
    """Whether a hidden layer's sums are normalised over the layer, sample by sample (Ba et al. 2016)."""
    task_weights: dict[Literal["ctr", "ctcvr"], Annotated[float, Field(ge=0)]] = {}
    """What each task's loss is multiplied by; 1 where nothing is said."""
    stop_gradient: bool = False
    """Whether the loss of CTCVR leaves the CTR tower alone, so that purchases do not bend pCTR."""


class Evaluation(Section):
    """What is measured on held-out days."""

    directory: str
    """Where the metrics (JSON) and the page (HTML) go."""
    truth: str | None = None
    """The simulator's table of true probabilities, where there is one."""
    as_nightly: bool = True
    """Whether the AUCs with lists as of the day's start, as a table made once a night has them, are measured too;
    it takes a second pass over logs and samples. Not where samples.history_cutoff is `day_start` already."""
    gates: Gates = Gates()
    """What a model must be worth to be promoted."""


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
