"""The config: everything a run depends on, from a YAML file to frozen, checked values.

    config = load("conf/demo.yaml", overrides=["training.ranks=1", "simulation.users=500"])
    config.training.ranks  # 1

Every key is documented below its field. An unknown key is refused, with the nearest known one named; a
value is checked once, here, so that the rest of the code may rely on it. One config makes the samples'
columns, the model's features and the scorer's signature (`esmm.schema`): they cannot differ.
"""

import datetime as dt
import difflib
import hashlib
import json
import re
import zoneinfo
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
import yaml
from pydantic import BeforeValidator, Field, PlainSerializer
from pydantic_core import PydanticCustomError

from esmm.errors import ConfigError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_NAME = r"^[a-z][a-z0-9_]*$"


def _duration(value: object) -> object:
    """`90s`, `30m`, `12h` or `7d` as a timedelta; anything else is left to pydantic to refuse."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a duration such as 90s, 30m, 12h or 7d")
    return dt.timedelta(**{_UNITS[match[2]]: float(match[1])})


def _positive(value: dt.timedelta) -> dt.timedelta:
    if value <= dt.timedelta(0):
        raise ValueError("a duration above 0")
    return value


def _time_zone(value: object) -> object:
    if value not in zoneinfo.available_timezones():
        raise ValueError("a time zone of the IANA database, such as Europe/Paris")
    return value


def _write_duration(value: dt.timedelta) -> str:
    return f"{value.total_seconds():.15g}s"


Duration = Annotated[dt.timedelta, BeforeValidator(_duration), PlainSerializer(_write_duration)]
PositiveDuration = Annotated[Duration, pydantic.AfterValidator(_positive)]
TimeZone = Annotated[str, BeforeValidator(_time_zone)]
Name = Annotated[str, Field(pattern=_NAME)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(gt=0)]


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, values: object) -> object:
        for key in values if isinstance(values, dict) else ():
            if key not in cls.model_fields:
                nearest = difflib.get_close_matches(str(key), cls.model_fields, n=1, cutoff=0.0)[0]
                raise PydanticCustomError("unknown_key", "", {"key": str(key), "nearest": nearest})
        return values


class Log(_Section):
    """One input: files or a table of the catalog, and which of its columns play which role."""

    path: str | None = None
    """File, directory or glob of files, gzipped or not."""
    table: str | None = None
    """A table of the catalog, in place of a path."""
    format: Literal["parquet", "csv", "json"] = "parquet"
    """How the files are written: Parquet, CSV with a header, or a JSON object a line."""
    types: dict[str, str] = {}
    """Column to Spark type, for CSV and JSON, where a column is otherwise a string."""
    columns: dict[str, str] = {}
    """Role to column: `user_id`, `item_id`, `time`; `event_id` where events carry an id of their own, and
    `exposure_id` where a click or purchase carries that of its exposure. A role that is not named is looked
    for under its own name."""
    time_unit: Literal["timestamp", "seconds", "milliseconds", "text"] = "timestamp"
    """What the time column holds: timestamps, seconds or milliseconds since 1970-01-01 UTC, or text."""
    time_pattern: str = "yyyy-MM-dd HH:mm:ss"
    """How a time in text is written, in Spark's letters."""
    time_zone: TimeZone | None = None
    """The zone of times that do not say it: text without an offset, timestamps without a zone. By default
    the config's."""
    day_column: str | None = None
    """The column that the files or the table are partitioned by: the day a row arrived. Only the days that
    matter are read."""
    lateness: Duration = dt.timedelta(days=1)
    """How much later than its event a row may arrive and still be read, where there is a day_column."""

    @pydantic.model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.table is None):
            raise ValueError("either a path or a table")
        return self

    @property
    def source(self) -> str:
        """Where it is: the path or the table's name."""
        return self.path or self.table or ""


class Logs(_Section):
    """The inputs. Their columns other than the roles' can feed features."""

    exposures: Log
    """What was shown: `event_id`, `user_id`, `item_id`, `time`."""
    clicks: Log
    """What was clicked: `user_id`, `item_id`, `time`."""
    purchases: Log
    """What was bought: `user_id`, `item_id`, `time`."""
    items: Log
    """One row an item: `item_id`."""
    users: Log | None = None
    """One row a user: `user_id`. Needed only by features that come from it."""


class Attribution(_Section):
    """Which event labels which exposure."""

    click_window: Duration
    """A click is credited to the last exposure of its user and item that is at most this much older."""
    purchase_window: Duration
    """A purchase is credited to the last credited click that is at most this much older."""


class Samples(_Section):
    """The table of samples, one row an exposure, one partition a day."""

    table: str
    """The table's directory."""
    rows_per_file: Positive = 65_536
    """Rows of a file, about; a file is one row group."""
    history_cutoff: Literal["exposure", "day_start"] = "exposure"
    """Whether a list runs up to the exposure, or stops at the start of its day as a nightly table's does."""
    events_per_user_and_day: Positive | None = None
    """The most events of a kind that count of one user's day, the earliest; a bot's others are dropped."""
    keep_unclicked: float = Field(default=1.0, gt=0, le=1)
    """Share of the unclicked exposures that is kept, each weighing its inverse. Days that are evaluated
    should be built with all of them: `build_samples --all-exposures`."""


class Embedding(_Section):
    """An embedding table. Every feature and list that names it shares it."""

    rows: Positive
    """Rows of the table; ids are hashed into them."""
    dim: Positive
    """Floats a row."""


class IdFeature(_Section):
    """A categorical feature: an id, embedded."""

    kind: Literal["id"]
    source: str
    """`exposures.COLUMN`, `items.COLUMN`, `users.COLUMN`, `clock.hour` or `clock.weekday`."""
    embedding: Name
    """The table that its ids look up."""
    at_scoring: int | str | None = None
    """The value that scoring uses for a feature of the exposure, which candidates lack."""


class NumberFeature(_Section):
    """A numeric feature: one float, null read as 0."""

    kind: Literal["number"]
    source: str
    """As for an id."""
    transform: Literal["none", "log1p"] = "none"
    """Applied in the graph: the value itself, or sign(x) · log(1 + |x|)."""
    scale: float = Field(default=1.0, gt=0)
    """The transformed value is divided by this."""
    at_scoring: float | None = None
    """As for an id."""


Feature = Annotated[IdFeature | NumberFeature, Field(discriminator="kind")]


class BehaviourList(_Section):
    """A user's last N events of one kind, most recent first, seen through the ids of their items."""

    event: Literal["exposure", "click", "purchase"]
    """The kind of event."""
    length: Positive
    """N: entries of the list; shorter histories are padded with id -1 and weight 0."""
    half_life: PositiveDuration
    """An entry weighs 2^(-age / half_life)."""
    look_back: PositiveDuration
    """Events older than this, seen from the exposure, do not count."""
    entities: tuple[Name, ...] = Field(min_length=1)
    """The item's id features that the list holds; each shares that feature's embedding table."""


class Statistic(_Section):
    """Counts and rates known the day before: of an item, of a user, of a user and a brand.

    Makes a number feature of each of `{name}_exposures_{n}d`, `_clicks_`, `_purchases_` (log(1 + count)), `_ctr_`
    (clicks an exposure) and `_cvr_` (purchases a click), over the n days that end with the day before.
    """

    by: tuple[Name, ...] = Field(min_length=1)
    """Id features of the exposure's user or item: what the statistic is of."""
    days: tuple[Literal[1, 7, 30], ...] = (1, 7, 30)
    """How many days it looks back."""
    strength: float = Field(default=20.0, gt=0)
    """A rate is mixed with that of all, which counts like so many events."""


class Model(_Section):
    """The network."""

    variant: Literal["esmm"] = "esmm"
    """The file in esmm/models."""
    towers: tuple[Positive, ...] = (512, 256, 128)
    """Widths of the hidden layers of each of the two towers."""
    dropout: Probability = 0.0
    """Share of a hidden layer's outputs that a training step sets to 0."""


class Training(_Section):
    """The run that fits the model."""

    ranks: Positive = 1
    """Horovod processes."""
    batch_size: Positive = 4096
    """Samples a rank and step."""
    epochs: Positive = 1
    """Times that every sample is used."""
    learning_rate: float = Field(default=0.05, gt=0)
    """Adagrad's, of the first step."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Whether the rate stays, or falls along half a cosine to 0 at the last step."""
    initial_accumulator: float = Field(default=1e-5, gt=0)
    """What Adagrad's sums of squared gradients start from. A row of a table sees the gradient of a few samples of
    a batch, divided by the whole batch: from 0.1, as libraries have it, it would hardly ever learn."""
    reader_threads: Positive = 2
    """Threads of a rank that decode Parquet."""
    threads: Positive | None = None
    """TensorFlow's threads a rank; by default the machine's cores divided by the ranks."""
    directory: str
    """Where checkpoints and TensorBoard events go."""
    log_every: Positive = 50
    """Steps between two lines of progress."""
    start_timeout: PositiveDuration = dt.timedelta(minutes=5)
    """How long the launcher waits for all ranks to start."""
    nics: tuple[str, ...] = ()
    """Network interfaces that ranks talk over, where hosts have several."""


class Evaluation(_Section):
    """What is measured on held-out days."""

    directory: str
    """Where the metrics (JSON) and the page (HTML) go."""
    truth: str | None = None
    """The simulator's table of true probabilities, where there is one."""


class Scoring(_Section):
    """The nightly scores."""

    candidates: Log
    """Pairs to score: `user_id`, `item_id`."""
    table: str
    """The directory of the table of scores."""
    models: str
    """The directory that holds one directory a model version."""
    batch_size: Positive = 4096
    """Rows that the model scores at a time."""


class Simulation(_Section):
    """The simulated market; `esmm.simulate` has the formulas."""

    directory: str
    """Where the logs go."""
    start: dt.date
    """The first day."""
    days: Positive = 10
    """Days of exposures."""
    users: Positive = 5_000
    """Users."""
    items: Positive = 2_000
    """Items."""
    exposures_per_day: Positive = 40_000
    """Exposures a day, duplicates aside."""
    click_rate: float = Field(default=0.10, gt=0, lt=1)
    """Clicks an exposure, about."""
    purchase_rate: float = Field(default=0.10, gt=0, lt=1)
    """Purchases a click, about."""
    selection: float = Field(default=1.0, ge=0)
    """How strongly the policy prefers what the user likes; 0 shows at random."""
    agreement: float = Field(default=0.6, ge=-1, le=1)
    """Correlation of what a user likes to click and what it likes to buy."""
    confounding: float = Field(default=0.0, ge=-1, le=1)
    """Correlation of click and purchase given the features: what no feature shows moves both."""
    cold_items: Probability = 0.0
    """Share of the items that come onto the market after the first day, each on a day drawn at random."""
    late_purchases: Probability = 0.0
    """Share of the purchases that come after the purchase window, within three times its length."""
    duplicates: Probability = 0.01
    """Share of the logs' rows that are there twice."""
    late_rows: Probability = 0.01
    """Share of the logs' rows that arrive a day late."""
    orphans: Probability = 0.005
    """Clicks that no exposure explains, as a share of the clicks, and purchases likewise."""
    candidates_per_user: Positive = 20
    """Items to score for each user, about."""


class Config(_Section):
    """The whole."""

    name: Name
    """What the runs and reports are called."""
    time_zone: TimeZone = "UTC"
    """Days and hours are those of this zone."""
    seed: int = 1
    """Of everything that is random."""
    logs: Logs
    attribution: Attribution
    samples: Samples
    embeddings: dict[Name, Embedding]
    features: dict[Name, Feature]
    lists: dict[Name, BehaviourList] = {}
    statistics: dict[Name, Statistic] = {}
    model: Model = Model()
    training: Training
    evaluation: Evaluation
    scoring: Scoring
    simulation: Simulation | None = None

    @pydantic.model_validator(mode="after")
    def _check_features(self) -> Self:
        for name, feature in self.features.items():
            where = f"features.{name}"
            log, _, column = feature.source.partition(".")
            known = ("exposures", "items", "users", "clock")
            if log not in known or not column:
                raise ConfigError(f"{where}.source", expected=f"LOG.COLUMN with LOG one of {', '.join(known)}",
                                  found=repr(feature.source))  # fmt: skip
            if log == "clock" and column not in ("hour", "weekday"):
                expected = "clock.hour or clock.weekday"
                raise ConfigError(f"{where}.source", expected=expected, found=feature.source)
            if log == "users" and self.logs.users is None:
                raise ConfigError("logs.users", expected=f"a log, since {where} comes from it", found="none")
            if isinstance(feature, IdFeature) and feature.embedding not in self.embeddings:
                raise ConfigError(f"{where}.embedding", expected=f"one of {', '.join(self.embeddings)}",
                                  found=repr(feature.embedding))  # fmt: skip
        return self

    @pydantic.model_validator(mode="after")
    def _check_references_to_features(self) -> Self:
        of_item = [name for name, feature in self.features.items() if _describes_item(feature)]
        of_pair = [name for name, feature in self.features.items() if _describes_pair(feature)]
        references = [
            *(
                (f"lists.{name}.entities", behaviour.entities, of_item)
                for name, behaviour in self.lists.items()
            ),
            *(
                (f"statistics.{name}.by", statistic.by, of_pair)
                for name, statistic in self.statistics.items()
            ),
        ]
        for where, named, known in references:
            for name in named:
                if name not in known:
                    what = "the item" if known is of_item else "the user's id or the item"
                    raise ConfigError(where, expected=f"id features of {what} ({', '.join(known)})",
                                      found=repr(name))  # fmt: skip
        return self

    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the config's canonical JSON: equal for equal configs alone."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _describes_item(feature: IdFeature | NumberFeature) -> bool:
    return isinstance(feature, IdFeature) and (
        feature.source.startswith("items.") or feature.source == "exposures.item_id"
    )


def _describes_pair(feature: IdFeature | NumberFeature) -> bool:
    return _describes_item(feature) or (
        isinstance(feature, IdFeature) and feature.source == "exposures.user_id"
    )


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a config file and apply `key=value` overrides, keys dotted, values in YAML.

    Raises ConfigError, naming the key, where the file or an override is not a valid config.
    """
    try:
        values = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), expected="a readable config file", found=str(error)) from error
    except yaml.YAMLError as error:
        raise ConfigError(str(path), expected="YAML", found=" ".join(str(error).split())) from error
    if not isinstance(values, dict):
        raise ConfigError(str(path), expected="a mapping of keys to values", found=type(values).__name__)
    for override in overrides:
        _override(values, override)
    return parse(values)


def parse(values: dict[str, Any]) -> Config:
    """The config that nested mappings describe; raises ConfigError naming the first key that is wrong."""
    try:
        return Config.model_validate(values)
    except pydantic.ValidationError as error:
        raise _one_line(error) from None


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError("--set", expected="key=value", found=repr(override))
    *parents, last = key.split(".")
    section: Any = values
    for parent in parents:
        section = section.setdefault(parent, {}) if isinstance(section, dict) else None
    if not isinstance(section, dict):
        raise ConfigError(f"--set {key}", expected="a key inside a mapping", found=repr(override))
    try:
        section[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {key}", expected="a value in YAML", found=repr(text)) from None


def _one_line(error: pydantic.ValidationError) -> ConfigError:
    """The first of pydantic's complaints in this project's words."""
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    if location[:1] == ["features"] and len(location) > 2:
        del location[2]  # the union's tag, which pydantic puts there and the file does not
    where = ".".join(location)
    if first["type"] == "unknown_key":
        where = ".".join([*location, first["ctx"]["key"]])
        return ConfigError(
            where, expected=f"a known key (nearest: {first['ctx']['nearest']})", found="an unknown one"
        )
    if first["type"] == "missing":
        return ConfigError(where, expected="a value", found="none")
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return ConfigError(where or "config", expected=message, found=repr(first["input"]))
