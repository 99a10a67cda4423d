"""The config: what is read, what is refused, and with which words."""

import datetime as dt
from pathlib import Path
from typing import Any

import pydantic
import pytest

from esmm import config as configs
from esmm.config import Config, parse
from esmm.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("path", sorted(ROOT.glob("conf/*.yaml")), ids=lambda path: path.name)
def test_every_config_of_the_repo_is_valid(path: Path) -> None:
    assert configs.load(path).name == path.stem


def test_of_the_example_for_a_cluster_a_run_reads_only_the_days_that_matter() -> None:
    logs = configs.load(ROOT / "conf/cluster.yaml").logs
    assert logs is not None
    assert [log.day_column for log in (logs.exposures, logs.clicks, logs.purchases)] == ["ds"] * 3


def test_overrides_reach_nested_keys_and_are_yaml() -> None:
    overrides = ["training.ranks=3", "model.towers=[4, 2]", "lists.clicked.half_life=36h", "time_zone=UTC"]
    config = configs.load(ROOT / "conf/demo.yaml", overrides)
    assert config.training.ranks == 3
    assert config.model.towers == (4, 2)
    assert config.lists["clicked"].half_life == dt.timedelta(days=1.5)


@pytest.mark.parametrize(("pattern", "says"), [
    ("yyyy-MM-dd[ HH:mm]", False), ("yyyy-MM-dd'T'HH:mm[:ss]XXX", True), ("HH:mm 'Zulu' [ss]", False),
    ("yyyy-MM-dd HH:mm'['VV']'", True), ("HH:mmX[ VV]", True),
])  # fmt: skip
def test_a_pattern_of_times_names_a_zone_or_does_not(
    values: dict[str, Any], pattern: str, says: bool
) -> None:
    values["logs"]["clicks"]["time_pattern"] = pattern
    assert parse(values).logs.clicks.times_say_their_zone is says


def test_a_config_cannot_be_changed(config: Config) -> None:
    with pytest.raises(pydantic.ValidationError):
        config.seed = 3


def test_the_digest_is_that_of_the_values(values: dict[str, Any]) -> None:
    first = parse(values).digest()
    assert parse(values).digest() == first
    values["seed"] += 1
    assert parse(values).digest() != first


def test_the_digest_does_not_depend_on_how_a_value_is_written(values: dict[str, Any]) -> None:
    values["attribution"]["click_window"] = "60m"
    first = parse(values).digest()
    values["attribution"]["click_window"] = "1h"
    assert parse(values).digest() == first


REFUSED = {
    "unknown key": (
        ["training.rank=1"],
        "training.rank: expected a known key (nearest: ranks), found an unknown one",
    ),
    "unknown key of a feature": (
        ["features.price.transfrom=a"],
        "features.price.transfrom: expected a known key (nearest: transform), found an unknown one",
    ),
    "unknown section": (
        ["trainin.x=1"],
        "trainin: expected a known key (nearest: training), found an unknown one",
    ),
    "wrong type": (
        ["training.ranks=two"],
        "training.ranks: expected a valid integer, unable to parse string as an integer, found 'two'",
    ),
    "not positive": (["lists.clicked.length=0"], "lists.clicked.length: expected greater than 0, found 0"),
    "no unit": (
        ["lists.clicked.half_life=3"],
        "lists.clicked.half_life: expected a duration such as 90s, 30m, 12h or 7d, found 3",
    ),
    "negative window": (
        ["attribution.click_window=-1d"],
        "attribution.click_window: expected a duration such as 90s, 30m, 12h or 7d, found '-1d'",
    ),
    "no such time zone": (
        ["time_zone=Mars/Olympus"],
        "time_zone: expected a time zone of the IANA database, such as Europe/Paris, found 'Mars/Olympus'",
    ),
    "an offset that not every row has": (
        ["logs.clicks.time_pattern=yyyy-MM-dd HH:mm:ss[.SSS[XXX]]"],
        "logs.clicks.time_pattern: expected a zone or offset (one of VzOXxZ) that is not optional, in [ ], "
        "found 'yyyy-MM-dd HH:mm:ss[.SSS[XXX]]'",
    ),
    "an offset that not every row has, after what has ended": (
        ["logs.clicks.time_pattern=HH:mm[:ss[.SSS]X]"],
        "logs.clicks.time_pattern: expected a zone or offset (one of VzOXxZ) that is not optional, in [ ], "
        "found 'HH:mm[:ss[.SSS]X]'",
    ),
    "source without a log": (
        ["features.user.source=user_id"],
        "features.user.source: expected LOG.COLUMN with LOG one of exposures, items, users, clock, "
        "found 'user_id'",
    ),
    "embedding that is not there": (
        ["features.user.embedding=usr"],
        "features.user.embedding: expected one of user, item, seller, brand, category, subcategory, context, "
        "found 'usr'",
    ),
    "list of something that is no id of the item": (
        ["lists.clicked.entities=[price]"],
        "lists.clicked.entities: expected id features of the item (item, seller, brand, category, subcategory), "
        "found 'price'",
    ),
    "feature of a log that is not named": (
        ["logs.users=null"],
        "logs.users: expected a log, since features.segment comes from it, found none",
    ),
    "no logs": (
        ["logs=null"],
        "features.user.source: expected samples.FIELD, since there are no logs, found 'exposures.user_id'",
    ),
    "logs without windows": (["attribution=null"], "attribution: expected a value, found none"),
    "bag beside logs": (
        ["bags.seen={source: users.tags, embedding: item, length: 3}"],
        "bags.seen.source: expected samples.FIELD, in a config without logs, found 'users.tags'",
    ),
    "bag without an embedding": (
        ["bags.seen={source: samples.109, embedding: itm, length: 3}"],
        "bags.seen.embedding: expected one of user, item, seller, brand, category, subcategory, context, found 'itm'",
    ),
    "no value": (["samples={}"], "samples.table: expected a value, found none"),
    "override without a value": (["seed"], "--set: expected key=value, found 'seed'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    overrides, message = REFUSED[case]
    with pytest.raises(ConfigError) as caught:
        configs.load(ROOT / "conf/demo.yaml", overrides)
    assert str(caught.value) == message
    assert caught.value.exit_code == 2


def test_a_file_that_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a readable config file"):
        configs.load(tmp_path / "nowhere.yaml")
    for text, expected in (
        ("a: [", "expected YAML"),
        ("- a", "expected a mapping of keys to values, found list"),
    ):
        (tmp_path / "broken.yaml").write_text(text)
        with pytest.raises(ConfigError, match=expected) as caught:
            configs.load(tmp_path / "broken.yaml")
        assert "\n" not in str(caught.value)
