"""``evaluate.py`` with a store that fails rank 0 once, when the first results are to be written."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import evaluate
from base.errors import StoreTrouble
from recipes import evaluate_model

write, fails = evaluate_model.write_results, [True]


def unsteady(*arguments: Any) -> None:
    if fails.pop() if fails else False:
        raise StoreTrouble("the store does not answer")
    write(*arguments)


if __name__ == "__main__":
    evaluate_model.write_results = unsteady
    evaluate.main()
