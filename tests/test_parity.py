"""One row, one probability: from training's own evaluation, and wherever the model goes from there.

10 000 rows of a config with lists, boosts, crosses, buckets, a vocabulary and standardised numbers are predicted once
by the model that was never saved, in training's evaluation. All others have to say the same to 1e-6: the SavedModel, in
this process, in one that has no more than TensorFlow, and by TensorFlow's own command; Spark's workers by mapInArrow,
by the UDF and in SQL, on local[2] and in executors of their own.
"""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import yaml
from pyspark.sql import SparkSession

from esmm import config as configs
from esmm import export, fitting, models, schema, scoring, udf, validation
from esmm.config import Config
from esmm.distributed.exchange import Alone
from esmm.metrics import Metrics
from esmm.plan import make_plan
from esmm.rowgroups import load
from esmm.schema import PREDICTIONS
from esmm.validation import Validation
from tests import kinds, synthetic
from tests.conftest import ROOT, small

pytestmark = pytest.mark.timeout(600)

ROWS = 10_000


class Market(NamedTuple):
    """A model, what it is asked of, and what training's evaluation makes of it."""

    config: Config
    version: str
    samples: dict[str, np.ndarray]
    file: Path
    expected: dict[str, np.ndarray]

    @property
    def directory(self) -> str:
        """The SavedModel."""
        return str(Path(self.config.scoring.models, self.version).resolve())

    @property
    def features(self) -> dict[str, np.ndarray]:
        return {column.name: self.samples[column.name] for column in schema.feature_columns(self.config)}

    def check(self, found: Any) -> None:
        for name in PREDICTIONS:
            values = np.asarray(found[name])
            assert (values.dtype, values.shape) == (np.float32, (ROWS,)), name
            np.testing.assert_allclose(values, self.expected[name], rtol=0, atol=1e-6, err_msg=name)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Market:
    place = tmp_path_factory.mktemp("parity")
    values = kinds.with_every_kind(small(place))
    values["lists"]["clicked"]["boost"] = {"category": 2.0, "brand": 1.5}
    config = configs.parse(values)
    samples, file = synthetic.columns(config, ROWS), place / "rows.parquet"
    synthetic.write(config, samples, str(file))
    plan = make_plan(str(file), None, schema.training_columns(config))
    model = models.make(config, fitted=fitting.fit(config, plan, Alone(), "run"))
    for table in model.tables.values():
        table.weights.assign(table.weights * 20)  # as far apart as a trained model's
    expected = evaluated(Validation(config, plan, model, Alone(), load))
    assert all(np.ptp(values) > 0.05 for values in expected.values())
    version = export.export(model, config, config.scoring.models, {})
    return Market(config, version, samples, file, expected)


def evaluated(validate: Validation) -> dict[str, np.ndarray]:
    """What training's evaluation predicts of its samples, in their own order."""
    seen: list[dict[str, np.ndarray]] = []

    class Recorder(Metrics):
        def update(self, **rows: Any) -> None:
            is_row = np.asarray(rows["weight"]) > 0  # a batch is filled up with rows that weigh nothing
            seen.append({name: np.asarray(rows[name])[is_row] for name in PREDICTIONS})

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(validation, "Metrics", Recorder)
        patched.setattr(validation, "summed", lambda *_: None)
        validate.measure()
    return {name: np.concatenate([batch[name] for batch in seen]) for name in PREDICTIONS}


def test_the_saved_model(market: Market) -> None:
    predict = export.load(market.config.scoring.models, market.version)
    market.check(predict(market.samples))
    market.check(scoring.predict_in_batches(predict, market.features, 999))


@pytest.mark.slow
def test_spark_on_this_machine(spark: SparkSession, market: Market) -> None:
    rows = spark.read.parquet(str(market.file)).repartition(3)
    found = scoring.with_predictions(rows, market.config, market.version, keep=["exposure_id"])
    market.check(in_order(found.toPandas()))
    by_column = rows.select("exposure_id", udf.predict(market.config, market.version).alias("p"))
    market.check(in_order(by_column.select("exposure_id", "p.*").toPandas()))
    rows.createOrReplaceTempView("rows")
    udf.register(spark, market.config, market.version)
    by_sql = spark.sql(
        "select exposure_id, p.* from (select exposure_id, esmm_predict(struct(*)) as p from rows)"
    )
    market.check(in_order(by_sql.toPandas()))
    spark.sql(f"drop temporary function {udf.NAME}")


def in_order(found: pd.DataFrame) -> pd.DataFrame:
    """By the exposure's id, which is the row's number."""
    return found.sort_values("exposure_id", ignore_index=True)


PANDAS = """
import sys
sys.path.append(sys.argv[1])  # as it is: the files there that name other directories are not looked at
try:
    import esmm
except ImportError:
    pass
else:
    sys.exit(f"this project can be imported: {esmm.__file__}")
import numpy as np, pandas as pd, tensorflow as tf
rows = pd.read_pickle("rows.pkl")
serve = tf.saved_model.load(sys.argv[2]).signatures["serving_default"]
arrays = {name: column.to_numpy() for name, column in rows.items()}
found = serve(**{name: tf.constant(np.stack(a) if a.dtype == object else a) for name, a in arrays.items()})
pd.DataFrame({name: values.numpy() for name, values in found.items()}).to_pickle("found.pkl")
others = sorted({"horovod", "petastorm", "pyspark"} & {name.partition(".")[0] for name in sys.modules})
sys.exit(f"imported as well: {others}" if others else 0)
"""


def test_pandas_with_nothing_but_tensorflow(market: Market, tmp_path: Path) -> None:
    """In a process that has the packages, but neither this project nor what its environment adds to the path."""
    columns = {name: list(array) if array.ndim > 1 else array for name, array in market.features.items()}
    pd.DataFrame(columns).to_pickle(tmp_path / "rows.pkl")
    packages = sysconfig.get_paths()["purelib"]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PANDAS, packages, market.directory], cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "TF_CPP_MIN_LOG_LEVEL": "3"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    market.check(pd.read_pickle(tmp_path / "found.pkl"))


@pytest.mark.slow
def test_tensorflows_own_command(market: Market, tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", **market.features)
    inputs = ";".join(f"{name}=rows.npz[{name}]" for name in market.features)
    done = subprocess.run(
        [Path(sys.executable).with_name("saved_model_cli"), "run", "--dir", market.directory, "--tag_set", "serve",
         "--signature_def", "serving_default", "--inputs", inputs, "--outdir", "found"],
        cwd=tmp_path, env={"PATH": os.environ["PATH"], "TF_CPP_MIN_LOG_LEVEL": "3"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    market.check({name: np.load(tmp_path / f"found/{name}.npy") for name in PREDICTIONS})


JOB = """
import sys
from pathlib import Path
from pyspark.sql import SparkSession
from esmm import cli, config, scoring, udf

settings = config.load(sys.argv[1])
version, file, found = sys.argv[2:]
spark = SparkSession.builder.config(map=cli.spark_settings(settings)).getOrCreate()
rows = spark.read.parquet(file).repartition(4)
scoring.with_predictions(rows, settings, version, keep=["exposure_id"]).write.parquet(f"{found}/map")
by_column = rows.select("exposure_id", udf.predict(settings, version).alias("p"))
by_column.select("exposure_id", "p.*").write.parquet(f"{found}/column")
rows.createOrReplaceTempView("rows")
udf.register(spark, settings, version)
by_sql = spark.sql("select exposure_id, esmm_predict(struct(*)) as p from rows")
by_sql.select("exposure_id", "p.*").write.parquet(f"{found}/sql")
spark.stop()
"""


@pytest.mark.slow
def test_executors_of_their_own(market: Market, tmp_path: Path) -> None:
    """Two JVMs that have no checkout, as on a cluster."""
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(json.loads(market.config.model_dump_json())))
    done = subprocess.run(
        [ROOT / "spark-submit.sh", "--master", "local-cluster[2,1,2048]", tmp_path / "job.py",
         tmp_path / "config.yaml", market.version, market.file, tmp_path / "found"],
        cwd=tmp_path, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for way in ("map", "column", "sql"):
        market.check(in_order(pd.read_parquet(tmp_path / "found" / way)))
