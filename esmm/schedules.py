"""The learning rate of each step.

rate = scheduled(settings, ranks=2, steps=1_000)
rate(1), rate(1_000)        # of the first step and of the last
"""

import math
from collections.abc import Callable

from esmm.config import Optimizer


def scheduled(
    settings: Optimizer, *, ranks: int, steps: int, taken: int = 0, done: int = 0
) -> Callable[[int], float]:
    """The rate as a function of the step, counted from 1, in a run of so many steps on so many ranks.

    It rises in a straight line over `warm_up_steps` w (Goyal et al. 2017, arXiv 1706.02677), and then stays or
    falls along half a cosine (Loshchilov and Hutter 2017, arXiv 1608.03983, without restarts):

        peak = learning_rate · (ranks if scale_by_ranks else 1)
        rate(s) = peak · s / w                                        where s ≤ w
        rate(s) = peak · (1 + cos(π · (s - w - 1) / (steps - w))) / 2        else

    A run that goes on has `taken` steps, and is where these ranks would be after `done` of theirs: fewer ranks take
    more steps to the same sample. The cosine goes on from there, its s and w counted in steps of these ranks.

    A rate that stays leaves the model where its last batches pushed it: of 2048 samples with 12 or with 30
    purchases, by 30 % of its pCVR down or up.
    """
    peak = settings.learning_rate * (ranks if settings.scale_by_ranks else 1)
    rising = settings.warm_up_steps
    risen = rising * done / taken if taken > rising else rising - taken + done

    def rate(step: int) -> float:
        if step <= rising:
            return peak * step / rising
        if settings.schedule == "constant":
            return peak
        return peak * (1 + math.cos(math.pi * (step - taken + done - risen - 1) / max(steps - risen, 1))) / 2

    return rate
