"""What all variants have in common: features to logits, and logits to probabilities.

    model = Esmm(config)
    logits = model(batch, model.look_up(batch))
    model.losses(batch, logits)["ctcvr"]     # Σ w · …
    model.predictions(logits)["pctcvr"]      # [b]

A variant is a subclass that says which towers it has and what they are fitted to. What is looked up is an argument,
since a training step takes gradients by it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

import tensorflow as tf

from esmm.config import Config
from esmm.fitted import NOTHING, Fitted
from esmm.layers.inputs import Inputs
from esmm.layers.tables import Batch, EmbeddingTable, Hold, LookUp, Shards, Whole
from esmm.losses import Seen, product_logit
from esmm.models import bodies
from esmm.models.bodies import Logits

Groups = tuple[tuple[str, ...], ...]


class Model(tf.Module):
    """Towers over features, and what is fitted. Everything is computed in `dtype`."""

    towers: ClassVar[Groups]
    """The towers in groups: those of one share tables, attention and body, those of two share nothing."""

    def __init__(
        self, config: Config, dtype: tf.DType = tf.float32, fitted: Fitted = NOTHING, hold: Hold = Whole
    ) -> None:
        super().__init__(name=config.model.variant)
        self.settings, self.dtype = config.model, dtype
        self._networks = []
        for group in self.towers:
            # Where nothing is shared, the names of a group's variables begin with its own.
            with tf.name_scope("" if len(self.towers) == 1 else "_".join(group)):
                self._networks.append(_Network(group, config, dtype, fitted, hold))

    @property
    def tables(self) -> dict[str, EmbeddingTable]:
        """The embedding tables by name: that of the config, or GROUP/NAME where there are several groups."""
        return {name: table for network in self._networks for name, table in network.tables.items()}

    @property
    def shards(self) -> dict[str, tf.Variable]:
        """By table, this rank's part of those that are spread over ranks: no variables of the module's own."""
        return {name: table.weights for name, table in self.tables.items() if not table.is_whole}

    @contextmanager
    def in_parts(self, ranks: int) -> Iterator[dict[str, list[tf.Variable]]]:
        """While the block runs, tables that are spread over ranks are in parts without rows; by table, these."""
        spread = [(name, table, table.held) for name, table in self.tables.items() if not table.is_whole]
        found = {}
        for name, table, held in spread:
            table.held = Shards(table.dim, held.weights.dtype, ranks)
            found[name] = table.held.parts
        try:
            yield found
        finally:
            for _, table, held in spread:
                table.held = held

    @property
    def width(self) -> int:
        """Numbers that a body sees of a sample."""
        return self._networks[0].width

    @property
    def dense_variables(self) -> tuple[tf.Variable, ...]:
        """All variables but the tables, in the same order on every rank."""
        return tuple(variable for network in self._networks for variable in network.dense_variables)

    def look_up(self, batch: Batch) -> dict[str, LookUp]:
        """What the batch needs of each table."""
        return {name: found for network in self._networks for name, found in network.look_up(batch).items()}

    def __call__(
        self, batch: Batch, look_ups: Mapping[str, LookUp], training_seed: tf.Tensor | None = None
    ) -> Logits:
        """The towers' logits of a batch, given what it needs of the tables; with a seed, as in training."""
        return {
            name: logit_b
            for network in self._networks
            for name, logit_b in network(batch, look_ups, training_seed).items()
        }

    def losses(self, batch: Batch, logits: Logits) -> dict[str, tf.Tensor]:
        """By task (`esmm.config.model.TASKS`), the loss summed by weight over the batch, yet without its own weight."""
        raise NotImplementedError

    def predictions(self, logits: Logits) -> dict[str, tf.Tensor]:
        """`pctr`, `pcvr` and their product `pctcvr`, [b] each, in [0, 1]."""
        pctr, pcvr = tf.sigmoid(logits["ctr"]), tf.sigmoid(logits["cvr"])
        return {"pctr": pctr, "pcvr": pcvr, "pctcvr": pctr * pcvr}

    def seen(self, batch: Batch, logits: Logits) -> Seen:
        """What losses are made of: a batch's labels and weights."""
        return Seen.of(batch, self.settings.label_smoothing, next(iter(logits.values())).dtype)

    def ctcvr_logit(self, logits: Logits) -> tf.Tensor:
        """The logit of pCTR · pCVR; with `stop_gradient` pCTR counts as given, and the gradient reaches pCVR alone."""
        a = tf.stop_gradient(logits["ctr"]) if self.settings.stop_gradient else logits["ctr"]
        return product_logit(a, logits["cvr"])


class _Network(tf.Module):
    """Features, and a body with some towers over them."""

    def __init__(
        self, towers: Sequence[str], config: Config, dtype: tf.DType, fitted: Fitted, hold: Hold
    ) -> None:
        super().__init__(name="network")
        scope = tf.get_current_name_scope()
        self._prefix = f"{scope}/" if scope else ""
        self._inputs = Inputs(config, dtype, fitted, hold)
        self.width = self._inputs.width
        self._body = bodies.make(self.width, towers, config, dtype)

    @property
    def tables(self) -> dict[str, EmbeddingTable]:
        return {f"{self._prefix}{name}": table for name, table in self._inputs.tables.items()}

    @property
    def dense_variables(self) -> tuple[tf.Variable, ...]:
        return (*self._inputs.dense_variables, *self._body.trainable_variables)

    def look_up(self, batch: Batch) -> dict[str, LookUp]:
        return {f"{self._prefix}{name}": found for name, found in self._inputs.look_up(batch).items()}

    def __call__(
        self, batch: Batch, look_ups: Mapping[str, LookUp], training_seed: tf.Tensor | None
    ) -> Logits:
        own = {name: look_ups[f"{self._prefix}{name}"] for name in self._inputs.tables}
        return self._body(self._inputs(batch, own), training_seed)
