"""TensorFlow as a rank uses it, set up before its first operation: after that it takes no settings any more."""

import os

from esmm.config import Training


def set_up_tensorflow(settings: Training, ranks_here: int) -> None:
    """Give TensorFlow `training.threads`, or this rank's share of the cores that the process may use.

    With `training.deterministic`, also kernels that sum in the same order each time.
    """
    import tensorflow as tf

    threads = settings.threads or max(1, len(os.sched_getaffinity(0)) // ranks_here)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    # Two at least: one waits for the reader while the other one computes.
    tf.config.threading.set_inter_op_parallelism_threads(max(2, threads))
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
