"""The model, its evaluation and its use."""

from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field

from esmm.config.fields import Name, Positive, Probability, Section, TableName
from esmm.config.gates import Gates
from esmm.config.logs import Log
from esmm.errors import ConfigError

SCORE_COLUMNS = (
    "user_id", "item_id", "pctr", "pcvr", "pctcvr", "score", "rank", "model_version", "scored_at", "ds",
)  # fmt: skip
"""What the table of scores has in any case."""


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
    rank_by: str = "pctcvr"
    """What candidates are ranked by within their user, the highest first: an expression in Spark SQL of pctr, pcvr,
    pctcvr, the features, as the samples have them, and what passes through, such as `pctcvr * price`."""
    top: Positive | None = None
    """How many candidates of a user are kept, the highest ranks; all of them where nothing is said."""
    pass_through: tuple[Name, ...] = ()
    """Columns of the candidates that the table of scores has, too."""

    @pydantic.model_validator(mode="after")
    def _check_names(self) -> Self:
        for name in self.pass_through:
            if name in SCORE_COLUMNS or self.pass_through.count(name) > 1:
                expected = f"each once, and none of {', '.join(SCORE_COLUMNS)}"
                raise ConfigError("scoring.pass_through", expected=expected, found=repr(name))
        return self
