"""Adagrad and Adam, whose steps touch only the rows in use of a table.

    optimizer = make(model.variables, config.training.optimizer)
    optimizer.learning_rate.assign(0.05)
    optimizer.step([(kernel, gradient)], [(table, Rows(indices_u, gradients_ud))])

A step scales all gradients to `clip_norm` where their norm is above it, shrinks what decays, and moves every dense
variable and every row in use. Rows that no sample of the step uses keep their values and their state: with Adam their
moments do not fade meanwhile, as in its "lazy" versions elsewhere.

A table that is spread over ranks comes as this rank's part of it, a shard, and stays out of what the module's own
variables are: those are the same on all ranks.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar

import tensorflow as tf

from esmm.config import Optimizer as Settings
from esmm.layers.tables import Rows

Dense = tuple[tf.Variable, tf.Tensor]
"""A variable, and a gradient of its shape."""
Sparse = tuple[tf.Variable, Rows]
"""A table, and a gradient of some of its rows, each of them there once."""


class Optimizer(tf.Module):
    """What both have in common; a subclass says how a gradient moves a variable."""

    SLOTS: ClassVar[tuple[str, ...]]
    """The optimizer's names of what it keeps beside each variable, in its shape."""

    def __init__(
        self,
        variables: Iterable[tf.Variable],
        settings: Settings,
        shards: Iterable[tf.Variable] = (),
        total: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
    ) -> None:
        """`total` sums a number over ranks; it is asked for nothing without shards."""
        super().__init__(name=settings.name)
        self.settings = settings
        self.learning_rate = tf.Variable(settings.learning_rate, trainable=False, dtype=tf.float64,
                                         name="learning_rate")  # fmt: skip
        """The rate of the next step."""
        self.steps = tf.Variable(0, trainable=False, dtype=tf.int64, name="steps")
        """Steps taken."""
        self.slots = self._new_slots(variables)
        self.shards = _Apart(self._new_slots(shards))
        self._total = total

    def step(self, dense: Sequence[Dense], sparse: Sequence[Sparse]) -> tf.Operation:
        """Take one step with the gradients of all variables; the operation has run once all is done."""
        self.steps.assign_add(1)
        dense, sparse = self._clipped(dense, sparse)
        for variable, gradient in dense:
            if self.settings.weight_decay and variable.shape.rank > 1:  # kernels, not biases
                variable.assign(variable * self._kept(variable.dtype))
            self._apply(variable, gradient)
        for table, gradient in sparse:
            if self.settings.weight_decay:
                rows_ud = tf.gather(table, gradient.indices_u) * self._kept(table.dtype)
                table.scatter_update(tf.IndexedSlices(rows_ud, gradient.indices_u))
            self._apply_rows(table, gradient)
        return tf.no_op()

    def slot(self, name: str, variable: tf.Variable) -> tf.Variable:
        """What is kept under a name beside a variable, or beside a shard."""
        key = variable.name
        return self.shards.slots[name][key] if key in self.shards.slots[name] else self.slots[name][key]

    def _new_slots(self, variables: Iterable[tf.Variable]) -> dict[str, dict[str, tf.Variable]]:
        variables = list(variables)
        return {name: {each.name: self._new_slot(name, each) for each in variables} for name in self.SLOTS}

    def _new_slot(self, name: str, variable: tf.Variable) -> tf.Variable:
        start = tf.constant(self._start, variable.dtype)
        name = f"{name}/{variable.name.partition(':')[0]}"
        return tf.Variable(tf.fill(variable.shape, start), trainable=False, name=name)

    @property
    def _start(self) -> float:
        """What slots begin with."""
        return 0.0

    def _apply(self, variable: tf.Variable, gradient: tf.Tensor) -> None:
        raise NotImplementedError

    def _apply_rows(self, table: tf.Variable, gradient: Rows) -> None:
        raise NotImplementedError

    def _kept(self, dtype: tf.DType) -> tf.Tensor:
        """What weight decay leaves: decoupled from the gradient, so that no optimizer's scale divides it."""
        return tf.cast(1 - self.learning_rate * self.settings.weight_decay, dtype)

    def _clipped(
        self, dense: Sequence[Dense], sparse: Sequence[Sparse]
    ) -> tuple[Sequence[Dense], Sequence[Sparse]]:
        """The gradients, times min(1, clip_norm / their norm), that of all of them together."""
        if self.settings.clip_norm is None:
            return dense, sparse
        norm = self._norm(dense, sparse)
        limit = tf.cast(self.settings.clip_norm, norm.dtype)
        scale = limit / tf.maximum(norm, limit)
        return (
            [(variable, gradient * scale) for variable, gradient in dense],
            [(table, Rows(rows.indices_u, rows.values_ud * scale)) for table, rows in sparse],
        )

    def _norm(self, dense: Sequence[Dense], sparse: Sequence[Sparse]) -> tf.Tensor:
        """The norm of all gradients together, each shard's by its own rank."""
        is_shard = [table.name in self.shards.slots[self.SLOTS[0]] for table, _ in sparse]
        by_row = [gradient.values_ud for _, gradient in sparse]
        whole = [gradient for gradient, apart in zip(by_row, is_shard, strict=True) if not apart]
        norm = tf.linalg.global_norm([*(gradient for _, gradient in dense), *whole])
        if not any(is_shard):
            return norm
        own = [gradient for gradient, apart in zip(by_row, is_shard, strict=True) if apart]
        return tf.sqrt(norm**2 + self._total(tf.linalg.global_norm(own) ** 2))


class _Apart:
    """Hides slots from tf.Module: this rank's own."""

    def __init__(self, slots: Mapping[str, Mapping[str, tf.Variable]]) -> None:
        self.slots = slots


class Adagrad(Optimizer):
    """Duchi et al. 2011, elementwise, for the gradient g of a step.

    s ← s + g²        w ← w - rate · g / √s
    """

    SLOTS = ("sum",)

    @property
    def _start(self) -> float:
        return self.settings.initial_accumulator

    def _apply(self, variable: tf.Variable, gradient: tf.Tensor) -> None:
        tf.raw_ops.ResourceApplyAdagradV2(
            var=variable.handle,
            accum=self.slot("sum", variable).handle,
            lr=tf.cast(self.learning_rate, variable.dtype),
            # The sums begin above 0, so nothing needs to keep their roots away from it.
            epsilon=tf.zeros((), variable.dtype),
            grad=gradient,
        )

    def _apply_rows(self, table: tf.Variable, gradient: Rows) -> None:
        tf.raw_ops.ResourceSparseApplyAdagradV2(
            var=table.handle,
            accum=self.slot("sum", table).handle,
            lr=tf.cast(self.learning_rate, table.dtype),
            epsilon=tf.zeros((), table.dtype),
            grad=gradient.values_ud,
            indices=gradient.indices_u,
        )


class Adam(Optimizer):
    """Kingma and Ba 2015 (arXiv 1412.6980), algorithm 1, for the gradient g of step t.

    m ← β₁ m + (1 - β₁) g        v ← β₂ v + (1 - β₂) g²
    w ← w - rate · (m / (1 - β₁ᵗ)) / (√(v / (1 - β₂ᵗ)) + ε)

    t counts the steps of the run, also for rows that were in use in few of them.
    """

    SLOTS = ("first", "second")

    def _apply(self, variable: tf.Variable, gradient: tf.Tensor) -> None:
        first, second = (self.slot(name, variable) for name in self.SLOTS)
        m, v, change = self._moved(first, second, gradient)
        first.assign(m)
        second.assign(v)
        variable.assign_sub(change)

    def _apply_rows(self, table: tf.Variable, gradient: Rows) -> None:
        first, second = (self.slot(name, table) for name in self.SLOTS)
        indices_u = gradient.indices_u
        m_ud, v_ud, change_ud = self._moved(
            tf.gather(first, indices_u), tf.gather(second, indices_u), gradient.values_ud
        )
        first.scatter_update(tf.IndexedSlices(m_ud, indices_u))
        second.scatter_update(tf.IndexedSlices(v_ud, indices_u))
        table.scatter_sub(tf.IndexedSlices(change_ud, indices_u))

    def _moved(
        self, m: tf.Tensor, v: tf.Tensor, gradient: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The new moments, and what to take from the variable."""
        dtype = gradient.dtype
        time = tf.cast(self.steps, tf.float64)
        # As 1 - exp(t log β), so that t = 10⁶ neither loses digits nor overflows.
        biases = [tf.cast(-tf.math.expm1(time * tf.math.log(tf.constant(beta, tf.float64))), dtype)
                  for beta in self.settings.betas]  # fmt: skip
        beta_1, beta_2 = (tf.constant(beta, dtype) for beta in self.settings.betas)
        m = beta_1 * m + (1 - beta_1) * gradient
        v = beta_2 * v + (1 - beta_2) * gradient**2
        root = tf.sqrt(v / biases[1]) + tf.constant(self.settings.epsilon, dtype)
        return m, v, tf.cast(self.learning_rate, dtype) * (m / biases[0]) / root


KINDS: dict[str, type[Optimizer]] = {"adagrad": Adagrad, "adam": Adam}


def make(
    variables: Iterable[tf.Variable],
    settings: Settings,
    shards: Iterable[tf.Variable] = (),
    total: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
) -> Optimizer:
    """The optimizer that the config names, with the state of some variables, and of shards, see `Optimizer`."""
    return KINDS[settings.name](variables, settings, shards, total)
