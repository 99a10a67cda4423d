"""Makes the champion before the present one champion again: the next scores are made with it.

spark-submit.sh jobs/roll_back.py --config conf/demo.yaml
"""

import structlog

from esmm import cli, registry, scoring
from esmm.errors import DataError

log = structlog.get_logger()


def main(config_file: cli.ConfigFile, overrides: cli.Overrides = None) -> None:
    """Undo the last promotion, whatever the config has become since: the champion's own may be rolled back, too."""
    config = cli.read_config(config_file, overrides)
    champion = registry.roll_back(config.scoring.models)
    print(f"champion: {champion.version}")
    try:
        scoring.check_model(config, champion.version)
    except DataError as error:
        log.warning("jobs/score.py refuses the champion with this config", because=str(error))


if __name__ == "__main__":
    cli.job(main)()
