"""A simulated market's logs, with the true probabilities beside them.

spark-submit.sh jobs/simulate_logs.py --config conf/demo.yaml    # needs no Spark: .venv/bin/python does too
"""

import structlog

from esmm import cli
from esmm.simulate import simulate


def main(config_file: cli.ConfigFile, overrides: cli.Overrides = None) -> None:
    """Write the logs that the config's simulation describes, in place of earlier ones."""
    config = cli.read_config(config_file, overrides)
    written = simulate(config)
    assert config.simulation is not None  # simulate has seen to it
    structlog.get_logger().info("simulated", directory=config.simulation.directory, **written)


if __name__ == "__main__":
    cli.job(main)()
