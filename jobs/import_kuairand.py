"""KuaiRand's CSV files to the logs that the config names.

spark-submit.sh jobs/import_kuairand.py --config conf/kuairand.yaml --data KuaiRand-Pure/data
"""

from pathlib import Path
from typing import Annotated

import structlog
import typer

from esmm import cli, kuairand

Data = Annotated[Path, typer.Option("--data", help="The folder of the CSV files.", show_default=False)]
LogFiles = Annotated[
    str, typer.Option("--logs", metavar="PATTERN", help="Names of the log files, without .csv or .csv.gz.")
]

Days = Annotated[
    Path | None,
    typer.Option("--days", help="A file to write the days of the logs to, one a line."),
]


def main(
    config_file: cli.ConfigFile,
    data: Data,
    overrides: cli.Overrides = None,
    logs: LogFiles = kuairand.STANDARD_LOGS,
    days: Days = None,
) -> None:
    """Import exposures, clicks, purchases, items and users in place of earlier ones."""
    config = cli.read_config(config_file, overrides)
    structlog.get_logger().info("imported", data=str(data), **kuairand.import_logs(config, data, logs))
    if days is not None:
        days.write_text("".join(f"{day}\n" for day in kuairand.days(data, logs)))


if __name__ == "__main__":
    cli.job(main)()
