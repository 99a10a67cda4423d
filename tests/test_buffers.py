"""Memory that is lent again: to nobody while it is held, and at multiples of 64 bytes."""

import numpy as np
import pytest
import tensorflow as tf

from esmm.buffers import Buffers
from tests.sample_files import COLUMNS


def test_arrays_are_aligned_contiguous_and_of_the_columns_types() -> None:
    batch = Buffers(COLUMNS, 5).take()
    for column in COLUMNS:
        array = batch[column.name]
        assert array.dtype == column.type
        assert array.shape == ((5,) if column.length is None else (5, column.length))
        assert array.ctypes.data % 64 == 0
        assert array.flags.c_contiguous
    for number, array in enumerate(batch.values()):
        array[:] = number
    assert [int(array.min()) for array in batch.values()] == list(range(len(COLUMNS)))


@pytest.mark.parametrize("hold", [
    lambda batch: batch, lambda batch: batch["click"], lambda batch: batch["clicked_seller"][1:, 0],
    lambda batch: batch["seller"].view(np.uint8).reshape(-1, 8)[0], lambda batch: memoryview(batch["price"]),
])  # fmt: skip
def test_memory_is_lent_again_once_nobody_holds_a_part_of_it(hold: object) -> None:
    buffers = Buffers(COLUMNS, 4)
    held = hold(buffers.take())  # type: ignore[operator]
    others = [buffers.take() for _ in range(3)]
    places = {batch["user_id"].ctypes.data for batch in others}
    assert len(places) == 3
    del others
    assert buffers.take()["user_id"].ctypes.data in places
    before = len(buffers._stretches)
    del held
    held_again = [buffers.take() for _ in range(4)]
    assert len(buffers._stretches) == before == len(held_again)


def test_tensors_hold_what_they_show() -> None:
    def batches() -> object:
        buffers = Buffers(COLUMNS, 64)
        for number in range(20):
            batch = buffers.take()
            for array in batch.values():
                array[:] = number
            yield batch
            del batch

    signature = {
        column.name: tf.TensorSpec(
            (64,) if column.length is None else (64, column.length), tf.as_dtype(column.type)
        )
        for column in COLUMNS
    }
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(3)
    kept = [tensor for batch in dataset for tensor in [batch["seller"], batch["clicked_weight"]]]
    assert [sorted(set(tensor.numpy().ravel().tolist())) for tensor in kept[::2]] == [[n] for n in range(20)]
    assert [sorted(set(tensor.numpy().ravel().tolist())) for tensor in kept[1::2]] == [[n] for n in range(20)]
