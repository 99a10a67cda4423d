"""The config: everything a run depends on, from a YAML file to frozen, checked values.

    config = load("conf/demo.yaml", overrides=["training.ranks=1", "simulation.users=500"])
    config.training.ranks  # 1

Every key is documented below its field. An unknown key is refused, with the nearest known one named; a
value is checked once, here, so that the rest of the code may rely on it. One config makes the samples'
columns, the model's features and the scorer's signature (`esmm.schema`): they cannot differ.
"""

import datetime as dt
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pydantic
import yaml
from pydantic import Field

from esmm.config import embedded
from esmm.config.features import (
    Bag,
    BehaviourList,
    BucketFeature,
    CrossFeature,
    Embedding,
    Feature,
    IdFeature,
    NumberFeature,
    SourcedFeature,
    Statistic,
    Vocabulary,
)
from esmm.config.fields import Duration, Name, Section, StorageOptions, TimeZone, required
from esmm.config.gates import Gates
from esmm.config.logs import Attribution, Log, Logs, Samples
from esmm.config.model import Evaluation, Items, Model, Scoring
from esmm.config.simulation import Simulation
from esmm.config.training import Checkpoints, EarlyStopping, Failure, Optimizer, Training
from esmm.errors import ConfigError

__all__ = [
    "Attribution", "Bag", "BehaviourList", "BucketFeature", "Checkpoints", "Config", "CrossFeature", "EarlyStopping",
    "Embedding", "Evaluation", "Failure", "Feature", "Gates", "IdFeature", "Items", "Log", "Logs", "Model",
    "NumberFeature", "Optimizer", "Samples", "Scoring", "Simulation", "SourcedFeature", "Statistic", "Training",
    "Vocabulary", "load", "parse", "required",
]  # fmt: skip


class Config(Section):
    """The whole."""

    name: Name
    """What the runs and reports are called."""
    time_zone: TimeZone = "UTC"
    """Days and hours are those of this zone."""
    seed: int = 1
    """Of everything that is random."""
    retention: Duration = dt.timedelta(days=7)
    """How long what was replaced in a table stays, for those who read it, before `jobs/vacuum.py` removes it."""
    storage: StorageOptions = Field(default={}, exclude=True, repr=False)
    """Options of fsspec's storages by protocol, such as `s3: {endpoint_url: …, key: …, secret: …}`, besides its
    environment (FSSPEC_S3_KEY=…) and what storages find themselves. Part of no digest, manifest or message."""
    logs: Logs | None = None
    """What samples are built from. None where they are imported as they are: then all sources are `samples.FIELD`."""
    attribution: Attribution | None = None
    """Needed where there are logs."""
    samples: Samples
    embeddings: dict[Name, Embedding]
    features: dict[Name, Feature]
    lists: dict[Name, BehaviourList] = {}
    bags: dict[Name, Bag] = {}
    statistics: dict[Name, Statistic] = {}
    model: Model = Model()
    training: Training
    evaluation: Evaluation
    scoring: Scoring
    simulation: Simulation | None = None

    @pydantic.model_validator(mode="after")
    def _check_features(self) -> Self:
        for name, feature in self.features.items():
            if isinstance(feature, CrossFeature):
                continue
            where, log, column = f"features.{name}", feature.log, feature.column
            known = ("samples",) if self.logs is None else ("exposures", "items", "users", "clock")
            if log not in known or not column:
                of_logs = f"LOG.COLUMN with LOG one of {', '.join(known)}"
                expected = "samples.FIELD, since there are no logs" if self.logs is None else of_logs
                raise ConfigError(f"{where}.source", expected=expected, found=repr(feature.source))
            if log == "clock" and column not in ("hour", "weekday"):
                expected = "clock.hour or clock.weekday"
                raise ConfigError(f"{where}.source", expected=expected, found=feature.source)
            if log == "users" and required(self.logs, "logs").users is None:
                raise ConfigError("logs.users", expected=f"a log, since {where} comes from it", found="none")
        embedded.check(self.features, self.bags, self.embeddings)
        return self

    @pydantic.model_validator(mode="after")
    def _check_attribution_and_bags(self) -> Self:
        if self.logs is not None:
            required(self.attribution, "attribution")
        for name, bag in self.bags.items():
            if self.logs is not None or bag.log != "samples":
                expected = "samples.FIELD, in a config without logs"
                raise ConfigError(f"bags.{name}.source", expected=expected, found=repr(bag.source))
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
        for name, behaviour in self.lists.items():
            for entity in behaviour.boost:
                if entity not in behaviour.entities:
                    expected = f"entities of the list ({', '.join(behaviour.entities)})"
                    raise ConfigError(f"lists.{name}.boost", expected=expected, found=repr(entity))
        return self

    @pydantic.model_validator(mode="after")
    def _check_items(self) -> Self:
        of_items = [
            name
            for name, feature in self.features.items()
            if isinstance(feature, IdFeature) and feature.log == "items"
        ]
        chosen = self.scoring.items
        if chosen is not None and chosen.feature not in of_items:
            expected = f"an id feature of items ({', '.join(of_items)})"
            raise ConfigError("scoring.items.feature", expected=expected, found=repr(chosen.feature))
        return self

    @pydantic.model_validator(mode="after")
    def _check_segments(self) -> Self:
        known = [name for name, feature in self.features.items() if isinstance(feature, IdFeature)]
        known += self.lists
        named = self.evaluation.segments
        for name in named:
            if name not in known or named.count(name) > 1:
                expected = f"id features and lists ({', '.join(known)}), each once"
                raise ConfigError("evaluation.segments", expected=expected, found=repr(name))
        return self

    @property
    def uses_catalog(self) -> bool:
        """Whether one of the tables is published in a metastore."""
        return self.samples.catalog is not None or self.scoring.catalog is not None

    @property
    def reads_catalog(self) -> bool:
        """Whether one of the inputs is a table of a metastore."""
        logs = [] if self.logs is None else [log for _, log in self.logs]
        inputs = [*logs, self.scoring.candidates, self.scoring.users]
        return any(log is not None and log.table is not None for log in inputs)

    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the config's canonical JSON: equal for equal configs alone."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _describes_item(feature: Feature) -> bool:
    return isinstance(feature, IdFeature) and (
        feature.log == "items" or feature.source == "exposures.item_id"
    )


def _describes_pair(feature: Feature) -> bool:
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
        raise ConfigError(str(path), expected="YAML", found=_place(error)) from None
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
        raise ConfigError("--set", expected="key=value", found=_shown(key, override))
    *parents, last = key.split(".")
    section: Any = values
    for parent in parents:
        section = section.setdefault(parent, {}) if isinstance(section, dict) else None
    if not isinstance(section, dict):
        raise ConfigError(f"--set {key}", expected="a key inside a mapping", found=_shown(key, override))
    try:
        section[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {key}", expected="a value in YAML", found=_shown(key, text)) from None


def _shown(key: str, value: object) -> str:
    """A value in an error: what opens a storage is in none."""
    return f"a {type(value).__name__}" if key.partition(".")[0] == "storage" else repr(value)


def _place(error: yaml.YAMLError) -> str:
    """What is wrong and in which line; YAML's own message quotes the line, which may hold a password."""
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or "something else"
    return what if mark is None else f"{what} in line {mark.line + 1}, column {mark.column + 1}"


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
    return ConfigError(where or "config", expected=message, found=_shown(where, first["input"]))
