"""What Typer refuses of a command line, in one line of this project's words.

explained(error, ["--from", "yesterday"])     # --from: expected YYYY-MM-DD, found 'yesterday'
"""

import itertools
import re
from collections.abc import Sequence

import typer

from esmm.errors import ConfigError

_LETTERS = {"%Y": "YYYY", "%m": "MM", "%d": "DD", "%H": "hh", "%M": "mm", "%S": "ss"}


def explained(error: typer.TyperException, given: Sequence[str]) -> ConfigError:
    """The error to end a job with whose command line, `given`, was refused."""
    said = str(getattr(error, "message", ""))
    parameter, option = getattr(error, "param", None), getattr(error, "option_name", None)
    if isinstance(error, typer.BadParameter) and parameter is not None:
        name = parameter.opts[0]
        if not said:
            return ConfigError(name, expected="a value", found="none")
        return ConfigError(name, expected=_wanted(said), found=repr(_value(name, given)))
    if option is None:
        return ConfigError(
            "command line", expected="options alone", found=said.rpartition("(")[2].rstrip(")")
        )
    if "requires" in said:
        return ConfigError(option, expected="a value", found="none")
    near = ", ".join(sorted(getattr(error, "possibilities", None) or []))
    expected = f"an option of this job{f' (nearest: {near})' if near else ''}"
    return ConfigError(option, expected=expected, found="an unknown one")


def _wanted(said: str) -> str:
    """What a value should have been: `Value error, 'x' does not match the formats '%Y-%m-%d'.` is YYYY-MM-DD."""
    formats = re.search(r"does not match the formats? (.+?)\.?$", said)
    if formats is None:
        return said.removeprefix("Value error, ").removeprefix("Input should be ")
    return re.sub("%[a-zA-Z]", lambda code: _LETTERS.get(code[0], code[0]), formats[1].replace("'", ""))


def _value(option: str, given: Sequence[str]) -> str:
    """The last value that the command line gave an option."""
    values = [after for before, after in itertools.pairwise(given) if before == option]
    values += [argument.partition("=")[2] for argument in given if argument.startswith(f"{option}=")]
    return values[-1] if values else ""
