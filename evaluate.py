"""Score a model, or a run's checkpoints as they appear.

composer [-n N] evaluate.py yamls/eval/qa.yaml model=CHECKPOINT_OR_FOLDER_OR_HUB_NAME key=value …
composer [-n N] evaluate.py yamls/eval/qa.yaml watch=FOLDER_OF_CHECKPOINTS key=value …
"""

import argparse

from base.configuration import load_configuration
from base.errors import run_command
from recipes.evaluation import Evaluation, find_inputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("yaml", help="what to ask, such as yamls/eval/qa.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to it; model=… or watch=… is needed")
    arguments = parser.parse_intermixed_args()

    config = load_configuration(arguments.yaml, arguments.overrides, Evaluation)
    model, asked = find_inputs(config)
    if model is None:
        from recipes.watch import watch  # imports torch and Composer: 10 seconds

        watch(config, asked)
    else:
        from recipes.evaluate_model import evaluate

        evaluate(config, model, asked)


if __name__ == "__main__":
    run_command(main)
