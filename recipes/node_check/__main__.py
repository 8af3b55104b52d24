"""Is every node fit for the job? ``composer … -m recipes.node_check YAML [key=value …]``, launched as training will be.

Ends with 0 and a line about each node, or with 2 on every node and one message that names the bad ones.
"""

import argparse
import os
from dataclasses import asdict

from base.configuration import load_configuration
from base.errors import UserError, run_command
from base.progress import say
from recipes.launch.run_on_node import RESTARTS
from recipes.node_check.judge import Facts, Links, table, unfit
from recipes.node_check.thresholds import Thresholds
from recipes.schema import Training


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.node_check", description=__doc__)
    parser.add_argument("yaml", help="the run's configuration, such as yamls/biomedlm.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to it, the same as training gets")
    for name, field in Thresholds.model_fields.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=float, default=field.default, help=f"{field.description}; {field.default:g}")
    arguments = parser.parse_intermixed_args()
    limits = Thresholds(**{name: getattr(arguments, name) for name in Thresholds.model_fields})
    check(load_configuration(arguments.yaml, arguments.overrides, Training), limits)


def check(config: Training, limits: Thresholds) -> None:
    """Measure on every rank, compare, and tell it on every rank.

    Raises:
        UserError: on every rank that is alive, naming the nodes that are not fit, or that did not answer.
    """
    from recipes.node_check.gathering import Gathering  # these import torch
    from recipes.node_check.links import measure_links
    from recipes.node_check.measure import choose_device, measure

    # For so long the ranks of a node may not have seen that those of another have failed.
    not_yet_failed = config.dist_timeout if os.environ.get(RESTARTS, "0") != "0" else 0.0
    gathering = Gathering(limits.join_seconds + not_yet_failed)
    device = choose_device(config, gathering.local_rank)
    mine = Facts(gathering.rank, gathering.node, gathering.hostname)
    measure(config, device, gathering, limits.spare_gb, mine)
    facts = [Facts(**one) for one in gathering.exchange("what each measured", asdict(mine), limits.step_seconds)]
    links = Links()
    if device is not None and len({one.on_gpu for one in facts}) == 1:  # ranks of two kinds could not reduce together
        part = measure_links(gathering, device, limits.step_seconds / 5)  # some groups one after the other
        for one in gathering.exchange("links between them", asdict(part), limits.step_seconds):
            links.add(Links(**one))
    faults = unfit(facts, links, limits)
    gathering.leave()
    if faults:
        bad = sorted({line.split(":")[0].split(",")[0] for line in faults})
        raise UserError(
            f"the check of the nodes: not fit: {', '.join(bad)}\n" + "\n".join(f"  {line}" for line in faults),
            shared=True,
        )
    if gathering.rank == 0:
        say(table(facts, links))


if __name__ == "__main__":
    run_command(main)
