"""KuaiRand's files to logs: a few hand-written rows in the official format, and the real ones where they are."""

import datetime as dt
import gzip
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from esmm import cli
from esmm import config as configs
from esmm.errors import ConfigError, DataError
from esmm.kuairand import days, import_logs
from jobs import import_kuairand

ROOT = Path(__file__).resolve().parent.parent
REAL = Path(os.environ.get("ESMM_KUAIRAND", ROOT.parent / "shared/data/kuairand"))

LOG = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)
FIRST_LOG = f"""{LOG}
3,20,20220425,800,1650844802500,1,0,1,0,0,0,1,61802,49866,0,0,0,0,1
4,21,20220425,0,1650812934945,0,0,0,0,0,0,0,1184,11933,0,0,0,0,1
4,21,20220425,0,1650812934945,0,0,0,0,0,0,0,1184,11933,0,0,0,0,1
3,21,20220425,2200,1650900000000,0,0,0,0,0,0,0,900,11933,0,0,0,0,6
3,21,20220425,2300,1650900000000,1,0,0,0,0,0,0,7100,11933,0,0,0,0,6
"""
SECOND_LOG = f"""{LOG}
5,22,20220426,700,1650930000000,0,0,0,0,0,0,0,0,9000,0,0,1,0,0
5,20,20220426,700,1650930500001,1,1,0,1,0,0,0,5001,9000,0,0,1,0,0
"""
VIDEOS = """video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,\
server_height,music_id,music_type,tag
20,7349781,NORMAL,2022-04-10,LongImport,0.0,87433.0,720.0,1280.0,9155697141,9.0,"39,68"
21,2103883,AD,2022-04-10,Kmovie,0.0,,720.0,1280.0,6355810746,,2
22,5067285,NORMAL,2022-04-09,ShortImport,0.0,9233.0,720.0,1280.0,6618412736,4.0,
"""
USERS = """user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,follow_user_num,\
follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,friend_user_num_range,register_days,\
register_days_range,onehot_feat0,onehot_feat1,onehot_feat2,onehot_feat3,onehot_feat4,onehot_feat5,onehot_feat6,\
onehot_feat7,onehot_feat8,onehot_feat9,onehot_feat10,onehot_feat11,onehot_feat12,onehot_feat13,onehot_feat14,\
onehot_feat15,onehot_feat16,onehot_feat17
3,full_active,0,-124,1,457,"(250,500]",20,"[10,100)",3,"[1,5)",1474,730+,1,3,2,1160,,0,0,31,283,6,2,2,1.0,,,,,
4,UNKNOWN,0,1,0,8,"(0,10]",26,"[10,100)",3,"[1,5)",231,181-365,1,0,2,1176,2.0,0,0,31,275,5,2,2,0.0,0.0,0.0,1.0,0.0,0.0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two log files, one of them gzipped, and whatever else the set comes with."""
    data = tmp_path / "KuaiRand/data"
    data.mkdir(parents=True)
    (data / "log_standard_4_08_to_4_21_pure.csv").write_text(FIRST_LOG)
    (data / "log_standard_4_22_to_5_08_pure.csv.gz").write_bytes(gzip.compress(SECOND_LOG.encode()))
    random_log = f"{LOG}\n3,22,20220426,700,1650930000007,0,0,0,0,0,0,0,0,9000,0,0,0,1,0\n"
    (data / "log_random_4_22_to_5_08_pure.csv").write_text(random_log)
    (data / "video_features_basic_pure.csv").write_text(VIDEOS)
    (data / "video_features_statistic_pure.csv").write_text("video_id,counts\n20,1\n")
    (data / "user_features_pure.csv.gz").write_bytes(gzip.compress(USERS.encode()))
    return data


@pytest.fixture
def kuairand(tmp_path: Path) -> configs.Config:
    """conf/kuairand.yaml, its paths under the test's own directory."""
    text = (ROOT / "conf/kuairand.yaml").read_text().replace("build/kuairand", str(tmp_path / "build"))
    file = tmp_path / "kuairand.yaml"
    file.write_text(text)
    return configs.load(file)


def rows(config: configs.Config, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(getattr(config.logs, name).path).to_pylist()
    return found


def times(config: configs.Config, name: str) -> list[tuple[Any, ...]]:
    """Event id, user, item and milliseconds since 1970 of a log's rows."""
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    values = [list(row.values())[:4] for row in rows(config, name)]
    return [(*ids, (time - epoch) // dt.timedelta(milliseconds=1)) for *ids, time in values]


def test_impressions_become_a_funnel(folder: Path, kuairand: configs.Config) -> None:
    counts = import_logs(kuairand, folder)
    assert counts == {"exposures": 7, "clicks": 3, "purchases": 3, "items": 3, "users": 2}
    assert times(kuairand, "exposures") == [
        ("3-20-1650844802500", 3, 20, 1650844802500),
        ("4-21-1650812934945", 4, 21, 1650812934945),
        ("4-21-1650812934945", 4, 21, 1650812934945),  # a row that is there twice
        ("3-21-1650900000000", 3, 21, 1650900000000),
        ("3-21-1650900000000", 3, 21, 1650900000000),  # one impression, filed under two hours
        ("5-22-1650930000000", 5, 22, 1650930000000),
        ("5-20-1650930500001", 5, 20, 1650930500001),
    ]
    assert times(kuairand, "clicks") == [
        ("3-20-1650844802500", 3, 20, 1650844809500),  # after 7 of 61.8 seconds
        ("3-21-1650900000000", 3, 21, 1650900007000),
        ("5-20-1650930500001", 5, 20, 1650930505002),  # a play of 5.001 seconds
    ]
    assert times(kuairand, "purchases") == [
        ("3-20-1650844802500", 3, 20, 1650844864302),  # at the play's end
        ("5-22-1650930000000", 5, 22, 1650930000000),  # without a click: an orphan
        ("5-20-1650930500001", 5, 20, 1650930505002),
    ]
    assert [row["tab"] for row in rows(kuairand, "exposures")] == [1, 1, 1, 6, 6, 0, 0]


def test_videos_and_users_keep_their_nulls(folder: Path, kuairand: configs.Config) -> None:
    import_logs(kuairand, folder)
    videos, users = rows(kuairand, "items"), rows(kuairand, "users")
    assert videos[0] == {
        "item_id": 20, "author_id": 7349781, "music_id": 9155697141, "video_type": "NORMAL",
        "upload_type": "LongImport", "tag": 39, "duration_ms": 87433.0,
    }  # fmt: skip
    assert [video["tag"] for video in videos] == [39, 2, None]
    assert [video["duration_ms"] for video in videos] == [87433.0, None, 9233.0]
    first, second = users
    assert (first["user_id"], first["is_live_streamer"], first["follow_user_num_range"]) == (
        3,
        "-124",
        "(250,500]",
    )
    assert (first["onehot_feat4"], first["onehot_feat12"], first["onehot_feat17"]) == (None, "1.0", None)
    assert (second["user_active_degree"], second["register_days"]) == ("UNKNOWN", "231")


def test_every_feature_of_the_config_is_a_column(folder: Path, kuairand: configs.Config) -> None:
    import_logs(kuairand, folder)
    for feature in kuairand.features.values():
        log, _, column = feature.source.partition(".")
        assert log == "clock" or column in rows(kuairand, log)[0]


def test_the_random_log_comes_when_it_is_asked_for(
    folder: Path, tmp_path: Path, kuairand: configs.Config
) -> None:
    arguments = ["--config", str(tmp_path / "kuairand.yaml"), "--data", str(folder), "--logs", "log_*"]
    result = CliRunner().invoke(cli.job(import_kuairand.main), arguments)
    assert result.exit_code == 0
    assert "exposures=8" in result.stderr
    assert ("3-22-1650930000007", 3, 22, 1650930000007) in times(kuairand, "exposures")


@pytest.mark.usefixtures("kuairand")
def test_the_days_are_those_that_rows_are_filed_under(folder: Path, tmp_path: Path) -> None:
    """The second row of the first log is of 23:08 on the 24th in Shanghai, and filed under the 25th."""
    (folder / "log_standard_0.csv").write_text(
        f"{LOG}\n3,20,20220423,0,1650700000000,0,0,0,0,0,0,0,0,9000,0,0,0,0,1\n"
    )
    file = tmp_path / "days"
    config = str(tmp_path / "kuairand.yaml")
    arguments = ["--config", config, "--data", str(folder), "--days", str(file)]
    assert CliRunner().invoke(cli.job(import_kuairand.main), arguments).exit_code == 0
    assert file.read_text() == "2022-04-23\n2022-04-25\n2022-04-26\n"
    (folder / "log_standard_0.csv").write_text(
        f"{LOG}\n3,20,20220431,0,1650700000000,0,0,0,0,0,0,0,0,9000,0,0,0,0,1\n"
    )
    with pytest.raises(
        DataError, match=r"log_standard_0\.csv: expected days as YYYYMMDD in date, found 20220431"
    ):
        days(folder)


@pytest.mark.parametrize("kind", ["log_standard", "video_features_basic", "user_features"])
def test_a_missing_file_is_named(folder: Path, kuairand: configs.Config, kind: str) -> None:
    for file in folder.glob(f"{kind}*"):
        file.unlink()
    with pytest.raises(DataError, match=rf"data: expected files {kind}\*\.csv or .*, found none"):
        import_logs(kuairand, folder)
    with pytest.raises(DataError, match=r"nowhere: .* found no such folder"):
        import_logs(kuairand, folder / "nowhere")


@pytest.mark.parametrize(
    ("file", "column"),
    [
        ("log_standard_4_08_to_4_21_pure.csv", "is_profile_enter"),
        ("video_features_basic_pure.csv", "author_id"),
        ("video_features_basic_pure.csv", "tag"),
    ],
)
def test_a_missing_column_is_named_and_nothing_is_replaced(
    folder: Path, kuairand: configs.Config, file: str, column: str
) -> None:
    import_logs(kuairand, folder)
    before = times(kuairand, "exposures")
    (folder / file).write_text((folder / file).read_text().replace(column, "another"))
    with pytest.raises(DataError, match=rf"{file}: expected a column '{column}', found columns .*another"):
        import_logs(kuairand, folder)
    assert times(kuairand, "exposures") == before
    directory = Path(kuairand.logs.exposures.path).parent
    assert sorted(path.name for path in directory.iterdir()) == [
        "clicks", "exposures", "items", "purchases", "users",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", FIRST_LOG.replace("61802", "long"), "\0\1\2"])
def test_a_broken_file_is_named(folder: Path, kuairand: configs.Config, text: str) -> None:
    (folder / "log_standard_4_08_to_4_21_pure.csv").write_text(text)
    with pytest.raises(DataError, match=r"log_standard_4_08_to_4_21_pure\.csv: expected a "):
        import_logs(kuairand, folder)


def test_files_without_rows_are_refused(folder: Path, kuairand: configs.Config) -> None:
    (folder / "video_features_basic_pure.csv").write_text(VIDEOS.splitlines()[0] + "\n")
    with pytest.raises(DataError, match=r"data: expected rows to make items of, found only headers"):
        import_logs(kuairand, folder)


def test_a_truncated_file_is_named(folder: Path, kuairand: configs.Config) -> None:
    file = folder / "log_standard_4_22_to_5_08_pure.csv.gz"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"log_standard_4_22_to_5_08_pure\.csv\.gz: expected a CSV file"):
        import_logs(kuairand, folder)


def test_a_log_that_is_no_directory_is_refused(folder: Path, kuairand: configs.Config) -> None:
    glob = kuairand.logs.clicks.model_copy(update={"path": "build/*.parquet"})
    for logs, where in (({"clicks": glob}, "logs.clicks.path"), ({"users": None}, "logs.users.path")):
        config = kuairand.model_copy(update={"logs": kuairand.logs.model_copy(update=logs)})
        with pytest.raises(ConfigError, match=f"{where}: expected a directory to import into"):
            import_logs(config, folder)


@pytest.mark.skipif(
    not REAL.is_dir(), reason="KuaiRand's files are not there; ESMM_KUAIRAND names their folder"
)
def test_the_real_files(kuairand: configs.Config) -> None:
    counts = import_logs(kuairand, REAL)
    assert (counts["exposures"], counts["users"], counts["items"]) == (94_784, 27_285, 7_583)
    # Counted in the file with awk: is_click, and any of the engagements.
    assert (counts["clicks"], counts["purchases"]) == (41_503, 3_624)
    assert days(REAL) == [dt.date(2022, 4, day) for day in range(25, 31)]
    ids = [row["exposure_id"] for row in rows(kuairand, "exposures")]
    assert len(set(ids)) == 94_784 - 2_979  # rows that repeat an impression, 2,750 of them wholly
