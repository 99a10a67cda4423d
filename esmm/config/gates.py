"""What a model has to be worth before it scores."""

from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field

from esmm.config.fields import Probability, Section

Task = Literal["ctr", "cvr", "ctcvr"]


class Gates(Section):
    """Conditions of `evaluate --promote`, all of them measured on the days that are evaluated."""

    min_auc: dict[Task, Probability] = {}
    """By task, the AUC that a model needs."""
    max_auc_drop: dict[Task, Annotated[float, Field(ge=0)]] = {}
    """By task, how far its AUC may be below the champion's on the same rows."""
    pcoc: dict[Task, tuple[float, float]] = {}
    """By task, the least and the most that mean prediction over mean label may be."""

    @pydantic.model_validator(mode="after")
    def _check_bounds(self) -> Self:
        for task, (least, most) in self.pcoc.items():
            if not 0 <= least <= most:
                raise ValueError(f"two numbers from 0 up for {task}, the second not below the first")
        return self
