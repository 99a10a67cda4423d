"""Predictions beside the truth, where that is known, as a state that can be summed.

agreement = Agreement()
agreement.update(weight=[1, 1], prediction=[0.2, 0.3], truth=[0.1, 0.2])
agreement.result()["pcoc"]                     # 1.67
"""

import numpy as np
import numpy.typing as npt

from esmm.metrics import Additive, Result, ratio


class Agreement(Additive):
    """How far predictions follow true probabilities, where these are known: Pearson's r and the means."""

    SIZE = 6

    def update(self, weight: npt.ArrayLike, prediction: npt.ArrayLike, truth: npt.ArrayLike) -> None:
        """Count rows: three arrays of one shape. Rows of weight 0 do not count."""
        weights, x, y = (np.asarray(values, np.float64).ravel() for values in (weight, prediction, truth))
        used = weights != 0
        weights, x, y = weights[used], x[used], y[used]
        self.vector += [weights @ values for values in (np.ones_like(x), x, y, x * x, y * y, x * y)]

    def result(self) -> Result:
        """correlation, pcoc, mean_prediction and mean_truth; None for what is not defined.

        pcoc is mean prediction over mean truth; the correlation is None where either does not vary.
        """
        weight, x, y, xx, yy, xy = map(float, self.vector)
        of_x, of_y = weight * xx - x * x, weight * yy - y * y
        # Of values that are all equal, rounding leaves a variance that is not quite 0.
        varies = of_x > 1e-12 * x * x and of_y > 1e-12 * y * y
        return {
            "correlation": (weight * xy - x * y) / float(np.sqrt(of_x * of_y)) if varies else None,
            "pcoc": ratio(x, y),
            "mean_prediction": ratio(x, weight),
            "mean_truth": ratio(y, weight),
        }
