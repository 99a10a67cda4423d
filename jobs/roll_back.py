"""Makes the champion before the present one champion again: the next scores are made with it.

spark-submit.sh jobs/roll_back.py --config conf/demo.yaml
"""

from esmm import cli, registry


def main(config_file: cli.ConfigFile, overrides: cli.Overrides = None) -> None:
    """Undo the last promotion."""
    models = cli.read_config(config_file, overrides).scoring.models
    print(f"champion: {registry.roll_back(models).version}")


if __name__ == "__main__":
    cli.job(main)()
