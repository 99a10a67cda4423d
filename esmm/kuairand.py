"""KuaiRand's CSV files, as their authors publish them, to the logs that the pipeline takes.

    counts = import_logs(config, Path("KuaiRand-Pure/data"))       # {"exposures": 94_784, "clicks": 41_503, …}
    days(Path("KuaiRand-Pure/data"))                               # [date(2022, 4, 25), …, date(2022, 4, 30)]

    log_standard*.csv[.gz]            an impression of a video   ─▶ logs.exposures, logs.clicks, logs.purchases
    video_features_basic*.csv[.gz]    a video                    ─▶ logs.items
    user_features*.csv[.gz]           a user                     ─▶ logs.users

As a funnel (Gao et al., CIKM 2022, doi:10.1145/3511808.3557624): an impression is an exposure; `is_click`, a
valid play, is the click; a like, follow, comment, forward or visit to the author's profile stands for the
purchase. Only the impression's time is logged. A click is taken to come when the play became valid, after 7 s
or at the end of a shorter one; an engagement at the play's end.

An event's id is USER-VIDEO-TIME_MS. Rows of one id are one impression: nobody is shown a video twice in a
millisecond, and such rows differ in nothing, or in the hour (`hourmin`) that they were filed under. They are
all imported; the pipeline removes and counts the duplicates, and an impression is clicked if any of its rows
says so. An engagement without a click is imported too, as the orphan that it is.

Files are read and written in batches: what is in memory does not grow with them.
"""

import datetime as dt
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from esmm.config import Config, required
from esmm.directories import replaced
from esmm.errors import ConfigError, DataError

STANDARD_LOGS = "log_standard*"
"""Impressions that the app's own policy chose; log_random* holds videos that were shown at random."""

VALID_PLAY_MS = 7_000
ENGAGEMENTS = ("is_like", "is_follow", "is_comment", "is_forward", "is_profile_enter")

_EVENTS = ("exposures", "clicks", "purchases")
_LOG_COLUMNS = dict.fromkeys(
    ("user_id", "video_id", "time_ms", "play_time_ms", "tab", "is_click", *ENGAGEMENTS), pa.int64()
)
_VIDEO_COLUMNS = {
    "video_id": pa.int64(),
    "author_id": pa.int64(),
    "music_id": pa.int64(),
    "tag": pa.string(),
    "video_type": pa.string(),
    "upload_type": pa.string(),
    "video_duration": pa.float64(),
}
_COUNTS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
_USER_COLUMNS = {
    "user_id": pa.int64(),
    **dict.fromkeys(
        (
            "user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author",
            *_COUNTS, *(f"{count}_range" for count in _COUNTS), *(f"onehot_feat{n}" for n in range(18)),
        ),
        pa.string(),
    ),
}  # fmt: skip


def import_logs(config: Config, folder: Path, logs: str = STANDARD_LOGS) -> dict[str, int]:
    """Replace the config's five logs by those in the folder; the rows of each.

    `logs` is the pattern of the log files' names, without .csv or .csv.gz. Raises DataError where a file or a
    column is missing or a file cannot be read, ConfigError where a log of the config is no directory to
    write to. Then nothing is replaced.
    """
    log_files = _files(folder, logs)
    video_files, user_files = _files(folder, "video_features_basic*"), _files(folder, "user_features*")
    counts: dict[str, int] = {}
    with ExitStack() as stack:
        directories = {
            name: stack.enter_context(replaced(path)) for name, path in _destinations(config).items()
        }
        for number, file in enumerate(log_files):
            _write(directories, number, map(events, _batches(file, _LOG_COLUMNS)), counts)
        for number, file in enumerate(video_files):
            _write(
                directories, number, ({"items": videos(b)} for b in _batches(file, _VIDEO_COLUMNS)), counts
            )
        for number, file in enumerate(user_files):
            _write(directories, number, ({"users": b} for b in _batches(file, _USER_COLUMNS)), counts)
        empty = [name for name in directories if name not in counts]
        if empty:
            raise DataError(str(folder), expected=f"rows to make {', '.join(empty)} of", found="only headers")
    return counts


def days(folder: Path, logs: str = STANDARD_LOGS) -> list[dt.date]:
    """The days that the rows of the log files are filed under (`date`), in order.

    A few of a day's rows are of the hour before it began: by their times there would be one day more. Raises
    DataError as `import_logs` does.
    """
    found: set[dt.date] = set()
    for file in _files(folder, logs):
        for rows in _batches(file, {"date": pa.int64()}):
            for value in pc.unique(rows["date"]).to_pylist():
                try:
                    found.add(dt.date.fromisoformat(str(value)))
                except ValueError:
                    raise DataError(
                        str(file), expected="days as YYYYMMDD in date", found=str(value)
                    ) from None
    return sorted(found)


def events(rows: pa.Table) -> dict[str, pa.Table]:
    """Rows of a log as exposures, clicks and purchases: times are timestamps in UTC, of microseconds."""
    user, video, time = rows["user_id"], rows["video_id"], rows["time_ms"]
    played = pc.max_element_wise(rows["play_time_ms"], 0)
    ids = pc.binary_join_element_wise(*(column.cast(pa.string()) for column in (user, video, time)), "-")
    clicked_at = pc.add(time, pc.min_element_wise(played, VALID_PLAY_MS))
    is_engaged = pc.greater(pc.max_element_wise(*(rows[name] for name in ENGAGEMENTS)), 0)

    def log(id_name: str, time_name: str, time_ms: pa.ChunkedArray) -> pa.Table:
        at = time_ms.cast(pa.timestamp("ms", tz="UTC")).cast(pa.timestamp("us", tz="UTC"))
        return pa.table({id_name: ids, "user_id": user, "item_id": video, time_name: at})

    return {
        "exposures": log("exposure_id", "shown_at", time).append_column("tab", rows["tab"]),
        "clicks": log("click_id", "clicked_at", clicked_at).filter(pc.greater(rows["is_click"], 0)),
        "purchases": log("purchase_id", "bought_at", pc.add(time, played)).filter(is_engaged),
    }


def videos(rows: pa.Table) -> pa.Table:
    """Videos as items: `tag` is the first of a video's tags, null where it has none; durations in ms."""
    first_tag = pc.struct_field(pc.extract_regex(rows["tag"], r"^(?P<first>\d+)"), "first")
    columns = {name: rows[name] for name in ("author_id", "music_id", "video_type", "upload_type")}
    return pa.table(
        {
            "item_id": rows["video_id"],
            **columns,
            "tag": first_tag.cast(pa.int64()),
            "duration_ms": rows["video_duration"],
        }
    )


def _destinations(config: Config) -> dict[str, str]:
    """The config's logs and the directories that they are in."""
    of_config = required(config.logs, "logs")
    logs = {name: getattr(of_config, name) for name in (*_EVENTS, "items", "users")}
    for name, log in logs.items():
        if log is None or log.path is None or re.search(r"[*?\[]|://", log.path):
            found = "none" if log is None else log.source
            raise ConfigError(f"logs.{name}.path", expected="a directory to import into", found=found)
    return {name: log.source for name, log in logs.items()}


def _files(folder: Path, pattern: str) -> list[Path]:
    """The CSV files of a kind, in order; raises DataError where there are none."""
    files = sorted(path for end in (".csv", ".csv.gz") for path in folder.glob(pattern + end))
    if not files:
        found = "no such folder" if not folder.is_dir() else "none"
        raise DataError(str(folder), expected=f"files {pattern}.csv or {pattern}.csv.gz", found=found)
    return files


def _batches(file: Path, columns: dict[str, pa.DataType]) -> Iterator[pa.Table]:
    """The rows of a CSV file, a batch at a time, of these columns and types; raises DataError."""
    try:
        names = csv.open_csv(file).schema.names
        missing = [name for name in columns if name not in names]
        if missing:
            raise DataError(
                str(file), expected=f"a column '{missing[0]}'", found=f"columns {', '.join(names)}"
            )
        options = csv.ConvertOptions(
            include_columns=list(columns), column_types=columns, strings_can_be_null=True
        )
        for batch in csv.open_csv(file, convert_options=options):
            yield pa.Table.from_batches([batch])
    except (pa.ArrowInvalid, OSError) as error:
        found = " ".join(str(error).split())
        raise DataError(str(file), expected="a CSV file in KuaiRand's format", found=found) from error


def _write(
    directories: dict[str, Path], number: int, batches: Iterable[dict[str, pa.Table]], counts: dict[str, int]
) -> None:
    """Write what comes of one file, one Parquet file a log, and add up the rows."""
    with ExitStack() as stack:
        writers: dict[str, pq.ParquetWriter] = {}
        for tables in batches:
            for name, table in tables.items():
                if name not in writers:
                    path = directories[name] / f"part-{number}.parquet"
                    writers[name] = stack.enter_context(pq.ParquetWriter(path, table.schema))
                writers[name].write_table(table)
                counts[name] = counts.get(name, 0) + table.num_rows
