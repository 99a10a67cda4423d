"""Several Horovod ranks: what they exchange in a step, and how they are launched."""
