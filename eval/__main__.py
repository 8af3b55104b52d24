"""What can be done with questions and scores apart from scoring a model, which is ``evaluate.py``.

``python -m eval COMMAND …``; ``python -m eval COMMAND --help`` says more of one.
"""

import importlib
import sys

from base.errors import run_command

COMMANDS = {  # name: (module, what it does); its main() is given the arguments after the name
    "get": ("eval.get", "fetch the official files of tasks, or say from where they are got"),
    "compare": ("eval.compare", "set two models' results on the same questions beside each other"),
    "report": ("eval.report", "write a page on the results of a folder: scores over tokens, tables, examples"),
}


def main() -> None:
    """Run one command."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name not in COMMANDS:
        listed = "\n".join(f"  {one:<9}{about}" for one, (_, about) in COMMANDS.items())
        print(f"{__doc__.strip()}\n\ncommands:\n{listed}", file=sys.stdout if name in ("-h", "--help") else sys.stderr)
        sys.exit(0 if name in ("-h", "--help") else 2)
    importlib.import_module(COMMANDS[name][0]).main(sys.argv[2:])


if __name__ == "__main__":
    run_command(main)
