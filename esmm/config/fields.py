"""What every section of the config is made of: strict sections, durations, names."""

import datetime as dt
import difflib
import re
import zoneinfo
from typing import Annotated, Any, TypeVar

import pydantic
from pydantic import BeforeValidator, Field, PlainSerializer
from pydantic_core import PydanticCustomError

from esmm.errors import ConfigError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_NAME = r"^[a-z][a-z0-9_]*$"
_TABLE_NAME = r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$"


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
TableName = Annotated[str, Field(pattern=_TABLE_NAME)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(gt=0)]
StorageOptions = dict[str, dict[str, Any]]

Value = TypeVar("Value")


def required(value: Value | None, where: str) -> Value:
    """A value that not every config has, where a job cannot do without it; raises ConfigError where there is none."""
    if value is None:
        raise ConfigError(where, expected="a value", found="none")
    return value


class Section(pydantic.BaseModel):
    """A part of the config: frozen, its keys known, each field documented below itself."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, values: object) -> object:
        for key in values if isinstance(values, dict) else ():
            if key not in cls.model_fields:
                nearest = difflib.get_close_matches(str(key), cls.model_fields, n=1, cutoff=0.0)[0]
                raise PydanticCustomError("unknown_key", "", {"key": str(key), "nearest": nearest})
        return values
