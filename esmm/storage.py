"""Storages: whatever fsspec opens, with the config's options, and without telling what opens them.

    configure({"s3": {"endpoint_url": "http://127.0.0.1:9000"}})     # once a process, from the config's `storage`
    fs, path = at("s3://shop/samples")                               # "shop/samples" on that server
    fs, path = at("build/demo/samples")                              # local disk
    options = handed_over(config.storage)                            # for a process elsewhere to `configure`

Options are fsspec's own, by protocol, and those of its environment (`FSSPEC_S3_KEY=…`) count besides; storages also
know their own ways (`AWS_PROFILE`, a role of the machine). What is given here is in no log, manifest or message:
options leave this module for ranks and workers alone, and an address that holds a password is refused.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem

from esmm.errors import ConfigError, DataError, JobError, StorageError

Options = Mapping[str, Mapping[str, Any]]
"""By protocol, such as `s3`."""

_opened: dict[tuple[int, str, str], fsspec.AbstractFileSystem] = {}
"""By process, protocol and what an address says of its server. fsspec keeps one of its own for each thread that ever
asked, and threads of readers come and go with every epoch."""


def configure(options: Options) -> None:
    """Use options, by protocol, for all that this process opens from now on."""
    fsspec.config.conf.update(handed_over(options))
    if options:
        _opened.clear()


def handed_over(options: Options) -> dict[str, dict[str, Any]]:
    """The options, and those that this process has of its environment besides: another one may have no such.

    They hold secrets: to be sent over encrypted connections alone, and neither logged nor put on a command line.
    """
    held: Options = fsspec.config.conf
    return {
        protocol: {**held.get(protocol, {}), **options.get(protocol, {})} for protocol in {**held, **options}
    }


def at(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The storage of an address, and the path that it has there.

    Raises ConfigError where fsspec knows no such storage, its package is missing or refuses the options, or
    the address holds a password.
    """
    for part in url.split("::"):  # of a chain, each
        server = urlsplit(part).netloc if "://" in part else ""
        if ":" not in server.rpartition("@")[0]:
            continue
        raise ConfigError(url.replace(server, server.rpartition("@")[2]), found="one in the address",
                          expected="passwords in the config's `storage` or the environment")  # fmt: skip
    try:
        return _open(url)
    except (ImportError, TypeError, ValueError) as error:
        # No message of a constructor's: it may quote its arguments.
        found = str(error) if isinstance(error, ImportError) else f"{type(error).__name__} when opened"
        raise ConfigError(url, expected="a storage that fsspec opens", found=found) from None


def address(path: str, like: str) -> str:
    """The full address of a path as a storage tells it, from an address on the same storage.

    fsspec's own leaves out the server, so that another one would be asked, such as the default one of Hadoop's config.
    """
    fs, _ = at(like)
    plain = str(fs.unstrip_protocol(path))
    kind = fsspec.get_filesystem_class(plain.partition("://")[0])
    # Of a chain the last: what is behind a cache.
    protocol, _, rest = like.rpartition("::")[2].partition("://")
    server = f"{protocol}://{rest.partition('/')[0]}"
    if not kind._get_kwargs_from_urls(server):
        return plain
    below = path.removeprefix(kind._strip_protocol(server))  # a server may be a part of its paths
    return f"{server}/{below.lstrip('/')}"


def is_local(fs: fsspec.AbstractFileSystem) -> bool:
    """Whether paths of a storage are paths of this machine's files."""
    return isinstance(fs, LocalFileSystem)


@contextmanager
def explained(url: str, what: str) -> Iterator[None]:
    """Turn what goes wrong in the block with `what`, at some address, into a DataError that names it.

    It is a StorageError where another try may succeed. Storages raise their own packages' exceptions beside OSError.
    Python's others are bugs, and stay as they are.
    """
    try:
        yield
    except JobError:
        raise
    except FileNotFoundError:
        raise DataError(url, expected=what, found="no file") from None
    except Exception as error:
        if not isinstance(error, OSError | UnicodeError) and type(error).__module__ == "builtins":
            raise
        found = " ".join(str(error).split()) or type(error).__name__
        article, _, name = what.partition(" ")
        kind = StorageError if _may_pass(error) else DataError
        raise kind(url, expected=f"{article} readable {name}", found=found) from error


def _may_pass(error: Exception) -> bool:
    """Whether an error is the storage's failure, such as a connection that broke, and no fault of the content."""
    if isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError | UnicodeError):
        return False
    if isinstance(error, OSError):
        # Arrow says of a damaged file, too, that it is an OSError, but a plain one without a number.
        return error.errno is not None or type(error) is not OSError
    return not type(error).__module__.startswith("pyarrow")


def _open(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    if "::" in url:  # a chain, such as simplecache::s3://…
        chained: tuple[fsspec.AbstractFileSystem, str] = fsspec.core.url_to_fs(url)
        return chained
    protocol = url.partition("://")[0] if "://" in url else "file"
    kind = fsspec.get_filesystem_class(protocol)
    server = kind._get_kwargs_from_urls(url)
    key = (os.getpid(), protocol, json.dumps(server, sort_keys=True, default=str))
    if key not in _opened:
        _opened[key] = fsspec.filesystem(protocol, **server)
    return _opened[key], kind._strip_protocol(url)
