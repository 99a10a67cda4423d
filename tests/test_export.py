"""The SavedModel: what training computed, for anyone who has TensorFlow."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from esmm import export, models, revision, schema
from esmm.calibration import MOST_PCVR, Calibration, Curve
from esmm.config import Config
from esmm.errors import DataError
from esmm.models import Model
from esmm.scoring import PREDICTIONS
from tests import synthetic


@pytest.fixture
def model(config: Config) -> Model:
    """A model whose towers' outputs differ from row to row as a trained one's do."""
    config = config.model_copy(update={"model": config.model.model_copy(update={"dropout": 0.5})})
    made = models.make(config)
    for table in made.tables.values():
        table.weights.assign(table.weights * 20)
    return made


@pytest.fixture
def version(config: Config, model: Model) -> str:
    return export.export(model, config, config.scoring.models, {"rows": 7})


@pytest.mark.parametrize("rows", [0, 1, 130])
def test_probabilities_are_those_of_the_training_graph(
    config: Config, model: Model, version: str, rows: int
) -> None:
    samples = synthetic.columns(config, 130)
    tensors = synthetic.tensors(samples)
    expected = model.predictions(model(tensors, model.look_up(tensors)))
    found = export.load(config.scoring.models, version)(
        {name: values[:rows] for name, values in samples.items()}
    )
    assert sorted(found) == sorted(PREDICTIONS)
    for name, values in found.items():
        assert (values.dtype, values.shape) == (np.float32, (rows,))
        np.testing.assert_allclose(values, expected[name][:rows], atol=1e-6)
    assert rows < 2 or found["pctr"].std() > 0.01


def test_calibrated_probabilities_are_numpys_interpolation_of_the_models(
    config: Config, model: Model, version: str
) -> None:
    """Through knots at 0.2 and 0.5 in log-odds; pCVR is what is left, and the three are those of one product."""
    maps = {"pctr": [0.1, 0.6], "pctcvr": [0.15, 0.3]}
    knots = np.array([-27.0, np.log(0.25), 0.0, 19.0])
    curves = {}
    for name, (low, high) in maps.items():
        low, high = (np.log(p / (1 - p)) for p in (low, high))
        curves[name] = Curve(knots, np.array([low - (knots[1] - knots[0]), low, high, high + 19.0]))
    calibration = Calibration(ctr=curves["pctr"], ctcvr=curves["pctcvr"])
    calibrated = export.export(model, config, config.scoring.models, {}, calibration)
    samples = synthetic.columns(config, 130)
    raw, found = (export.load(config.scoring.models, one)(samples) for one in (version, calibrated))
    for name, curve in curves.items():
        p = raw[name].astype(np.float64)
        expected = 1 / (1 + np.exp(-np.interp(np.log(p / (1 - p)), curve.predicted, curve.calibrated)))
        if name == "pctcvr":
            expected = np.minimum(expected, MOST_PCVR * found["pctr"])
        np.testing.assert_allclose(found[name], expected, rtol=1e-6)
        assert np.abs(expected - p).mean() > 0.01
    np.testing.assert_allclose(found["pctr"] * found["pcvr"], found["pctcvr"], rtol=2e-7)
    assert {values.dtype.name for values in found.values()} == {"float32"}


def test_the_signature_takes_the_feature_columns(config: Config, version: str) -> None:
    loaded = tf.saved_model.load(f"{config.scoring.models}/{version}")
    _, found = loaded.signatures["serving_default"].structured_input_signature
    assert {name: (spec.dtype.name, spec.shape.as_list()) for name, spec in found.items()} == {
        column.name: (column.type, [None] if column.length is None else [None, column.length])
        for column in schema.feature_columns(config)
    }


def test_a_process_without_this_project_gets_the_same(config: Config, version: str, tmp_path: Path) -> None:
    samples = synthetic.columns(config, 9)
    features = {column.name: samples[column.name] for column in schema.feature_columns(config)}
    np.savez(tmp_path / "in.npz", **features)
    code = (
        "import sys; sys.modules['esmm'] = None\n"  # as if it were not installed
        "import numpy as np, tensorflow as tf\n"
        "serve = tf.saved_model.load(sys.argv[1]).signatures['serving_default']\n"
        "with np.load('in.npz') as arrays:\n"
        "    found = serve(**{name: tf.constant(arrays[name]) for name in arrays})\n"
        "np.savez('out.npz', **{name: values.numpy() for name, values in found.items()})\n"
    )
    path = Path(config.scoring.models, version).resolve()
    subprocess.run([sys.executable, "-I", "-c", code, str(path)], cwd=tmp_path, check=True)
    expected = export.load(config.scoring.models, version)(samples)
    with np.load(tmp_path / "out.npz") as found:
        for name in PREDICTIONS:
            np.testing.assert_array_equal(found[name], expected[name])


def test_the_manifest_states_what_the_model_is(config: Config, version: str) -> None:
    manifest = json.loads(Path(config.scoring.models, version, "manifest.json").read_text())
    facts = manifest["facts"]
    assert (facts["config_digest"], facts["rows"]) == (config.digest(), 7)
    assert facts["columns"]["clicked_item"] == {"type": "int64", "length": 5}
    assert facts["packages"]["tensorflow-cpu"] == tf.__version__
    assert facts["revision"] == revision.current()
    assert set(manifest["files"]) == {
        "saved_model.pb", "fingerprint.pb", "variables/variables.index",
        "variables/variables.data-00000-of-00001",
    }  # fmt: skip


def test_a_model_with_one_byte_changed_is_refused(config: Config, version: str) -> None:
    path = Path(config.scoring.models, version, "variables/variables.data-00000-of-00001")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"variables.data-00000-of-00001: expected the file with SHA-256"):
        export.load(config.scoring.models, version)


def test_a_version_that_is_not_there_is_an_error(config: Config) -> None:
    with pytest.raises(DataError, match=r"models/v1/manifest.json: expected a manifest, found no file"):
        export.load(config.scoring.models, "v1")


def test_a_column_that_is_missing_or_wrong_is_named(config: Config, version: str) -> None:
    predict, samples = export.load(config.scoring.models, version), synthetic.columns(config, 4)
    with pytest.raises(
        DataError, match="column seller: expected an input of the model, found no such column"
    ):
        predict({name: values for name, values in samples.items() if name != "seller"})
    with pytest.raises(DataError, match=r"column clicked_item: expected shape \(None, 5\), found \(4, 3\)"):
        predict(samples | {"clicked_item": samples["clicked_item"][:, :3]})
    with pytest.raises(DataError, match="column seller: expected int64, found float32"):
        predict(samples | {"seller": samples["price"]})
