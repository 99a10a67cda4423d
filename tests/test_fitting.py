"""What is learnt before training: against counting by hand, NumPy and scikit-learn, by one rank and by several."""

import re
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.preprocessing import StandardScaler

from esmm import fitted, fitting, runs, schema
from esmm.config import Config, NumberFeature, parse
from esmm.distributed.exchange import Alone
from esmm.errors import DataError
from esmm.fitted import NOTHING, Fitted, Moments
from esmm.fitting import counts
from esmm.fitting.counts import Counts
from esmm.fitting.moments import Sums
from esmm.fitting.quantiles import Histogram
from esmm.layers.inputs import Inputs
from esmm.plan import ReadingPlan, make_plan
from tests import kinds, synthetic

ROOT = Path(__file__).resolve().parent.parent


class Rank(Alone):
    """One of several, each in a thread of its own."""

    def __init__(self, rank: int, size: int, barrier: threading.Barrier, board: list[Any]) -> None:
        self.rank, self.size = rank, size
        self._barrier, self._board = barrier, board

    def gather_objects(self, value: Any) -> list[Any]:
        self._board[self.rank] = value
        self._barrier.wait(timeout=30)
        found = list(self._board)
        self._barrier.wait(timeout=30)
        return found

    def broadcast_object(self, value: Any) -> Any:
        return self.gather_objects(value)[0]


def together(size: int, work: Callable[[Alone], Any]) -> list[Any]:
    """What each rank comes to, or the error that it ends with."""
    barrier, board = threading.Barrier(size), [None] * size

    def of_rank(rank: int) -> Any:
        try:
            return work(Rank(rank, size, barrier, board))
        except DataError as error:
            return str(error)

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(of_rank, range(size)))


@pytest.fixture
def config(values: dict[str, Any]) -> Config:
    return parse(kinds.with_every_kind(values))


@pytest.fixture
def samples(config: Config, tmp_path: Path) -> dict[str, np.ndarray]:
    """Seven files of 100 samples, in which prices and weights differ; returns all of them together."""
    (tmp_path / "files").mkdir()
    random, parts = np.random.default_rng(5), []
    for number in range(7):
        part = synthetic.columns(config, 100, seed=number)
        part["weight"] = random.choice([0.0, 1.0, 2.5], 100).astype(np.float32)
        part["band"] = random.integers(-40, 400, 100).astype(np.float32) / 8
        part["seller_ctr_7d"] = np.full(100, 0.1, np.float32)
        synthetic.write(config, part, str(tmp_path / f"files/{number}.parquet"))
        parts.append(part)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@pytest.fixture
def plan(config: Config, samples: dict[str, np.ndarray], tmp_path: Path) -> ReadingPlan:
    return make_plan(str(tmp_path / "files"), None, schema.training_columns(config))


def weighted_quantiles(values: np.ndarray, weights: np.ndarray, buckets: int) -> list[float]:
    """Of the values that are not 0: for each share, the first value above the least that has it."""
    pairs = sorted((value, weight) for value, weight in zip(values, weights, strict=True) if value and weight)
    total, found = sum(weight for _, weight in pairs), set()
    for share in range(1, buckets) if pairs else ():
        least = next(v for v, _ in pairs if sum(w for x, w in pairs if x <= v) * buckets >= share * total)
        found |= {min((v for v, _ in pairs if v > least), default=np.inf)}
    return sorted(float(value) for value in found if value < np.inf)


def test_every_rank_learns_what_the_samples_say(
    config: Config, plan: ReadingPlan, samples: dict[str, np.ndarray]
) -> None:
    for size in (1, 2, 9):
        runs.give_up(runs.checkpoints_of(config))
        first, *others = together(size, lambda rank: fitting.fit(config, plan, rank, "run"))
        check(first, samples)
        for other in others:
            assert other.summary() == first.summary()
            np.testing.assert_array_equal(other.vocabularies["item"], first.vocabularies["item"])


def check(found: Fitted, samples: dict[str, np.ndarray]) -> None:
    seen = Counter([*samples["item"].tolist(), *samples["clicked_item"].ravel().tolist()])
    del seen[-1]
    most = sorted(seen, key=lambda one: (-seen[one], one))[:29]
    assert len(seen) == 50
    assert list(found.vocabularies) == ["item"]
    assert found.vocabularies["item"].tolist() == sorted(most)

    price = samples["price"].astype(np.float64)
    logs = np.sign(price) * np.log1p(np.abs(price))
    assert set(found.moments) == {"price", *(f"seller_{figure}_7d" for figure in schema.STATISTICS)}
    for name, values in (("price", logs), ("seller_cvr_7d", samples["seller_cvr_7d"].astype(np.float64))):
        scaler = StandardScaler().fit(values[:, np.newaxis], sample_weight=samples["weight"])
        expected = [scaler.mean_[0], scaler.scale_[0]]
        np.testing.assert_allclose(found.moments[name], expected, rtol=1e-6)
    assert found.moments["seller_ctr_7d"] == pytest.approx((np.float32(0.1), 1.0))

    assert set(found.boundaries) == {"band"}
    expected = weighted_quantiles(samples["band"], samples["weight"], 4)
    assert (found.boundaries["band"].dtype, found.boundaries["band"].tolist()) == (np.float32, expected)


def test_the_example_of_the_docs(values: dict[str, Any], tmp_path: Path) -> None:
    text = (ROOT / "docs/features.md").read_text()
    block = re.search(r"((?:^    .*\n|^\n)+)", text[text.index("    embeddings:") :], re.MULTILINE)
    assert block is not None
    config = parse(values | yaml.safe_load(block[1]))
    samples = synthetic.columns(config, 4)
    price = np.array([2, 0, 8, 5], np.float32)
    samples |= {
        "item": np.array([7, 9, 4, 5]), "category": np.array([31, -1, 31, 32]), "hour": np.array([20, 20, 9, 9]),
        "clicked_item": np.array([[9, 9, 4], [7, -1, -1], [9, 5, -1], [3, -1, -1]]),
        "price": price, "price_band": price,
    }  # fmt: skip
    synthetic.write(config, samples, str(tmp_path / "four.parquet"))
    plan = make_plan(str(tmp_path / "four.parquet"), None, schema.training_columns(config))
    found = fitting.fit(config, plan, Alone(), "run")
    assert found.vocabularies["item"].tolist() == [4, 5, 9]
    assert found.moments["price"] == pytest.approx((1.2719, 0.8328), abs=5e-5)
    assert found.boundaries["price_band"].tolist() == [8.0]

    inputs = Inputs(config, tf.float64, found)
    tensors = synthetic.tensors(samples)
    look_ups = inputs.look_up(tensors)

    def rows(name: str, table: str) -> list[int]:
        indices, places = look_ups[table].rows.indices_u.numpy(), look_ups[table].places[name].numpy()
        return [int(indices[place]) if place >= 0 else -1 for place in places.ravel()]

    assert rows("item", "item") == [0, 3, 1, 2]
    assert rows("clicked_item", "item") == [3, 3, 1, 0, -1, -1, 3, 2, -1, 0, -1, -1]
    assert rows("price_band", "price_band") == [0, -1, 1, 0]
    tastes = rows("taste", "taste")
    assert tastes[1] == -1
    assert len({tastes[0], tastes[2], tastes[3]} - {-1}) == 3
    np.testing.assert_allclose(inputs(tensors, look_ups)[:, -1], [-0.208, -1.527, 1.111, 0.624], atol=5e-4)


def test_a_vocabulary_holds_what_is_often_enough_and_no_more_than_the_table_has_rows_for() -> None:
    """Of 5 times 1, 3 times 2 and 8, 2 times 9."""
    ids = [np.array([1, 1, 2, -1, 9]), np.array([[1, 1, 8], [8, 2, -1], [2, 8, 1], [9, -1, -1]])]
    for floor, most, expected in (
        (1, 9, [1, 2, 8, 9]), (3, 9, [1, 2, 8]), (3, 2, [1, 2]), (4, 9, [1]), (6, 9, []), (1, 0, []),
    ):  # fmt: skip
        found = Counts()
        for part in ids:
            found.add([part])
        assert found.frequent(Alone(), min_count=floor, most=most).tolist() == expected


def test_counts_are_whole_before_any_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rank sees each id once or twice; by slices of few ids, added up after each row group."""
    monkeypatch.setattr(counts, "_EXCHANGED", 50)
    monkeypatch.setattr(counts, "_MERGED_AT", 1)
    random = np.random.default_rng(0)
    shares = [[random.integers(0, 300, 40) for _ in range(5)] for _ in range(3)]

    def work(rank: Alone) -> np.ndarray:
        own = Counts()
        for part in shares[rank.rank]:
            own.add([part])
        return own.frequent(rank, min_count=3, most=60)

    seen = Counter(np.concatenate([part for share in shares for part in share]).tolist())
    often = sorted((one for one in seen if seen[one] >= 3), key=lambda one: (-seen[one], one))
    assert len(often) > 60
    for found in together(3, work):
        assert found.tolist() == sorted(often[:60])


@given(
    hnp.arrays(np.float32, 30, elements=st.integers(-9, 9)),
    hnp.arrays(np.float32, 30, elements=st.integers(0, 3)),
    st.integers(2, 6),
)
@settings(deadline=None, max_examples=100)
def test_buckets_weigh_the_same_as_far_as_equal_values_allow(
    values: np.ndarray, weights: np.ndarray, buckets: int
) -> None:
    histogram = Histogram()
    histogram.add(values[:13], weights[:13])
    histogram.add(values[13:], weights[13:])
    found = histogram.boundaries(Alone(), buckets)
    expected = weighted_quantiles(values, weights, buckets)
    np.testing.assert_allclose(
        found, expected, rtol=1 / 2048
    )  # below 0, a bin begins a little before its integer
    np.testing.assert_array_equal(
        np.searchsorted(found, values, "right"), np.searchsorted(expected, values, "right")
    )


def test_quantiles_of_any_size_are_near() -> None:
    values = np.random.default_rng(0).lognormal(0, 5, 100_000).astype(np.float32) * 1e6
    values[::3] *= -1e-9
    histogram = Histogram()
    histogram.add(values, np.ones(len(values)))
    expected = np.quantile(values, np.arange(1, 20) / 20)
    np.testing.assert_allclose(histogram.boundaries(Alone(), 20), expected, rtol=2e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9, -3.3e-20])
def test_a_constant_has_a_deviation_of_1(value: float) -> None:
    sums = Sums(NumberFeature(kind="number", source="items.price"))
    for rows in (3, 50):
        sums.add(np.full(rows, value, np.float32), np.full(rows, 0.3, np.float32))
    assert sums.moments(Alone()) == pytest.approx((np.float32(value), 1.0))


def test_a_small_deviation_about_a_large_mean_is_not_lost() -> None:
    values = np.float32(1e6) + np.random.default_rng(0).integers(-4, 5, 10_000).astype(np.float32)
    sums = Sums(NumberFeature(kind="number", source="items.price"))
    for part in np.array_split(values, 10):
        sums.add(part, np.ones(len(part), np.float32))
    expected = [values.astype(np.float64).mean(), values.astype(np.float64).std()]
    np.testing.assert_allclose(sums.moments(Alone()), expected, rtol=1e-9)


def test_rows_without_weight_say_nothing_of_numbers() -> None:
    sums, histogram = Sums(NumberFeature(kind="number", source="items.price")), Histogram()
    for one in (sums, histogram):
        one.add(np.array([5, 7], np.float32), np.zeros(2, np.float32))
    assert sums.moments(Alone()) == Moments(0.0, 1.0)
    assert histogram.boundaries(Alone(), 3).tolist() == []


def test_a_rank_that_cannot_read_ends_all_of_them_with_one_error(config: Config, plan: ReadingPlan) -> None:
    Path(plan.files[4].url.removeprefix("file://")).write_bytes(b"no Parquet")
    first, second, third = together(3, lambda rank: fitting.fit(config, plan, rank, "run"))
    assert first == second == third
    assert "4.parquet: expected" in first
    assert fitted.load(runs.checkpoints_of(config), "run") is None


def test_where_nothing_is_to_be_learnt_nothing_is_read(values: dict[str, Any], plan: ReadingPlan) -> None:
    for file in plan.files:
        Path(file.url.removeprefix("file://")).unlink()
    del values["embeddings"]["item"]["vocabulary"]
    del values["features"]["price"], values["features"]["band"]
    values["statistics"]["seller"]["standardise"] = False
    assert fitting.fit(parse(values), plan, Alone(), "run") is NOTHING


def test_a_run_learns_once(config: Config, plan: ReadingPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fitting.fit(config, plan, Alone(), "run")
    again = make_plan(str(Path(plan.files[0].url.removeprefix("file://")).parent), None, ())
    monkeypatch.setattr(fitting, "read_row_groups", None)
    for found in together(2, lambda rank: fitting.fit(config, again, rank, "run")):
        assert found.summary() == first.summary()
        np.testing.assert_array_equal(found.vocabularies["item"], first.vocabularies["item"])
        assert found.boundaries["band"].dtype == np.float32


@pytest.mark.parametrize("kept", ["another run's", "damaged", "given up"])
def test_what_is_not_this_runs_is_learnt_anew(config: Config, plan: ReadingPlan, kept: str) -> None:
    root = runs.checkpoints_of(config)
    expected = fitting.fit(config, plan, Alone(), "run").summary()
    file = Path(root, "fitted.npz")
    if kept == "damaged":
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 255
        file.write_bytes(data)
    if kept == "given up":
        runs.give_up(root)
        assert not file.exists()
    run = "another" if kept == "another run's" else "run"
    assert fitted.load(root, run) is None
    assert fitting.fit(config, plan, Alone(), run).summary() == expected
    assert fitted.load(root, run) is not None
