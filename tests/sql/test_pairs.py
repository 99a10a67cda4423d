"""pairs and unknown: all items of some values for given users, and who of those that are scored is unknown."""

import pytest
from pyspark.sql import SparkSession

from esmm import statements

SHOE, BOOT, HAT = 1, 2, 3
ALWAYS, END = -(2**63), 2**63 - 1
AT = 1_000
Version = tuple[int, int, int, int]
"""Of an item: id, category, from when on, until when."""


def paired(
    spark: SparkSession, users: list[tuple[str, int]], items: list[Version], values: list[int]
) -> list[tuple[object, ...]]:
    """(user, slot, item) of users (user, slot) and the items of some categories, in order; item 7 is called "i7"."""
    spark.createDataFrame(users, "customer string, slot int").createOrReplaceTempView("given_users")
    kinds = "entity_id bigint, value bigint, valid_from bigint, valid_until bigint"
    spark.createDataFrame(items, kinds).createOrReplaceTempView("valued_items")
    names = [(item, f"i{item}") for item, *_ in items]  # an item has a row a version in its log
    spark.createDataFrame(names, "item_id bigint, own_id string").createOrReplaceTempView("named_items")
    spark.createDataFrame([(value,) for value in values], "value bigint").createOrReplaceTempView(
        "wanted_values"
    )
    rows = statements.run(spark, "pairs", {"at": AT}).collect()
    assert all(set(row.asDict()) == {"customer", "slot", "item_id"} for row in rows)
    return sorted((row["customer"], row["slot"], row["item_id"]) for row in rows)


USER = [("u1", 5)]
PAIRS: dict[str, tuple[list[tuple[str, int]], list[Version], list[int], list[tuple[object, ...]]]] = {
    "each user with each item of the values": (
        [("u1", 5), ("u2", 6)], [(7, SHOE, ALWAYS, END), (8, BOOT, ALWAYS, END), (9, HAT, ALWAYS, END)], [SHOE, BOOT],
        [("u1", 5, "i7"), ("u1", 5, "i8"), ("u2", 6, "i7"), ("u2", 6, "i8")],
    ),
    "an item goes by what it is then": (
        USER, [(7, HAT, ALWAYS, AT), (7, SHOE, AT, END), (8, SHOE, ALWAYS, AT), (8, HAT, AT, END)], [SHOE],
        [("u1", 5, "i7")],
    ),
    "an item that is not there yet": (USER, [(7, SHOE, AT + 1, END), (8, SHOE, AT, END)], [SHOE], [("u1", 5, "i8")]),
    "two versions of an item are one": (
        USER, [(7, SHOE, ALWAYS, AT - 1), (7, SHOE, AT - 1, END)], [SHOE], [("u1", 5, "i7")],
    ),
    "a value that is given twice": (USER, [(7, SHOE, ALWAYS, END)], [SHOE, SHOE], [("u1", 5, "i7")]),
    "a value that no item has": (USER, [(7, SHOE, ALWAYS, END)], [HAT], []),
    "a user that is given twice": (
        USER + USER, [(7, SHOE, ALWAYS, END)], [SHOE], [("u1", 5, "i7"), ("u1", 5, "i7")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PAIRS)
def test_pairs(spark: SparkSession, case: str) -> None:
    users, items, values, expected = PAIRS[case]
    assert paired(spark, users, items, values) == expected


def test_who_is_unknown(spark: SparkSession) -> None:
    """Users 1 and 2 are known, 3 is not any more and 4 not yet; of the items 7 and 8 only 7."""
    pairs = [(1, 7), (1, 8), (2, 7), (3, 7), (3, 8), (4, 8), (5, 7)]
    spark.createDataFrame(pairs, "user_id bigint, item_id bigint").createOrReplaceTempView("raw_candidates")
    versions = {
        "users": [
            (1, ALWAYS, END),
            (2, ALWAYS, 5),
            (2, 5, END),
            (3, ALWAYS, AT),
            (4, AT + 1, END),
            (99, ALWAYS, END),
        ],
        "items": [(7, AT, END), (1, ALWAYS, END)],
    }
    for name, rows in versions.items():
        kinds = "entity_id bigint, valid_from bigint, valid_until bigint"
        spark.createDataFrame(rows, kinds).createOrReplaceTempView(f"known_{name}")
    found = statements.run(spark, "unknown", {"at": AT}).collect()
    assert {row["log"]: (row["ids"], row["unknown_ids"]) for row in found} == {
        "users": (5, 3),
        "items": (2, 1),
    }
