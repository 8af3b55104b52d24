"""Train: ``composer train.py yamls/biomedlm.yaml key=value …``; look first: ``python train.py YAML --check``."""

import argparse

from base.configuration import load_configuration
from base.errors import run_command
from recipes.findings import require_sound, tell_warnings
from recipes.preflight import nodes_from_environment, preflight, world_size_from_environment
from recipes.run_sheet import run_sheet
from recipes.schema import Training
from recipes.signals import end_with_launcher


def main() -> None:
    end_with_launcher()  # before all that takes long: it is told of what comes later alone
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("yaml", help="the run's configuration, such as yamls/biomedlm.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to it, such as optimizer.lr=4e-4")
    parser.add_argument("--check", action="store_true", help="check everything, print the run sheet, train nothing")
    arguments = parser.parse_intermixed_args()

    config = load_configuration(arguments.yaml, arguments.overrides, Training)
    if arguments.check:
        world_size = config.hardware.count if config.hardware else world_size_from_environment()
        found = preflight(config, world_size, probe_writing=True)
        print(run_sheet(config, found, world_size))
        require_sound(found, missing_too=False)
        return
    found = preflight(config, world_size_from_environment(), probe_writing=False, nodes=nodes_from_environment())
    require_sound(found, missing_too=True)
    tell_warnings(found)
    from recipes.pretrain import pretrain  # imports torch and Composer: 10 seconds

    pretrain(config, found)


if __name__ == "__main__":  # loader workers import this file again
    run_command(main)
