"""What a run keeps, what it goes on from, and what it passes over."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from structlog.testing import capture_logs

from esmm import versions
from esmm.checkpoints import Best, Checkpoints, State
from esmm.config import Config
from esmm.distributed.exchange import Alone
from esmm.epochs import Leg, Position
from esmm.errors import DataError
from esmm.progress import Totals
from esmm.runs import checkpoints_of, finish, finished, give_up, published
from esmm.spread import Spread
from tests.test_fitting import together


def part(value: float) -> tf.Module:
    module = tf.Module(name="part")
    module.variable = tf.Variable([value, value + 1], name="v")
    return module


@pytest.fixture(params=["file", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{tmp_path}/checkpoints" if request.param == "file" else f"memory:/{tmp_path}/checkpoints"


def damage(root: str, version: str) -> str:
    """Cut off one of a version's files, and say which."""
    [file] = [found for found in (Path(root) / version).iterdir() if ".data" in found.name]
    file.write_bytes(file.read_bytes()[:-1])
    return file.name


def test_a_run_goes_on_from_its_newest_checkpoint(root: str) -> None:
    saved = part(1.0)
    kept = Checkpoints(root, {"part": saved}, keep=2)
    position = Position(epoch=1, legs=(Leg(ranks=2, batch_size=8, steps=3),), of="x")
    kept.save(State(run="a", step=1))
    saved.variable.assign([5.0, 6.0])
    state = State(
        run="a",
        step=7,
        position=position,
        totals=Totals({"ctr": 0.1}, 7.0, 9),
        best=Best(epoch=1, score=0.5, checkpoint="c"),
    )
    kept.save(state)
    other = part(0.0)
    assert Checkpoints(root, {"part": other}, keep=2).resume("a") == state
    np.testing.assert_array_equal(other.variable, [5.0, 6.0])
    assert not list(versions._own_cache().glob(f"{versions.complete(root)[-1]}*")), "a copy that nobody needs"


def test_another_run_begins_anew_and_so_does_one_that_was_finished(root: str) -> None:
    kept = Checkpoints(root, {"part": part(1.0)}, keep=2)
    assert kept.resume("a") is None
    give_up(root)
    kept.save(State(run="a", step=1))
    assert kept.resume("b") is None
    assert kept.resume("a") is not None
    finish(root, run="a", model="m")
    assert (finished(root).run, finished(root).model) == ("a", "m")
    assert kept.resume("a") is None
    kept.save(State(run="a", step=2))
    assert kept.resume("a") == State(run="a", step=2)


@pytest.mark.parametrize("what", ["file", "manifest", "shape"])
def test_a_damaged_newest_checkpoint_is_passed_over_and_named(tmp_path: Path, what: str) -> None:
    root, module = str(tmp_path), part(1.0)
    kept = Checkpoints(root, {"part": module}, keep=3)
    kept.save(State(run="a", step=1))
    if what == "shape":
        module.variable = tf.Variable([1.0, 2.0, 3.0], name="v")
    newest = kept.save(State(run="a", step=2))
    named = newest
    if what == "file":
        named = f"{newest}/{damage(root, newest)}"
    elif what == "manifest":
        (tmp_path / newest / "manifest.json").write_text('{"files": {')
        named = f"{newest}/manifest.json"
    module = part(0.0)
    with capture_logs() as lines:
        state = Checkpoints(root, {"part": module}, keep=3).resume("a")
    assert state == State(run="a", step=1)
    np.testing.assert_array_equal(module.variable, [1.0, 2.0])
    [warning] = [line for line in lines if line["log_level"] == "warning"]
    assert (warning["event"], warning["checkpoint"]) == ("checkpoint passed over", newest)
    assert warning["error"].startswith(f"{root}/{named}: expected")


@pytest.mark.parametrize("manifest", ["{", '{"files": {}, "facts": {"rows": 7}}'], ids=["damaged", "older"])
def test_a_newest_model_that_cannot_be_read_keeps_no_run_from_going_on(config: Config, manifest: str) -> None:
    kept = Checkpoints(checkpoints_of(config), {"part": part(1.0)}, keep=2)
    kept.save(State(run="a", step=1))
    model = Path(config.scoring.models, versions.new_version())
    model.mkdir(parents=True)
    (model / "manifest.json").write_text(manifest)
    with capture_logs() as lines:
        assert published(config, "a") is None
    [warning] = lines
    assert (warning["log_level"], warning["model"]) == ("warning", model.name)
    assert warning["error"].startswith(f"{model}/manifest.json: expected a manifest")
    assert kept.resume("a") == State(run="a", step=1)


def test_ranks_share_out_what_is_compared_and_pass_a_checkpoint_over_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, sha256, compared = str(tmp_path), versions._sha256, Counter[str]()

    def kept(rank: Alone, module: tf.Module, shard: tf.Variable) -> Checkpoints:
        return Checkpoints(
            root, {"part": module}, 3, rank, Spread({"item": {"rows": shard}}, rank.rank, rank.size)
        )

    def save(rank: Alone) -> None:
        for step in (1, 2):
            shard = tf.Variable(tf.fill((4, 2), 10.0 * step + rank.rank))
            kept(rank, part(float(step)), shard).save(State(run="a", step=step))

    def resume(rank: Alone) -> Any:
        module, shard = part(0.0), tf.Variable(tf.zeros((4, 2)))
        state = kept(rank, module, shard).resume("a")
        return state and state.step, float(module.variable[0]), shard.numpy().tolist()

    def counted(file: Path) -> str:
        compared[file.relative_to(root).as_posix()] += 1
        return sha256(file)

    together(3, save)
    older, newest = versions.complete(root)
    shard = tmp_path / newest / "item/rows-2-of-3.npy"
    shard.write_bytes(shard.read_bytes()[:-1] + b"X")
    monkeypatch.setattr(versions, "_sha256", counted)
    with capture_logs() as lines:
        found = together(3, resume)
    assert found == [(1, float(rank == 0), [[10.0 + rank] * 2] * 4) for rank in range(3)]
    [warning] = [line for line in lines if line["log_level"] == "warning"]
    assert warning["error"].startswith(f"{shard}: expected the file with SHA-256 ")
    files = [f"{older}/{name}" for name in versions.manifest(root, older).files]
    assert {file: compared[file] for file in files} == dict.fromkeys(files, 1)
    assert len(files) == 2 + 3


def test_where_all_are_damaged_a_run_begins_anew(tmp_path: Path) -> None:
    kept = Checkpoints(str(tmp_path), {"part": part(1.0)}, keep=3)
    damage(str(tmp_path), kept.save(State(run="a", step=1)))
    assert kept.resume("a") is None


def test_the_newest_stay_and_the_best_one(root: str) -> None:
    kept = Checkpoints(root, {"part": part(1.0)}, keep=2)
    best = Best(epoch=1, score=0.5, checkpoint=versions.new_version())
    saved = [kept.save(State(run="a", best=best), best.checkpoint)]
    saved += [kept.save(State(run="a", step=step, best=best)) for step in range(4)]
    assert versions.complete(root) == [saved[0], *saved[-2:]]
    worse = best.model_copy(update={"checkpoint": saved[-1]})
    saved.append(kept.save(State(run="a", step=9, best=worse)))
    assert versions.complete(root) == saved[-2:]


def test_what_a_killed_writer_left_goes_with_the_older_ones(tmp_path: Path) -> None:
    kept = Checkpoints(str(tmp_path), {"part": part(1.0)}, keep=1)
    left = tmp_path / versions.new_version()
    left.mkdir()
    (left / "state.index").write_bytes(b"half")
    assert kept.resume("a") is None
    saved = kept.save(State(run="a"))
    assert [found.name for found in tmp_path.iterdir()] == [saved]


def test_a_checkpoint_on_a_file_system_is_written_where_it_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by way of a directory of temporary files, which may be small, or in memory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    root = tmp_path / "checkpoints"
    saved = Checkpoints(str(root), {"part": part(1.0)}, keep=1).save(State(run="a"))
    manifest = versions.manifest(str(root), saved)
    found = {file.relative_to(root / saved).as_posix() for file in (root / saved).rglob("*")}
    assert found == {*manifest.files, "manifest.json"}
    assert {name.partition(".")[0] for name in manifest.files} == {"state"}


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    version = Checkpoints(str(tmp_path), {"part": part(1.0)}, keep=1).save(State(run="a"))
    other = part(0.0)
    other.more = tf.Variable([1.0], name="more")
    with pytest.raises(DataError, match=f"{version}: expected this model's variables"):
        Checkpoints(str(tmp_path), {"part": other}, keep=1).restore(version)


@pytest.mark.parametrize("change", ["another variable", "another shape", "another type"])
def test_a_checkpoint_that_does_not_fit_leaves_every_variable_as_it_was(tmp_path: Path, change: str) -> None:
    """A run that then begins anew would else begin with what was learnt."""
    saved = part(1.0)
    saved.last = tf.Variable([7.0], name="last")
    Checkpoints(str(tmp_path), {"part": saved}, keep=1).save(State(run="a", step=1))
    other = part(0.0)
    other.last = tf.Variable([0] if change == "another type" else [0.0], name="last")
    if change == "another shape":
        other.last = tf.Variable([0.0, 0.0], name="last")
    elif change == "another variable":
        other.next = tf.Variable([0.0], name="next")
    with capture_logs() as lines:
        assert Checkpoints(str(tmp_path), {"part": other}, keep=1).resume("a") is None
    assert [line["event"] for line in lines] == ["checkpoint passed over"]
    np.testing.assert_array_equal(other.variable, [0.0, 1.0])
    assert not other.last.numpy().any()


def test_some_of_the_parts_can_be_restored_alone(tmp_path: Path) -> None:
    one, two = part(1.0), part(2.0)
    kept = Checkpoints(str(tmp_path), {"one": one, "two": two}, keep=1)
    version = kept.save(State(run="a"))
    one.variable.assign([0.0, 0.0])
    two.variable.assign([0.0, 0.0])
    kept.restore(version, only="one")
    np.testing.assert_array_equal(one.variable, [1.0, 2.0])
    np.testing.assert_array_equal(two.variable, [0.0, 0.0])


def test_a_checkpoint_comes_after_those_of_a_clock_that_is_ahead(tmp_path: Path) -> None:
    kept = Checkpoints(str(tmp_path), {"part": part(1.0)}, keep=1)
    ahead = "20990101T000000.999999-00000000"
    kept.save(State(run="a", step=1), ahead)
    saved = kept.save(State(run="a", step=2))
    assert saved.startswith("20990101T000001.000000-")
    assert versions.complete(str(tmp_path)) == [saved]
    assert kept.resume("a") == State(run="a", step=2)
