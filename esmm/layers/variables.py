"""New variables: the seed and a variable's own name say what it begins with."""

import zlib

import tensorflow as tf

ROWS_DEVIATION = 0.05
"""Standard deviation of a new table's entries."""
_BLOCK = 2**16
"""Rows of a table that are drawn at once."""


def new_variable(
    name: str, shape: tuple[int, ...], deviation: float, seed: int, dtype: tf.DType
) -> tf.Variable:
    """A variable of normal entries drawn by the seed and its whole name: equal on every rank and in every run."""
    drawn = tf.random.stateless_normal(shape, [seed, number_of(scoped(name))], stddev=deviation, dtype=dtype)
    return tf.Variable(drawn, name=name)


def new_rows(
    name: str, rows: int, dim: int, seed: int, dtype: tf.DType, *, first: int = 0, every: int = 1
) -> tf.Variable:
    """Of a new table's rows, [rows, dim], those numbered `first`, `first` + `every`, …: drawn as for the whole table.

    They are drawn some at a time, so that no more is in memory than what is kept.
    """
    kept = len(range(first, rows, every))
    variable = tf.Variable(tf.zeros((kept, dim), dtype), name=name)
    at = 0
    for block, start in enumerate(range(0, rows, _BLOCK)):
        seeds = tf.constant([seed, number_of(scoped(name))], tf.int64)
        seeds = tf.random.experimental.stateless_fold_in(seeds, block) if block else seeds
        shape = (min(_BLOCK, rows - start), dim)
        drawn = tf.random.stateless_normal(shape, seeds, stddev=ROWS_DEVIATION, dtype=dtype)
        own = drawn[(first - start) % every :: every]
        variable[at : at + len(own)].assign(own)
        at += len(own)
    return variable


def scoped(name: str) -> str:
    """A name as variables have it that are made here: within `tf.name_scope("ctr")`, `ctr/` comes before it."""
    scope = tf.get_current_name_scope()
    return f"{scope}/{name}" if scope else name


def number_of(name: str) -> int:
    """A name as a number, for what is drawn by it."""
    return zlib.crc32(name.encode())
