"""Ali-CCP's files to samples: small files in the official format, and what they should become in plain Python."""

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from pyspark.sql import SparkSession

from benchmarks import aliccp_table
from esmm import config as configs
from esmm import evaluation, schema, scoring, tables, versions
from esmm.aliccp import TEST_DAY, TRAIN_DAY, import_samples
from esmm.config import Config
from esmm.errors import ConfigError, DataError
from esmm.plan import make_plan
from esmm.samples import Built
from tests.xxhash import xxhash64

ROOT = Path(__file__).resolve().parent.parent
DAYS = {"train": TRAIN_DAY, "test": TEST_DAY}
STARTS = {"train": 1_514_736_000_000_000, "test": 1_514_822_400_000_000}
"""2017-12-31 and 2018-01-01, 16:00 UTC: midnight in Shanghai, in microseconds (`date -d … +%s`)."""

Fields = dict[str, list[tuple[int, str]]]
"""Field to ids and their values, as they are written."""


class Sample(NamedTuple):
    number: int
    click: int
    purchase: int
    common: str
    fields: Fields


# What lines share. 9c is no user's; of 3a's 61 categories 50 are kept, those of 0.69315 by their ids.
COMMONS: dict[str, dict[str, Fields]] = {
    "train": {
        "3a": {
            "101": [(7, "1.0")], "121": [(445391, "1.0")], "122": [(445392, "1.0")], "124": [(445393, "1.0")],
            "125": [(3438663, "1.0")], "126": [(3438764, "1.0")], "127": [(3438769, "1.0")],
            "128": [(3864885, "1.0")], "129": [(3864888, "1.0")],
            "109_14": [(449_000 + n, "0.69315") for n in range(60, 0, -1)] + [(450_000, "4.67283")],
            "110_14": [(901, "1.09861"), (902, "2.30259"), (903, "0.0"), (904, "1.09861")],
            "150_14": [(3_900_001, "1e-05")],
        },
        "9c": {"121": [(445391, "1.0")], "127_14": [(3529789, "2.39790"), (3806412, "2.70805")]},
    },
    "test": {"3a": {"101": [(8, "1.0")], "124": [(445394, "1.0")]}},
}  # fmt: skip
FULL: Fields = {
    "205": [(7702673, "1.0")], "206": [(8317829, "1.0")], "207": [(8967741, "1.0")], "216": [(9342395, "1.0")],
    "301": [(9351665, "1.0")], "508": [(9356012, "2.30259")], "210": [(9059239, "1.0"), (9042796, "1.0")],
    "853": [(9_900_002, "1.0"), (9_900_001, "2.0")],
}  # fmt: skip
SAMPLES: dict[str, list[Sample]] = {
    "train": [
        Sample(1, 0, 0, "3a", FULL),
        Sample(2, 1, 0, "9c", {"205": [(5, "1.0")]}),
        # Of two brands the one of the higher value; of two equal ones the smaller; the user's own where it has one.
        Sample(3, 1, 1, "3a", {"205": [(5, "1.0")], "216": [(11, "1.0"), (12, "2.0")], "207": [(22, "1"), (21, "1")]}),
        Sample(4, 0, 0, "3a", {"205": [(6, "1.0")], "101": [(9, "1.0")], "110_14": [(905, "0.5")]}),
    ],
    "test": [Sample(1, 0, 0, "3a", FULL), Sample(2, 1, 1, "3a", {"205": [(5, "1.0")]})],
}  # fmt: skip


def drawn(name: str, first: int, rows: int) -> list[Sample]:
    """Lines of either common features, of few items, clicked now and then."""
    rng = random.Random(first)
    commons = list(COMMONS[name])
    return [
        Sample(number, click := rng.randint(0, 1), click and rng.randint(0, 1), rng.choice(commons),
               {"205": [(rng.randint(1, 9), "1.0")], "206": [(rng.randint(20, 22), "1.0")]})
        for number in range(first, first + rows)
    ]  # fmt: skip


ALL = {"train": SAMPLES["train"] + drawn("train", 100, 60), "test": SAMPLES["test"] + drawn("test", 100, 30)}

GOOD = "205\x025\x031.0"
# Lines that cannot be used, by file, and why not.
BAD = {
    "sample_skeleton_train": {
        f"11,0,0,3a,{GOOD}": "another number of values",
        f"12,0,0,3a,1,{GOOD},": "another number of values",
        "": "another number of values",
        f"x13,0,0,3a,1,{GOOD}": "unreadable sample id",
        f"14,2,0,3a,1,{GOOD}": "unreadable labels",
        f"15,0,,3a,1,{GOOD}": "unreadable labels",
        "16,0,0,3a,0,": "unreadable features",
        "17,0,0,3a,1,205\x02five\x031.0": "unreadable features",
        "18,0,0,3a,1,205\x025.5\x031.0": "unreadable features",
        "19,0,0,3a,1,205\x02-5\x031.0": "unreadable features",
        "20,0,0,3a,1,205\x025\x03nan": "unreadable features",
        "21,0,0,3a,1,205\x025": "unreadable features",
        f"22,0,0,3a,2,{GOOD}\x01": "unreadable features",
        "23,0,0,3a,1,206\x025\x031.0": "no item",
        f"24,0,1,3a,1,{GOOD}": "bought without a click",
        f"25,1,0,77,1,{GOOD}": "unknown common features",
        f"26,0,0,5b,1,{GOOD}": "unknown common features",  # there, but cannot be used
    },
    "common_features_train": {
        "5b,1,101\x02seven\x031.0": "unreadable features",
        "6d,101\x027\x031.0": "another number of values",
    },
    "sample_skeleton_test": {f"3,0,0,9c,1,{GOOD}": "unknown common features"},  # known in the other set alone
    "common_features_test": {},
}


def text(fields: Fields) -> str:
    """The number of features and the features, as a line ends."""
    entries = [f"{field}\x02{one}\x03{value}" for field, ids in fields.items() for one, value in ids]
    return f"{len(entries)},{chr(1).join(entries)}"


def write(folder: Path, samples: dict[str, list[Sample]], bad: dict[str, dict[str, str]]) -> Path:
    """The set's four files, each set in a folder of its own; lines that cannot be used come first."""
    for name, of_set in samples.items():
        files = {
            f"sample_skeleton_{name}": [
                f"{one.number},{one.click},{one.purchase},{one.common},{text(one.fields)}" for one in of_set
            ],
            f"common_features_{name}": [f"{index},{text(fields)}" for index, fields in COMMONS[name].items()],
        }
        (folder / name).mkdir(parents=True, exist_ok=True)
        for file, lines in files.items():
            written = "".join(f"{line}\n" for line in [*bad.get(file, {}), *lines])
            (folder / name / f"{file}.csv").write_text(written)
    return folder


def expected(config: Config, name: str, sample: Sample) -> dict[str, Any]:
    """What a line should become."""
    common = COMMONS[name][sample.common]

    def ids(source: str) -> list[tuple[int, str]]:
        field = source.removeprefix("samples.")
        of_field = sample.fields.get(field) or common.get(field, [])
        return sorted(of_field, key=lambda entry: (-float(entry[1]), entry[0]))

    hashed = xxhash64(sample.common.encode()) % 2**63
    found = {
        "exposure_id": 2 * sample.number + (name == "test"),
        "user_id": common["101"][0][0] if "101" in common else hashed,
        "item_id": sample.fields["205"][0][0],
        "exposed_at": STARTS[name],
        "click": sample.click,
        "purchase": sample.purchase,
        "weight": 1.0,
    }
    for feature, settings in config.features.items():
        found[feature] = next((one for one, _ in ids(settings.source)), -1)
    for bag, settings in config.bags.items():
        entries = [(one, float(np.float32(value))) for one, value in ids(settings.source) if float(value) > 0]
        entries = (entries + [(-1, 0.0)] * settings.length)[: settings.length]
        found[bag], found[f"{bag}_weight"] = (list(column) for column in zip(*entries, strict=True))
    return found


def small(directory: Path) -> Config:
    """conf/aliccp.yaml with small tables, its paths below a directory."""
    text = (ROOT / "conf/aliccp.yaml").read_text().replace("build/aliccp", str(directory / "build"))
    (directory / "aliccp.yaml").write_text(text)
    tables_ = [f"embeddings.{name}.rows=100" for name in configs.load(directory / "aliccp.yaml").embeddings]
    return configs.load(directory / "aliccp.yaml", [*tables_, "training.batch_size=16"])


class Imported(NamedTuple):
    config: Config
    built: Built
    folder: Path


@pytest.fixture(scope="module")
def imported(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Imported:
    """The files above, imported once."""
    directory = tmp_path_factory.mktemp("aliccp")
    config, folder = small(directory), write(directory / "ali ccp", ALL, BAD)
    return Imported(config, import_samples(spark, config, folder), folder)


def rows(config: Config, name: str) -> Iterator[dict[str, Any]]:
    files = tables.samples(config).files([DAYS[name]])
    found = [row for file in files for row in pq.read_table(file).to_pylist()]
    return iter(sorted(found, key=lambda row: row["exposure_id"]))


@pytest.mark.parametrize("name", ["train", "test"])
def test_samples_are_those_of_the_files(imported: Imported, name: str) -> None:
    in_order = sorted(ALL[name], key=lambda sample: sample.number)
    assert list(rows(imported.config, name)) == [expected(imported.config, name, one) for one in in_order]


def test_a_sample_by_hand(imported: Imported) -> None:
    """The first of the training set, and the third, as one reads them off the lines above."""
    first, _, third, fourth, *_ = rows(imported.config, "train")
    assert (first["exposure_id"], first["user_id"], first["item_id"]) == (2, 7, 7702673)
    assert (first["user"], first["gender"], first["brand"], first["position"]) == (
        7,
        445393,
        9342395,
        9351665,
    )
    assert first["seen_categories"] == [450_000, *range(449_001, 449_050)]
    assert first["seen_categories_weight"][:2] == pytest.approx([4.67283, 0.69315])
    assert first["seen_shops"] == [902, 901, 904] + [-1] * 47  # 903 has the value 0
    assert first["intentions"] == [9042796, 9059239] + [-1] * 8
    assert first["matching_intentions"][:3] == [9_900_001, 9_900_002, -1]
    assert (first["matching_category"], first["matching_shop"]) == ([9356012], [-1])
    assert (third["click"], third["purchase"], third["brand"], third["shop"]) == (1, 1, 12, 21)
    assert (fourth["user"], fourth["user_id"], fourth["seen_shops"][:2]) == (9, 7, [905, -1])


def test_lines_that_cannot_be_used_are_kept_with_their_reasons(imported: Imported) -> None:
    table = tables.rejects(imported.config)
    for name, day in DAYS.items():
        found = [row for file in table.files([day]) for row in pq.read_table(file).to_pylist()]
        kinds = ("sample_skeleton", "common_features")
        wanted = [
            (f"{kind}_{name}.csv", reason) for kind in kinds for reason in BAD[f"{kind}_{name}"].values()
        ]
        assert sorted((row["log"], row["reason"]) for row in found) == sorted(wanted)
    originals = {
        row["original"] for file in table.files([TRAIN_DAY]) for row in pq.read_table(file).to_pylist()
    }
    assert r'{"line":"6d,101\u00027\u00031.0"}' in originals


def test_the_manifests_count_what_became_of_the_lines(imported: Imported) -> None:
    train, test = (tables.samples(imported.config).manifest(day) for day in DAYS.values())
    assert (train.rows, test.rows) == (64, 32)
    assert train.counts == {
        "sample_skeleton read": 81, "common_features read": 4, "lines rejected": 19, "samples": 64,
        "sample_skeleton another number of values": 3, "sample_skeleton unreadable sample id": 1,
        "sample_skeleton unreadable labels": 2, "sample_skeleton unreadable features": 7,
        "sample_skeleton no item": 1, "sample_skeleton bought without a click": 1,
        "sample_skeleton unknown common features": 2, "common_features unreadable features": 1,
        "common_features another number of values": 1,
        "clicked": sum(sample.click for sample in ALL["train"]),
        "bought": sum(sample.purchase for sample in ALL["train"]),
    }  # fmt: skip
    assert (test.counts["lines rejected"], test.counts["samples"]) == (1, 32)
    assert imported.built.funnels[TRAIN_DAY]["seen_categories: empty"] == pytest.approx(
        sum(sample.common == "9c" for sample in ALL["train"]) / 64
    )


@pytest.mark.slow
def test_a_model_learns_from_them_and_is_measured(spark: SparkSession, imported: Imported) -> None:
    from esmm.distributed.exchange import Alone
    from esmm.training import train

    config = imported.config
    plan = make_plan(config.samples.table, [TRAIN_DAY], schema.training_columns(config))
    result = train(config, plan, Alone(), [TRAIN_DAY])
    assert (result["samples"], result["steps"]) == (64, 4)
    held_out = evaluation.held_out(spark, config, [TEST_DAY])
    found = evaluation.evaluate(
        spark,
        config,
        scoring.with_predictions(held_out, config, result["version"]),
        model=result["version"],
        days=[TEST_DAY],
        popularity_days=evaluation.days_before(spark, config, TEST_DAY),
    )
    metrics = found.metrics.result()
    assert (metrics["ctr"]["rows"], metrics["ctcvr"]["rows"]) == (32, 32)
    assert metrics["cvr"]["rows"] == sum(sample.click for sample in ALL["test"])
    assert metrics["cvr"]["auc"] is not None


TWICE = f"3a,1,{GOOD}"
SPOILT: list[Any] = [
    pytest.param(
        {"common_features_test": {TWICE: ""}},
        "common_features_test.csv: expected each common feature index once, found '3a' 2 times",
        id="common features that are there twice",
    ),
    pytest.param(
        {"sample_skeleton_train": {f"1,0,0,3a,1,{GOOD}": ""}},
        r"sql/checks/unique_exposure.sql: expected no rows that break it, found .*'exposure_id': 2, 'samples': 2",
        id="a sample that is there twice",
    ),
]


@pytest.mark.parametrize(("lines", "message"), SPOILT)
def test_what_cannot_be_published_leaves_what_is(
    spark: SparkSession, imported: Imported, tmp_path: Path, lines: dict[str, dict[str, str]], message: str
) -> None:
    table = tables.samples(imported.config)
    before = {day: table.manifest(day).run for day in DAYS.values()}
    with pytest.raises(DataError, match=message) as caught:
        import_samples(spark, imported.config, write(tmp_path / "files", SAMPLES, lines))
    assert (caught.value.exit_code, "\n" in str(caught.value)) == (1, False)
    assert {day: table.manifest(day).run for day in DAYS.values()} == before
    assert sorted(path.name for path in Path(table.path).glob("run=*")) == [f"run={before[TRAIN_DAY]}"]


def test_a_set_of_which_nothing_can_be_used(spark: SparkSession, imported: Imported, tmp_path: Path) -> None:
    folder = write(tmp_path, {"train": SAMPLES["train"], "test": []}, BAD)
    message = (
        "^the test set: expected samples that can be used, found 1 sample_skeleton read, "
        "1 sample_skeleton unknown common features"
    )
    with pytest.raises(DataError, match=message):
        import_samples(spark, imported.config, folder)


def test_a_file_that_is_not_there_once_is_named(spark: SparkSession, tmp_path: Path) -> None:
    config, folder = small(tmp_path), write(tmp_path / "files", SAMPLES, {})
    (folder / "sample_skeleton_test.csv").write_text("")
    message = (
        r"files: expected one file sample_skeleton_test\.csv, in it or below it, found .*csv, .*test/sample"
    )
    with pytest.raises(DataError, match=message):
        import_samples(spark, config, folder)
    for file in folder.rglob("sample_skeleton_test.csv"):
        file.unlink()
    with pytest.raises(DataError, match=r"sample_skeleton_test\.csv, in it or below it, found none"):
        import_samples(spark, config, folder)
    with pytest.raises(DataError, match=r"nowhere: .* found no such folder"):
        import_samples(spark, config, folder / "nowhere")
    assert [path for path in (tmp_path / "build").rglob("*") if path.is_file()] == []


def test_a_feature_that_is_no_id_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    config = small(tmp_path)
    number = configs.NumberFeature(kind="number", source="samples.301")
    spoilt = config.model_copy(update={"features": config.features | {"position": number}})
    with pytest.raises(
        ConfigError, match=r"^features.position: expected id of samples.FIELD, found number of samples"
    ):
        import_samples(spark, spoilt, tmp_path)


def test_the_table_is_the_papers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 68 and 69 % the mean is 68.5 and the deviation of a sample √0.5."""
    runs = {
        "esmm-1": (0.68, 0.64), "esmm-2": (0.69, 0.65), "base-10": (0.66123, 0.62), "escm2_ips-1": (0.7, 0.7),
    }  # fmt: skip
    for run, (cvr, ctcvr) in runs.items():
        (tmp_path / "runs" / run).mkdir(parents=True)
        found = {"cvr": {"auc": cvr}, "ctcvr": {"auc": ctcvr}}
        (tmp_path / "runs" / run / "evaluation.json").write_text(json.dumps(found))
    (tmp_path / "runs/esmm-3").mkdir()  # not evaluated yet
    aliccp_table.main(tmp_path / "runs")
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| BASE | 1 | 66.12 | 66.00 ± 0.37 | 62.00 | 62.07 ± 0.45 |",
        "| ESMM | 2 | 68.50 ± 0.71 | 68.56 ± 0.37 | 64.50 ± 0.71 | 65.32 ± 0.49 |",
        "| escm2_ips | 1 | 70.00 |  | 70.00 |  |",
    ]
    assert (tmp_path / "table.md").read_text().count("\n") == 5
    (tmp_path / "runs/esmm-1/evaluation.json").write_text('{"cvr": {"auc": null}}')
    with pytest.raises(ValueError, match=r"esmm-1/evaluation\.json: expected an AUC of cvr, found none"):
        aliccp_table.read(tmp_path / "runs")


def make(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`make` with this repository's Makefile in a directory of its own, its environment taken as made."""
    for name in (
        "Makefile",
        "spark-submit.sh",
        "jobs",
        "benchmarks",
        "requirements.lock",
        "pyproject.toml",
        ".venv",
    ):
        if not (directory / name).exists():
            (directory / name).symlink_to(ROOT / name)
    command = ["make", f"environment={sys.executable}", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=800)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_make_aliccp(tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "conf/aliccp.yaml").read_text())
    values["embeddings"] = {name: {"rows": 100, "dim": 18} for name in values["embeddings"]}
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/aliccp.yaml").write_text(yaml.safe_dump(values))
    write(tmp_path / "files", ALL, {"sample_skeleton_test": {f"1,0,0,3a,1,{GOOD}": ""}})
    wanted = ["aliccp", "VARIANTS=esmm", "SEEDS=3"]
    without = make(tmp_path, *wanted)
    assert (without.returncode, without.stderr.count("\n")) == (2, 1)
    assert (
        "DATA: expected the folder of Ali-CCP's files, make aliccp DATA=FOLDER, found none" in without.stderr
    )
    spoilt = make(tmp_path, *wanted, "DATA=files")
    # spark-submit passes on all that a job's Python writes on its standard output.
    [line] = [line for line in (spoilt.stdout + spoilt.stderr).splitlines() if line.startswith("error: ")]
    assert "sql/checks/unique_exposure.sql: expected no rows that break it, found " in line
    assert not list((tmp_path / "build/aliccp").rglob("*.parquet"))

    write(tmp_path / "files", ALL, BAD)
    done = make(tmp_path, *wanted, "DATA=files")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "96 samples of 2 days in build/aliccp/samples" in done.stdout
    assert (tmp_path / "build/aliccp/table.md").read_text().splitlines()[2].startswith("| ESMM | 1 | ")
    run = tmp_path / "build/aliccp/runs/esmm-3"
    found = json.loads((run / "evaluation.json").read_text())
    assert (found["days"], found["ctcvr"]["rows"]) == (["2018-01-02"], 32)
    facts = versions.manifest(str(run / "models"), found["model"]).facts
    assert (facts["days"], facts["config"]["seed"], facts["ranks"]) == (["2018-01-01"], 3, 2)
    assert "spark-submit" not in make(tmp_path, "-n", *wanted).stdout, "what is done is not done again"
