"""New variables: the seed and a variable's own name say what it begins with."""

import zlib

import tensorflow as tf


def new_variable(
    name: str, shape: tuple[int, ...], deviation: float, seed: int, dtype: tf.DType
) -> tf.Variable:
    """A variable of normal entries drawn by the seed and its whole name: equal on every rank and in every run."""
    drawn = tf.random.stateless_normal(shape, [seed, number_of(scoped(name))], stddev=deviation, dtype=dtype)
    return tf.Variable(drawn, name=name)


def scoped(name: str) -> str:
    """A name as variables have it that are made here: within `tf.name_scope("ctr")`, `ctr/` comes before it."""
    scope = tf.get_current_name_scope()
    return f"{scope}/{name}" if scope else name


def number_of(name: str) -> int:
    """A name as a number, for what is drawn by it."""
    return zlib.crc32(name.encode())
