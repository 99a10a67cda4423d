"""The network, its evaluation and its use."""

from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field

from esmm.config.fields import Name, Positive, Probability, Section, TableName
from esmm.config.gates import Gates
from esmm.config.logs import Log
from esmm.errors import ConfigError

TASKS: dict[str, dict[str, float]] = {
    "base": {"ctr": 1.0, "cvr": 1.0},
    "esmm_ns": {"ctr": 1.0, "ctcvr": 1.0},
    "esmm": {"ctr": 1.0, "ctcvr": 1.0},
    "escm2_ips": {"ctr": 1.0, "ctcvr": 1.0, "cvr": 0.02},
    "escm2_dr": {"ctr": 1.0, "ctcvr": 1.0, "cvr": 0.02, "imputation": 0.02},
    "dcmt": {"ctr": 1.0, "ctcvr": 1.0, "cvr": 0.02, "counterfactual": 0.02, "prior": 0.001},
    "division": {"ctr": 1.0, "ctcvr": 1.0},
}
"""Each variant's losses, and what each is multiplied by unless `task_weights` says otherwise.

Terms that divide by a propensity weigh a clicked row by up to 1 / `propensity_floor`: on a simulated market
(conf/bench.yaml's, of another seed) 0.02 gave a lower log loss of CTCVR than 0.1.
"""


class Model(Section):
    """The network; docs/models.md says which variant to take when."""

    variant: Literal["base", "esmm_ns", "esmm", "escm2_ips", "escm2_dr", "dcmt", "division"] = "esmm"
    """What is fitted to what: a class of esmm/models."""
    body: Literal["towers", "shared_bottom"] = "towers"
    """What lies between features and logits: a file of esmm/models/bodies."""
    towers: tuple[Positive, ...] = (512, 256, 128)
    """Widths of the hidden layers of each tower."""
    bottom: tuple[Positive, ...] = (512,)
    """Widths of the hidden layers that all towers share, below their own; of body `shared_bottom`."""
    dropout: Probability = 0.0
    """Share of a hidden layer's outputs that a training step sets to 0."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the hidden layers of towers and bottom compute in while they train. Their parameters stay float32, as do
    tables, losses and gradients' sums, and a model that is evaluated or served computes in float32 throughout."""
    layer_norm: bool = False
    """Whether a hidden layer's sums are normalised over the layer, sample by sample (Ba et al. 2016)."""
    task_weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    """What a task's loss is multiplied by, where it is not what TASKS has for the variant."""
    label_smoothing: Probability = 0.0
    """ε: a label y is fitted as (1 - ε) y + ε / 2 (Szegedy et al. 2016, arXiv 1512.00567)."""
    stop_gradient: bool = False
    """Whether the loss of CTCVR leaves the CTR tower alone, so that purchases do not bend pCTR."""
    propensity_floor: Annotated[float, Field(gt=0, le=1)] = 0.01
    """A propensity, by which `escm2_ips`, `escm2_dr` and `dcmt` divide, counts as at least this: the inverse is the
    most that one row may weigh."""

    @property
    def tasks(self) -> dict[str, float]:
        """The variant's tasks, and what the loss of each is multiplied by."""
        return TASKS[self.variant] | self.task_weights

    @pydantic.model_validator(mode="after")
    def _check_tasks(self) -> Self:
        known = TASKS[self.variant]
        for task in self.task_weights:
            if task not in known:
                expected = f"tasks of {self.variant} ({', '.join(known)})"
                raise ConfigError("model.task_weights", expected=expected, found=repr(task))
        return self


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
    segments: tuple[Name, ...] = ()
    """Id features and lists, by whose values AUC, PCOC and the like are measured: a feature's 30 most frequent ones, a
    list's lengths."""


SCORE_COLUMNS = (
    "user_id", "item_id", "pctr", "pcvr", "pctcvr", "score", "rank", "model_version", "scored_at", "ds",
)  # fmt: skip
"""What the table of scores has in any case."""


class Items(Section):
    """Some of the items."""

    feature: Name
    """An id feature of theirs."""
    values: tuple[int | str, ...] = Field(min_length=1)
    """All items that have one of these, as their log has them."""


class Drift(Section):
    """What is done where scored rows do not look like the model's own samples: `esmm.drift`."""

    threshold: Annotated[float, Field(gt=0)] = 0.25
    """The population stability index, of a score or an input, beyond which that is so."""
    on_drift: Literal["warn", "stop"] = "warn"
    """Whether a line warns of it, or nothing is published."""


class Scoring(Section):
    """The nightly scores."""

    candidates: Log | None = None
    """Pairs to score: `user_id`, `item_id`. Without logs nothing can be scored."""
    users: Log | None = None
    """In place of `candidates`: users to score, `user_id`, each with all of `items`."""
    items: Items | None = None
    """What `users` are scored with."""
    table: str | None = None
    """The directory of the table of scores."""
    catalog: TableName | None = None
    """As `samples.catalog`."""
    models: str
    """The directory that holds one directory a model version."""
    batch_size: Positive = 4096
    """Rows that the model scores at a time."""
    rank_by: str = "pctcvr"
    """What candidates are ranked by within their user, the highest first: an expression in Spark SQL of pctr, pcvr,
    pctcvr, the features, as the samples have them or null where a log has no number, and what passes through, such as
    `pctcvr * price`."""
    top: Positive | None = None
    """How many candidates of a user are kept, the highest ranks; all of them where nothing is said."""
    pass_through: tuple[Name, ...] = ()
    """Columns of the candidates (or users) that the table of scores has, too."""
    drift: Drift = Drift()

    @pydantic.model_validator(mode="after")
    def _check_candidates(self) -> Self:
        if (self.users is None) != (self.items is None) or None not in (self.candidates, self.users):
            given = [name for name in ("candidates", "users", "items") if getattr(self, name) is not None]
            expected = "candidates, or users and items"
            raise ConfigError("scoring", expected=expected, found=" and ".join(given))
        return self

    @pydantic.model_validator(mode="after")
    def _check_names(self) -> Self:
        for name in self.pass_through:
            if name in SCORE_COLUMNS or self.pass_through.count(name) > 1:
                expected = f"each once, and none of {', '.join(SCORE_COLUMNS)}"
                raise ConfigError("scoring.pass_through", expected=expected, found=repr(name))
        return self
