"""From what every rank has measured to the nodes that are not fit, with what is wrong and what to do."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from recipes.node_check.thresholds import Thresholds

LEAVE_OUT = "leave the node out (Slurm: sbatch --exclude={hostname})"
GPU_REMEDY = "look at `nvidia-smi -q -d CLOCK,PERFORMANCE,ECC` there, or " + LEAVE_OUT
Nodes = tuple[int, ...]
Fault = tuple[int, int | None, str]  # node, rank where it is one of several, what is wrong and what to do


@dataclass
class Facts:
    """What one rank has found. ``troubles`` are wrong by themselves; the numbers are wrong beside those of others."""

    rank: int
    node: int
    hostname: str
    device: str | None = None  # the GPU's name, or cpu; None when there is none to train on
    matmul_tflops: float | None = None
    memory_gib: float | None = None  # of the GPU
    clock_mhz: float | None = None  # of the GPU's multiprocessors, under load
    free_gb: float | None = None  # on the fullest scratch disk; each node's first rank, as is what follows
    store_seconds: float | None = None  # to write an object, to read it back and to delete it
    troubles: list[str] = field(default_factory=list)

    @property
    def on_gpu(self) -> bool | None:
        return None if self.device is None else self.device != "cpu"


@dataclass
class Links:
    """What is between nodes; a rank knows of the groups that it leads, and rank 0 of the clocks."""

    rates: list[tuple[Nodes, float]] = field(default_factory=list)  # GB/s of the all-reduce of one, two, or all nodes
    failed: list[tuple[Nodes, str]] = field(default_factory=list)
    skews: list[float] = field(default_factory=list)  # seconds by node: its clock minus that of node 0

    def add(self, part: "Links") -> None:
        """Take over what another rank has found, as JSON brought it."""
        self.rates += [(tuple(nodes), rate) for nodes, rate in part.rates]
        self.failed += [(tuple(nodes), error) for nodes, error in part.failed]
        self.skews += part.skews

    def of(self, size: int) -> dict[Nodes, float]:
        """The rates of groups of so many nodes."""
        return {nodes: rate for nodes, rate in self.rates if len(nodes) == size}


def unfit(facts: Sequence[Facts], links: Links, limits: Thresholds) -> list[str]:
    """One line for each thing that is wrong, the node first; empty when the job can start.

    Args:
        facts: of every rank, in the order of ranks.
        links: what is between the nodes.
        limits: what must be reached.
    """
    hostnames = {one.node: one.hostname for one in facts}
    found: list[Fault] = [(one.node, one.rank, trouble) for one in facts for trouble in one.troubles]
    found += _unlike_the_others(facts)
    found += _below(facts, "matmul", "TFLOP/s", lambda one: one.matmul_tflops, limits.matmul_fraction)
    found += _below(facts, "clock under load", "MHz", lambda one: one.clock_mhz, limits.clock_fraction)
    found += _slow_within(links, limits.allreduce_fraction)
    found += _slow_between(links, limits.allreduce_fraction)
    found += _wrong_clocks(links, limits.clock_skew_seconds)
    lines = []
    for node, rank, text in found:
        everywhere = {other for other, _, same in found if same == text} == set(hostnames)
        who = "every node" if everywhere and len(hostnames) > 1 else f"node {node} ({hostnames[node]})"
        who += f", rank {rank}" if rank is not None and not everywhere else ""
        lines.append(f"{who}: {text.replace('{hostname}', hostnames[node])}")
    return list(dict.fromkeys(lines))


def _unlike_the_others(facts: Sequence[Facts]) -> Iterator[Fault]:
    def kind(one: Facts) -> str:
        return f"{one.device} with {one.memory_gib:.0f} GiB" if one.memory_gib else f"{one.device}"

    kinds = Counter(kind(one) for one in facts if one.device is not None)
    for one in facts:
        if one.device is not None and kind(one) != kinds.most_common(1)[0][0]:
            yield one.node, one.rank, f"{kind(one)}, where most have {kinds.most_common(1)[0][0]}; {LEAVE_OUT}"


def _below(
    facts: Sequence[Facts], name: str, unit: str, value: Callable[[Facts], float | None], fraction: float
) -> Iterator[Fault]:
    middle = median([number for one in facts if (number := value(one)) is not None] or [0.0])
    for one in facts:
        mine = value(one)
        if mine is not None and mine < fraction * middle:
            text = f"{name} {mine:.3g} {unit}, {mine / middle:.0%} of the median {middle:.3g}; {GPU_REMEDY}"
            yield one.node, one.rank, text


def _slow_within(links: Links, fraction: float) -> Iterator[Fault]:
    rates = links.of(1)
    for (node,), rate in rates.items():
        if rate < fraction * max(rates.values()):
            best = f"the best node has {max(rates.values()):.3g}"
            yield node, None, f"all-reduce within it {rate:.3g} GB/s, {best}; {LEAVE_OUT}"
    for nodes, error in links.failed:
        if len(nodes) == 1:
            yield nodes[0], None, f"its ranks cannot reduce among each other: {error}; {LEAVE_OUT}"


def _slow_between(links: Links, fraction: float) -> Iterator[Fault]:
    """A node is bad when every pair that it is part of is: its neighbours have a good one, too.

    Measured against the best, not the median: among three nodes a bad one spoils two pairs of three.
    """
    rates = links.of(2)
    best = max(rates.values(), default=0.0)
    bad = {nodes: f"{rate:.3g} GB/s" for nodes, rate in rates.items() if rate < fraction * best}
    bad |= {nodes: error for nodes, error in links.failed if len(nodes) == 2}
    good = {node for nodes in rates if nodes not in bad for node in nodes}
    for node in sorted({node for nodes in bad for node in nodes} - good):
        theirs = "; ".join(f"with node {sum(nodes) - node} {text}" for nodes, text in bad.items() if node in nodes)
        against = f", the best pair has {best:.3g}" if best else ""
        yield node, None, f"all-reduce {theirs}{against}; look at its network (NCCL_DEBUG=INFO), or {LEAVE_OUT}"
    for nodes, error in links.failed:
        if len(nodes) > 2:
            yield from (
                (node, None, f"all-reduce of all nodes failed: {error}; NCCL_DEBUG=INFO says more") for node in nodes
            )


def _wrong_clocks(links: Links, limit: float) -> Iterator[Fault]:
    middle = median(links.skews or [0.0])
    for node, skew in enumerate(links.skews):
        if abs(skew - middle) > limit:
            text = f"its clock is {skew - middle:+.1f} s off the median of all; start its time service (chronyd)"
            yield node, None, text


def table(facts: Sequence[Facts], links: Links) -> str:
    """One line a node, and one of what is between them."""
    lines = []
    for node in sorted({one.node for one in facts}):
        ranks = [one for one in facts if one.node == node]
        first = ranks[0]
        parts = [f"{len(ranks)} x {first.device}"]
        if first.memory_gib is not None:
            clocks = [one.clock_mhz for one in ranks if one.clock_mhz is not None]
            parts.append(f"{first.memory_gib:.0f} GiB")
            parts.append(f"{min(clocks):.0f} MHz" if clocks else "clock not known: no nvidia-smi")
        matmul = [one.matmul_tflops for one in ranks if one.matmul_tflops is not None]
        parts.append(f"matmul {min(matmul):.3g} TFLOP/s")
        if (node,) in links.of(1):
            parts.append(f"all-reduce {links.of(1)[node,]:.3g} GB/s")
        parts.append(f"{first.free_gb:.1f} GB free")
        if first.store_seconds is not None:
            parts.append(f"store {first.store_seconds:.2f} s")
        parts.append(f"clock {links.skews[node]:+.3f} s")
        lines.append(f"node {node} ({first.hostname}): {', '.join(parts)}")
    pairs = links.of(2)
    if pairs:
        lines.append(f"all-reduce of two nodes {min(pairs.values()):.3g} to {max(pairs.values()):.3g} GB/s")
    everyone = [rate for nodes, rate in links.rates if len(nodes) > 2]
    if everyone:
        lines[-1] += f", of all {everyone[0]:.3g} GB/s"
    return "\n".join(lines)
