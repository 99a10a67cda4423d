"""Candidates grouped by user: what depends on the user alone is there once a user, and so is what is made of it.

    user_of_row   [0, 0, 1]       # rows 0 and 1 are candidates of the first user, row 2 is one of the second
    user          [7, 9]          # the user's columns, `esmm.schema.user_columns`, are [g], or [g, n]
    item          [3, 4, 3]       # all others are by row, as in any batch: [b]

The same layers serve both kinds of batch: hashing, look-ups and pooling do not mind how many rows a column has. Only
where a user's column meets a candidate's is it brought to the rows (`by_row`), and the first product of the towers is
taken apart (`Grouped`): [user's, row's] @ kernel = user's @ its rows of the kernel + row's @ the others.
"""

from collections.abc import Mapping, Set
from typing import Any

import tensorflow as tf

from esmm.schema import USER_OF_ROW


def by_row(of_user: tf.Tensor, batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """A user's column, [g, …], as [b, …]; in a batch that is not grouped it is by row already."""
    return tf.gather(of_user, batch[USER_OF_ROW]) if USER_OF_ROW in batch else of_user


class Grouped:
    """Vectors [b, i] of which some parts are held once a user.

    `grouped @ kernel` is the product of the whole vectors, up to the order of its sums; TensorFlow's functions take
    it for the whole vectors, too.
    """

    def __init__(self, parts: Mapping[str, tf.Tensor], of_user: Set[str], user_of_row_b: tf.Tensor) -> None:
        """`parts` are what vectors are made of, in order, [g, d] where they are `of_user`, else [b, d]."""
        self._parts, self._of_user, self._user_of_row_b = parts, of_user & parts.keys(), user_of_row_b

    @property
    def dtype(self) -> tf.DType:
        """Of the whole vectors."""
        return next(iter(self._parts.values())).dtype

    def __matmul__(self, kernel_io: tf.Tensor) -> tf.Tensor:
        """[b, o]."""
        kernels = dict(
            zip(
                self._parts,
                tf.split(kernel_io, [each.shape[1] for each in self._parts.values()]),
                strict=True,
            )
        )

        def product(names: Set[str]) -> tf.Tensor:
            ordered = [name for name in self._parts if name in names]
            vectors = tf.concat([self._parts[name] for name in ordered], axis=1)
            return vectors @ tf.concat([kernels[name] for name in ordered], axis=0)

        sums = []
        if self._of_user:
            sums.append(tf.gather(product(self._of_user), self._user_of_row_b))
        if of_row := self._parts.keys() - self._of_user:
            sums.append(product(of_row))
        return tf.add_n(sums)

    def whole(self) -> tf.Tensor:
        """[b, i]."""
        parts = [
            tf.gather(part, self._user_of_row_b) if name in self._of_user else part
            for name, part in self._parts.items()
        ]
        return tf.concat(parts, axis=1)


def _converted(grouped: Grouped, dtype: Any = None, name: Any = None, as_ref: bool = False) -> tf.Tensor:  # noqa: ARG001
    return grouped.whole()


tf.register_tensor_conversion_function(Grouped, _converted)
