"""Who reads ends with who asked: a bug in a step, in validation or in the pass before leaves no thread and no cache."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from petastorm.workers_pool.thread_pool import WorkerThread

from esmm import epochs, fitting, models, schema, training
from esmm.config import Config, parse
from esmm.distributed.exchange import Alone
from esmm.feeding import reading
from esmm.fitting.counts import Counts
from esmm.metrics import Metrics
from esmm.plan import ReadingPlan, make_plan
from esmm.training import train
from esmm.validation import Validation
from tests import kinds, synthetic


def trained(config: Config, plan: ReadingPlan) -> None:
    train(config, plan, Alone(), [synthetic.DAY])


def validated(config: Config, plan: ReadingPlan) -> None:
    with reading(config) as load:
        Validation(config, plan, models.make(config), Alone(), load)()


def fitted(config: Config, plan: ReadingPlan) -> None:
    fitting.fit(config, plan, Alone(), "run")


def fails(*_: Any, **__: Any) -> NoReturn:
    raise ZeroDivisionError


@pytest.mark.parametrize(("work", "of", "broken"), [
    (trained, training._Run, "_take"), (validated, Metrics, "update"), (fitted, Counts, "add"),
])  # fmt: skip
def test_a_failure_leaves_no_threads_and_no_cache(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    work: Callable[[Config, ReadingPlan], None], of: type, broken: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(epochs, "BLOCK_ROWS", 50)  # of so few rows all would be read before the first step
    values["training"] |= {"batch_size": 32, "cache": str(tmp_path / "cache")}
    config = parse(kinds.with_every_kind(values) if work is fitted else values)
    synthetic.publish(config, [50] * 30)
    plan = make_plan(config.samples.table, None, schema.training_columns(config))
    monkeypatch.setattr(of, broken, fails)
    with pytest.raises(ZeroDivisionError) as caught:
        work(config, plan)
    assert caught.tb is not None  # which keeps all that the frames hold
    assert not [thread for thread in threading.enumerate() if isinstance(thread, WorkerThread)]
    assert not list(tmp_path.glob("cache/*"))
