"""The run that fits the model: its steps, what it keeps, and when it gives up."""

import datetime as dt
from typing import Annotated, Literal

from pydantic import Field

from esmm.config.fields import Positive, PositiveDuration, Probability, Section

NonNegative = Annotated[int, Field(ge=0)]
PositiveNumber = Annotated[float, Field(gt=0)]


class Optimizer(Section):
    """How a step's gradient changes the parameters; a table's rows change only in steps that use them."""

    name: Literal["adagrad", "adam"] = "adagrad"
    """Duchi et al. 2011, or Kingma and Ba 2015."""
    learning_rate: PositiveNumber = 0.05
    """The highest of the run."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Whether the rate stays, or falls along half a cosine to 0 at the last step."""
    warm_up_steps: NonNegative = 0
    """Steps in which the rate first rises, in a straight line, to the highest."""
    scale_by_ranks: bool = False
    """Whether the rate is multiplied by the number of ranks: N of them see batches N times as large."""
    initial_accumulator: PositiveNumber = 1e-5
    """What Adagrad's sums of squared gradients start from. A row of a table sees the gradient of a few samples of
    a batch, divided by the whole batch: from 0.1, as libraries have it, it would hardly ever learn."""
    betas: tuple[Probability, Probability] = (0.9, 0.999)
    """How much of Adam's two moments stays from step to step."""
    epsilon: PositiveNumber = 1e-8
    """What Adam adds to the root of the second moment."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """By this much, times the rate, kernels and the rows in use shrink in a step (Loshchilov and Hutter 2019)."""
    clip_norm: PositiveNumber | None = None
    """The norm of all gradients together that none may exceed; larger ones are scaled down to it."""


class Checkpoints(Section):
    """What a run keeps so that it can go on where it was; besides these, each epoch's end makes one."""

    every_steps: Positive | None = None
    """Steps between two."""
    every: PositiveDuration | None = None
    """Time between two."""
    keep: Positive = 3
    """How many stay, the newest ones; the best one of early stopping stays too."""


class EarlyStopping(Section):
    """Ends a run whose metric on the validation samples has stopped improving, and keeps the best epoch's model."""

    metric: Annotated[str, Field(pattern=r"^(ctr|cvr|ctcvr)\.(auc|log_loss|accuracy|pcoc)$")] = "ctcvr.auc"
    """TASK.METRIC: auc and accuracy are better the higher, log_loss the lower, pcoc the nearer to 1."""
    patience: Positive = 1
    """Epochs without an improvement after which the run ends."""
    min_change: Annotated[float, Field(ge=0)] = 0.0
    """An improvement by no more than this is none."""


class Failure(Section):
    """What happens when a rank is lost."""

    dead_within: PositiveDuration = dt.timedelta(seconds=60)
    """How long after a rank died or raised the run has ended on all others."""
    frozen_within: PositiveDuration = dt.timedelta(seconds=120)
    """How long after a rank stopped responding."""
    max_restarts: NonNegative = 2
    """How often the launcher starts the ranks again, from the last checkpoint."""


class Training(Section):
    """The run that fits the model."""

    ranks: Positive = 1
    """Horovod processes."""
    batch_size: Positive = 4096
    """Samples a rank and step."""
    shard_above_gib: Annotated[float, Field(gt=0)] = 4.0
    """A table that takes more memory than this, with what the optimizer keeps of it, is spread over the ranks."""
    epochs: Positive = 1
    """Times that every sample is used."""
    optimizer: Optimizer = Optimizer()
    checkpoints: Checkpoints = Checkpoints()
    early_stopping: EarlyStopping | None = None
    calibrate: bool = False
    """Whether the published model's pCTR and pCTCVR go through isotonic maps fitted to the validation samples, and its
    pCVR is what they leave: see `esmm.calibration`. It takes samples to validate on (`train --validate`)."""
    failure: Failure = Failure()
    deterministic: bool = False
    """Whether equal runs give equal parameters to the last bit, by slower kernels where it takes them."""
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
    stall_warning: PositiveDuration = dt.timedelta(seconds=60)
    """How long a rank waits for another one before Horovod logs which."""
    nics: tuple[str, ...] = ()
    """Network interfaces that ranks talk over, where hosts have several."""
