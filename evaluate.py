"""Score one model: ``composer [-n N] evaluate.py yamls/eval/qa.yaml model=CHECKPOINT_OR_FOLDER key=value …``."""

import argparse

from base.configuration import load_configuration
from base.errors import run_command
from recipes.evaluation import Evaluation, find_inputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("yaml", help="what to ask, such as yamls/eval/qa.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to it; model=… is always needed")
    arguments = parser.parse_intermixed_args()

    config = load_configuration(arguments.yaml, arguments.overrides, Evaluation)
    inputs = find_inputs(config)
    from recipes.evaluate_model import evaluate  # imports torch and Composer: 10 seconds

    evaluate(config, inputs)


if __name__ == "__main__":
    run_command(main)
