"""What each rank of tests/test_reading_ranks.py does: horovodrun … python -m tests.reading_ranks DIRECTORY.

Trains on each of the directory's tables in turn, some harmed once they are planned; leaves what came of it.
"""

import json
import os
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from esmm import config as configs
from esmm import schema
from esmm.config import Config
from esmm.distributed import launch
from esmm.distributed.exchange import HorovodExchange
from esmm.distributed.joining import joined
from esmm.distributed.launch import Work
from esmm.errors import JobError
from esmm.plan import ReadingPlan, make_plan
from esmm.training import train


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def deleted(path: Path) -> None:
    path.unlink()


def changed(path: Path, name: str, change: Callable[[pa.Array], pa.Array]) -> None:
    samples = pq.read_table(path)
    column = change(samples[name].combine_chunks())
    samples = samples.set_column(samples.column_names.index(name), name, column)
    pq.write_table(samples, path)


def another_schema(path: Path) -> None:
    changed(path, "seller", lambda values: values.cast(pa.float64()))


def null_id(path: Path) -> None:
    changed(path, "seller", lambda values: pa.array([*values.to_pylist()[:-1], None], pa.int64()))


def short_list(path: Path) -> None:
    changed(path, "clicked_seller", lambda v: pa.array([*v.to_pylist()[:-1], v[-1].as_py()[1:]], v.type))


class Payload:
    """What unpickling runs: it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def common_metadata(path: Path) -> None:
    payload = pickle.dumps(Payload(path.parent / "was-run"))
    pq.write_metadata(
        pq.read_schema(path).with_metadata({b"dataset-toolkit.unischema.v1": payload}),
        path.parent / "_common_metadata",
    )


AFTER_PLANNING = {harm.__name__: harm for harm in (truncated, deleted, another_schema, null_id, short_list)}
FAULTS = (*AFTER_PLANNING, common_metadata.__name__)


def with_table(config: Config, directory: Path, name: str) -> Config:
    """The config with everything in a directory of the case's own."""
    text = config.model_dump_json().replace(str(directory / "sound"), str(directory / name))
    return configs.parse(json.loads(text))


def planned(config: Config, name: str) -> ReadingPlan:
    """The plan; what it says of the last file's length is true of the harmed one, so that only its content is not."""
    plan = make_plan(config.samples.table, None, schema.training_columns(config))
    if name in AFTER_PLANNING:
        *others, last = plan.files
        path = Path(last.url.removeprefix("file://"))
        AFTER_PLANNING[name](path)
        if name not in ("truncated", "deleted"):
            last = last.model_copy(update={"bytes": path.stat().st_size})
        plan = plan.model_copy(update={"files": (*others, last)})
    return plan


def outcome(config: Config, exchange: HorovodExchange, name: str) -> dict[str, object]:
    start = time.monotonic()
    try:
        mine = launch._work_or_error(lambda: Work(planned(config, name))) if exchange.rank == 0 else None
        work = exchange.broadcast_object(mine)
        if isinstance(work, JobError):
            raise work
        assert work is not None
        result = train(config, work.plan, exchange)
        found: dict[str, object] = {"steps": result["steps"], "samples": result["samples"]}
    except JobError as error:
        found = {"error": str(error), "kind": type(error).__name__}
    return found | {"seconds": time.monotonic() - start}


def main() -> None:
    directory = Path(sys.argv[1])
    config = configs.parse(json.loads((directory / "config.json").read_text()))
    found = {}
    with joined(config.training) as exchange:
        for name in ("sound", *FAULTS):
            found[name] = outcome(with_table(config, directory, name), exchange, name)
    (directory / f"outcome{exchange.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
