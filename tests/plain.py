"""The model and its training written again, in NumPy alone and float64: what ours is compared with.

Nothing is shared with the code under test but the names of variables and columns: ids are hashed with Python's
integers, tables have dense gradients, and the loss is computed from probabilities.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from esmm import schema
from esmm.config import BehaviourList, Config, IdFeature

Arrays = dict[str, np.ndarray]


def bucket(identifier: int, rows: int) -> int:
    """The row that an id is hashed to, -1 where there is no id."""
    if identifier < 0:
        return -1
    bits = identifier ^ (identifier >> 33)
    bits = bits * 0xFF51AFD7ED558CCD % 2**64
    return (bits ^ (bits >> 33)) % rows


def fields(config: Config, batch: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Of each embedded input, in the model's order: its table, its rows [b, n] and their weights [b, n]."""
    found = []
    for name, feature in config.features.items():
        if isinstance(feature, IdFeature):
            found.append((feature.embedding, batch[name][:, np.newaxis], np.ones((len(batch[name]), 1))))
    for name, behaviour in config.lists.items():
        for entity in behaviour.entities:
            table, ids = config.features[entity].embedding, batch[f"{name}_{entity}"]
            found.append((table, ids, list_weights(name, behaviour, ids, batch)))
    return [
        (table, np.vectorize(lambda one, t=table: bucket(int(one), config.embeddings[t].rows))(ids), weights)
        for table, ids, weights in found
    ]


def list_weights(
    name: str, behaviour: BehaviourList, ids: np.ndarray, batch: Mapping[str, np.ndarray]
) -> np.ndarray:
    """What each entry of a list counts when it is pooled, [b, n], by sum or mean."""
    weights = batch[f"{name}_weight"].astype(np.float64)
    for sample, entry in np.ndindex(weights.shape):
        for entity, times in behaviour.boost.items():
            if batch[entity][sample] == batch[f"{name}_{entity}"][sample, entry] >= 0:
                weights[sample, entry] *= times
    if behaviour.pooling == "mean":
        weights = np.where(ids < 0, 0.0, weights)
        for row in weights:
            row /= row.sum() or 1.0
    return weights


def inputs(config: Config, variables: Arrays, batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """What the towers see, [b, i]."""
    parts = []
    for table, rows, weights in fields(config, batch):
        values = np.where(rows[..., np.newaxis] < 0, 0.0, variables[f"table/{table}"][rows])
        parts.append((weights[..., np.newaxis] * values).sum(axis=1))
    for name, feature in config.features.items():
        if not isinstance(feature, IdFeature):
            number = batch[name].astype(np.float64)
            if feature.transform == "log1p":
                number = np.sign(number) * np.log1p(np.abs(number))
            parts.append(number[:, np.newaxis] / feature.scale)
    parts += [batch[column.name][:, np.newaxis] for column in schema.statistic_columns(config)]
    return np.concatenate(parts, axis=1)


def tower(variables: Arrays, name: str, x: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """A tower's logits, and what went into each of its layers."""
    layers = sum(key.startswith(f"{name}/kernel") for key in variables)
    seen = [x]
    for layer in range(layers):
        x = seen[-1] @ variables[f"{name}/kernel_{layer}"] + variables[f"{name}/bias_{layer}"]
        seen.append(np.maximum(x, 0))
    return x[:, 0], seen[:-1]


def predictions(config: Config, variables: Arrays, batch: Mapping[str, np.ndarray]) -> Arrays:
    """pctr, pcvr and pctcvr."""
    x = inputs(config, variables, batch)
    pctr, pcvr = (1 / (1 + np.exp(-tower(variables, name, x)[0])) for name in ("ctr", "cvr"))
    return {"pctr": pctr, "pcvr": pcvr, "pctcvr": pctr * pcvr}


def gradients(config: Config, variables: Arrays, batch: Mapping[str, np.ndarray]) -> Arrays:
    """Of the sum by weight of both losses, each times its task's weight, by every variable."""
    of_ctr, of_ctcvr = (config.model.tasks[task] for task in ("ctr", "ctcvr"))
    x = inputs(config, variables, batch)
    (a, seen_a), (c, seen_c) = tower(variables, "ctr", x), tower(variables, "cvr", x)
    p, q = 1 / (1 + np.exp(-a)), 1 / (1 + np.exp(-c))
    y = batch["click"].astype(np.float64)
    z = y * batch["purchase"]
    by_a = of_ctr * (p - y)
    if not config.model.stop_gradient:
        by_a += of_ctcvr * np.where(z == 1, -(1 - p), p * q * (1 - p) / (1 - p * q))
    by_c = of_ctcvr * np.where(z == 1, -(1 - q), p * q * (1 - q) / (1 - p * q))
    found: Arrays = {name: np.zeros_like(variable) for name, variable in variables.items()}
    by_x = np.zeros_like(x)
    for name, seen, by_logit in (("ctr", seen_a, by_a), ("cvr", seen_c, by_c)):
        back = (batch["weight"] * by_logit)[:, np.newaxis]
        for layer in reversed(range(len(seen))):
            found[f"{name}/kernel_{layer}"] = seen[layer].T @ back
            found[f"{name}/bias_{layer}"] = back.sum(axis=0)
            back = back @ variables[f"{name}/kernel_{layer}"].T
            if layer:
                back *= seen[layer] > 0
        by_x += back
    start = 0
    for table, rows, weights in fields(config, batch):
        by_row = by_x[:, start : start + config.embeddings[table].dim]
        start += config.embeddings[table].dim
        for sample, entry in zip(*np.nonzero(rows >= 0), strict=True):
            found[f"table/{table}"][rows[sample, entry]] += weights[sample, entry] * by_row[sample]
    return found


def train(config: Config, variables: Arrays, batches: Iterable[Mapping[str, np.ndarray]]) -> Arrays:
    """The optimizer's steps over whole batches, at a rate that stays; returns new variables.

    Of a table only the rows change that samples of the batch use, through whichever column.
    """
    settings = config.training.optimizer
    variables = {name: variable.copy() for name, variable in variables.items()}
    sums = {name: np.full_like(v, settings.initial_accumulator) for name, v in variables.items()}
    first, second = ({name: np.zeros_like(v) for name, v in variables.items()} for _ in range(2))
    steps = 0
    for batch in batches:
        total = batch["weight"].sum()
        if not total:
            continue
        steps += 1
        means = {name: each / total for name, each in gradients(config, variables, batch).items()}
        norm = np.sqrt(sum((each**2).sum() for each in means.values()))
        if settings.clip_norm is not None and norm > settings.clip_norm:
            means = {name: each * settings.clip_norm / norm for name, each in means.items()}
        for name, mean in means.items():
            rows = in_use(config, name, batch) if name.startswith("table/") else slice(None)
            value, gradient = variables[name][rows], mean[rows]
            if name.startswith("table/") or "/kernel" in name:
                value = value * (1 - settings.learning_rate * settings.weight_decay)
            if settings.name == "adagrad":
                sums[name][rows] += gradient**2
                value = value - settings.learning_rate * gradient / np.sqrt(sums[name][rows])
            else:
                one, two = settings.betas
                first[name][rows] = one * first[name][rows] + (1 - one) * gradient
                second[name][rows] = two * second[name][rows] + (1 - two) * gradient**2
                m, v = first[name][rows] / (1 - one**steps), second[name][rows] / (1 - two**steps)
                value = value - settings.learning_rate * m / (np.sqrt(v) + settings.epsilon)
            variables[name][rows] = value
    return variables


def in_use(config: Config, name: str, batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """The rows of a table that samples use."""
    used = [rows[rows >= 0] for table, rows, _ in fields(config, batch) if f"table/{table}" == name]
    return np.unique(np.concatenate(used))
