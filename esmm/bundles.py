"""The variables of a SavedModel, written by several processes, none of which holds all of them.

    keys = {"item": [key_of(served, shard) for shard in placeholders]}     # the process that has saved the graph
    index = write_part(directory, {keys["item"][rank]: shard}, rank, ranks)    # every process, of its own shard
    join(saved_model, [index of rank 0, index of rank 1])                      # the first one again

TensorFlow keeps a SavedModel's variables in data files and one index of them. A shard is saved with the graph as a
variable of no rows, whose number of rows the graph leaves open; each process then writes the data file of its own, and
the first one joins the indices. A part's data never comes to that process: joining only looks at indices, and renames
the files of data, for which empty ones stand in.
"""

import shutil
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def key_of(root: tf.Module, variable: tf.Variable) -> str:
    """What a variable is called in the SavedModel of an object: the shortest way to it."""
    seen, left = {id(root)}, deque([("", root)])
    while left:
        path, found = left.popleft()
        if found is variable:
            return path.removeprefix("/") + _VALUE
        for name, child in tf.train.TrackableView.children(found).items():
            if id(child) not in seen:
                seen.add(id(child))
                left.append((f"{path}/{name}", child))
    raise ValueError(f"{variable.name}: not a variable of {root.name}")


def write_part(directory: Path, variables: Mapping[str, tf.Variable], rank: int, ranks: int) -> bytes:
    """Write the data file of one process, of variables by key, where the SavedModel has it; the index of it."""
    prefix = directory / "variables" / f"part-{rank}"
    prefix.parent.mkdir(parents=True, exist_ok=True)
    _save(prefix, dict(variables))
    data = _data(prefix.with_name("variables"), rank + 1, ranks + 1)
    _data(prefix, 0, 1).rename(data)
    index = Path(f"{prefix}.index")
    found = index.read_bytes()
    index.unlink()
    return found


def join(saved_model: Path, indices: Sequence[bytes]) -> None:
    """Put the parts of all processes in place of the variables of the same keys, given their indices.

    The data files themselves are to be copied to `saved_model`/variables by whoever has written them.
    """
    prefix = saved_model / "variables" / "variables"
    with tempfile.TemporaryDirectory(prefix="esmm-bundles-") as temporary:
        parts = []
        for rank, index in enumerate(indices):
            part = Path(temporary) / f"part-{rank}"
            Path(f"{part}.index").write_bytes(index)
            _data(part, 0, 1).touch()
            parts.append(part)
        elsewhere = {key for part in parts for key in _keys(part)}
        rest, joined = Path(temporary) / "rest", Path(temporary) / "variables"
        reader = tf.train.load_checkpoint(str(prefix))
        _save(rest, {key: reader.get_tensor(key) for key in _keys(prefix) if key not in elsewhere})
        del reader
        tf.raw_ops.MergeV2Checkpoints(
            checkpoint_prefixes=[str(rest), *map(str, parts)],
            destination_prefix=str(joined),
            delete_old_dirs=False,
        )
        shutil.rmtree(prefix.parent)
        prefix.parent.mkdir()
        shutil.move(f"{joined}.index", f"{prefix}.index")
        count = len(parts) + 1
        shutil.move(_data(joined, 0, count), _data(prefix, 0, count))


def _keys(prefix: Path) -> list[str]:
    return sorted(tf.train.load_checkpoint(str(prefix)).get_variable_to_shape_map())


def _save(prefix: Path, tensors: Mapping[str, object]) -> None:
    values = [tf.convert_to_tensor(value) for value in tensors.values()]
    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=[*tensors], shape_and_slices=[""] * len(values), tensors=values
    )


def _data(prefix: Path, number: int, count: int) -> Path:
    return Path(f"{prefix}.data-{number:05d}-of-{count:05d}")
