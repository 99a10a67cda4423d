"""A storage as HDFS is through Arrow or over HTTP, in memory; `hadoop://` where this module is imported."""

from collections.abc import Callable
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.utils import infer_storage_options


class Hadoop(MemoryFileSystem):
    """Shows a file before anything is in it, and renames none to a name that is taken."""

    protocol = "hadoop"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    after: ClassVar[Callable[[], None] | None] = None
    """Called after each step that others can see."""

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + str(infer_storage_options(path)["path"]).strip("/")

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        super().pipe_file(path, b"", mode=mode, **options)
        self._seen()
        super().pipe_file(path, value, **options)
        self._seen()

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        if self.exists(path2):
            raise OSError(5, "HDFS rename failed")
        self.store[path2] = self.store.pop(path1)
        self._seen()

    def rm_file(self, path: str) -> None:
        super().rm_file(path)
        self._seen()

    def _seen(self) -> None:
        if Hadoop.after is not None:
            Hadoop.after()


fsspec.register_implementation("hadoop", Hadoop, clobber=True)
