"""A trained model as a SavedModel that takes raw features by name, and back from its version.

    version = export(model, config, config.scoring.models, {"days": ["2026-03-24"], "rows": 50_000})
    predict = load(config.scoring.models, version)
    predict({"seller": [7, -1], "clicked_seller": [[9, -1], [-1, -1]], …})
    # {"pctr": [0.31, 0.12], "pcvr": [0.08, 0.05], "pctcvr": [0.025, 0.006]}, float32
    predict({"seller": [7, -1], "clicked_seller": [[9, -1]], "user_of_row": [0, 0], …})    # two rows of one user

Hashing, pooling and towers are in the graph: serving takes TensorFlow and no code of this project's.
"""

import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog
import tensorflow as tf

from esmm import bundles, revision, versions
from esmm.config import Config
from esmm.errors import DataError
from esmm.models import Model
from esmm.schema import USER_OF_ROW, Column, feature_columns

if TYPE_CHECKING:
    from esmm.calibration import Calibration
    from esmm.distributed.exchange import Exchange

log = structlog.get_logger()

BY_ROW, BY_USER = "serving_default", "by_user"
"""The signatures: all columns by row, and those of `esmm.schema.user_columns` once a user."""

_PACKAGES = ("tensorflow-cpu", "horovod", "petastorm", "pyarrow", "numpy")


class Predictor:
    """A loaded model: columns in, probabilities out."""

    def __init__(self, directory: Path, facts: dict[str, Any]) -> None:
        self.facts = facts
        """What the manifest states: the config, the columns, days, rows, metrics, packages."""
        self._loaded = tf.saved_model.load(str(directory))  # the function alone does not keep its variables
        self._serve = dict(self._loaded.signatures)
        self.inputs = {name: serve.structured_input_signature[1] for name, serve in self._serve.items()}
        """Column to its TensorSpec, by signature."""

    def __call__(self, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """pctr, pcvr and pctcvr, float32 [rows], of the rows of some columns.

        A scalar column is an array [rows], a list [rows, length]; columns that the model does not take are left
        out. With `user_of_row` among them, int64 [rows], the columns of `esmm.schema.user_columns` are of users in
        place of rows, and it says by place which user a row is of.
        Raises DataError, naming the column, where one is missing or has another shape, and where the model was
        published before there was a signature for users.
        """
        signature = BY_USER if USER_OF_ROW in columns else BY_ROW
        if signature not in self._serve:
            raise DataError("model", expected=f"a signature {signature}", found=", ".join(self._serve))
        tensors = {name: _tensor(columns, name, spec) for name, spec in self.inputs[signature].items()}
        found = self._serve[signature](**tensors)
        return {name: tensor.numpy() for name, tensor in found.items()}


def export(
    model: Model,
    config: Config,
    models: str,
    facts: dict[str, Any],
    calibration: "Calibration | None" = None,
    exchange: "Exchange | None" = None,
) -> str:
    """Publish a model as a new version below `models`; returns the version, which sorts by time.

    Its signature `serving_default` takes the columns of `esmm.schema.feature_columns` by name, [None] or
    [None, length] of their types, and gives pctr, pcvr and pctcvr, float32 [None]: as calibrated, where a calibration
    is given, whose knots are then constants of the graph. Nothing is dropped out. The signature `by_user` takes
    `user_of_row`, int64 [None], besides, and gives the same where the user's columns come once a user.
    The manifest states `facts` and, beside them, the config with its digest, the columns, the packages, the revision of
    the code, and the bytes that the variables take in memory.

    Of a model with tables that are spread over ranks, all ranks call it at once, with their exchange, and each writes
    its part: there the SavedModel has one variable a rank. Of any other, one process calls it.
    """
    version, columns = versions.new_version(), feature_columns(config)
    if model.shards and exchange is not None:
        version = exchange.broadcast_object(version)
    stated = {
        "config": config.model_dump(mode="json"),
        "config_digest": config.digest(),
        "columns": {column.name: {"type": column.type, "length": column.length} for column in columns},
        "packages": {package: metadata.version(package) for package in _PACKAGES},
        "bytes": _bytes(model),
        "revision": revision.current(),
        **facts,
    }
    with tempfile.TemporaryDirectory(prefix="esmm-model-") as directory:
        if model.shards:
            assert exchange is not None
            stored = _put_parts(model, config, calibration, exchange, Path(directory), (models, version))
        else:
            _save(_Served(model, calibration), config, Path(directory))
            stored = versions.upload(models, version, Path(directory))
    if exchange is None or exchange.rank == 0:
        versions.close(models, version, stored, stated)
        log.info("exported", model=version, models=models)
    return version


def _save(served: "_Served", config: Config, directory: Path) -> None:
    by_row = {column.name: _spec(column) for column in feature_columns(config)}
    by_user = by_row | {USER_OF_ROW: tf.TensorSpec((None,), tf.int64, name=USER_OF_ROW)}
    signatures = {
        BY_ROW: served.serve.get_concrete_function(**by_row),
        BY_USER: served.serve.get_concrete_function(**by_user),
    }
    tf.saved_model.save(served, str(directory), signatures=signatures)


def _put_parts(
    model: Model,
    config: Config,
    calibration: "Calibration | None",
    exchange: "Exchange",
    directory: Path,
    version: tuple[str, str],
) -> dict[str, versions.StoredFile]:
    """Upload the SavedModel of all ranks; on rank 0 what its files are."""
    saved, own = directory / "saved", directory / "own"
    keys = None
    if exchange.rank == 0:
        with model.in_parts(exchange.size) as parts:
            served = _Served(model, calibration)
            _save(served, config, saved)
            keys = {
                name: [bundles.key_of(served, part) for part in of_table] for name, of_table in parts.items()
            }
    keys = exchange.broadcast_object(keys)
    assert keys is not None
    shards = {keys[name][exchange.rank]: shard for name, shard in model.shards.items()}
    index = bundles.write_part(own, shards, exchange.rank, exchange.size)
    uploaded = exchange.gather_objects((index, versions.upload(*version, own)))
    if exchange.rank:
        return {}
    bundles.join(saved, [index for index, _ in uploaded])
    stored = versions.upload(*version, saved)
    return stored | {name: file for _, files in uploaded for name, file in files.items()}


def _bytes(model: Model) -> int:
    """What the variables take of whoever serves the model."""
    shards = [
        table.size * table.dim * table.weights.dtype.size
        for table in model.tables.values()
        if not table.is_whole
    ]
    return sum(shards) + sum(
        variable.shape.num_elements() * variable.dtype.size for variable in model.variables
    )


def load(models: str, version: str, cache: Path | None = None) -> Predictor:
    """A published model. From storage that is not local it is fetched first, once, to a local directory.

    Raises DataError where there is no such version, or where a file, which is then named, is not the one
    that was published.
    """
    directory = versions.fetch(models, version, cache)
    return Predictor(directory, versions.manifest(models, version).facts)


class _Served(tf.Module):
    """What is saved: the model's variables, and the function from columns to probabilities."""

    def __init__(self, model: Model, calibration: "Calibration | None") -> None:
        super().__init__(name="served")
        self.model, self._calibration = model, calibration

    @tf.function(autograph=False)
    def serve(self, **columns: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = self.model(columns, self.model.look_up(columns))
        probabilities = self.model.predictions(logits)
        if self._calibration is not None:
            probabilities = self._calibration(probabilities)
        return {name: tf.cast(values_b, tf.float32) for name, values_b in probabilities.items()}


def _spec(column: Column) -> tf.TensorSpec:
    shape = (None,) if column.length is None else (None, column.length)
    return tf.TensorSpec(shape, tf.as_dtype(column.type), name=column.name)


def _tensor(columns: Mapping[str, np.ndarray], name: str, spec: tf.TensorSpec) -> tf.Tensor:
    if name not in columns:
        raise DataError(f"column {name}", expected="an input of the model", found="no such column")
    array = np.asarray(columns[name])
    # TensorFlow would take a float for an id, without a word.
    if not np.can_cast(array.dtype, spec.dtype.as_numpy_dtype, "same_kind"):
        raise DataError(f"column {name}", expected=spec.dtype.name, found=str(array.dtype))
    if not spec.shape.is_compatible_with(array.shape):
        raise DataError(f"column {name}", expected=f"shape {spec.shape}", found=str(array.shape))
    return tf.constant(array, spec.dtype)
