"""Between ranks: the rate of all-reduce within a node, between two, among all; and how far clocks are apart."""

import os
import time
from collections.abc import Iterator
from datetime import timedelta

import torch
from torch import distributed

from recipes.node_check.gathering import Gathering
from recipes.node_check.judge import Links

GPU_BYTES, CPU_BYTES = 2**28, 2**22
REPEATS = 5
PINGS = 5


def measure_links(gathering: Gathering, device: torch.device, seconds: float) -> Links:
    """This rank's part of what is between them: the groups that it is the first of, and on rank 0 the clocks."""
    links = Links()
    try:
        _connect(gathering, device, seconds)
        _all_reduce(gathering, device, seconds, links)
        _clocks(gathering, links)
    except RuntimeError as error:
        links.failed.append(((gathering.node,), _first_line(error)))
    return links


def _connect(gathering: Gathering, device: torch.device, seconds: float) -> None:
    """gloo for the clocks, and NCCL where there are GPUs."""
    # An all-reduce that does not end is to raise here, with its nodes, rather than to kill the process from a thread.
    os.environ["TORCH_NCCL_BLOCKING_WAIT"] = "1"
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        store=distributed.PrefixStore("group", gathering.store), rank=gathering.rank,
        world_size=gathering.world_size, timeout=timedelta(seconds=seconds),
    )  # fmt: skip


def _all_reduce(gathering: Gathering, device: torch.device, seconds: float, links: Links) -> None:
    """As nccl-tests' bus bandwidth: bytes x 2 (n - 1) / n over the seconds, so that groups of unlike size compare."""
    data = torch.ones((GPU_BYTES if device.type == "cuda" else CPU_BYTES) // 4, device=device)
    for nodes in groups(gathering.nodes):
        ranks = [node * gathering.ranks_per_node + one for node in nodes for one in range(gathering.ranks_per_node)]
        # Every rank makes every group, in the same order, as torch asks.
        group = distributed.new_group(ranks, timeout=timedelta(seconds=seconds))
        if gathering.rank not in ranks or len(ranks) < 2:
            continue
        try:
            rate = _rate(data, group, len(ranks))
        except RuntimeError as error:
            links.failed.append((nodes, _first_line(error)))
            continue
        if gathering.rank == ranks[0]:
            links.rates.append((nodes, rate))


def groups(nodes: int) -> Iterator[tuple[int, ...]]:
    """Each node alone; each with its neighbour, every second pair at the same time, closed to a ring; all.

    In the ring a node has two pairs, so that a bad one can be told from its neighbours as soon as there are three.
    """
    yield from ((node,) for node in range(nodes))
    ring = [(node, node + 1) for node in range(nodes - 1)]
    yield from ring[0::2] + ring[1::2]
    if nodes > 2:
        yield 0, nodes - 1
        yield tuple(range(nodes))


def _rate(data: torch.Tensor, group: distributed.ProcessGroup, size: int) -> float:
    seconds = []
    for _ in range(1 + REPEATS):  # the first makes the connections
        _wait_for(data)
        start = time.perf_counter()
        distributed.all_reduce(data, group=group)
        _wait_for(data)
        seconds.append(time.perf_counter() - start)
    data.fill_(1)
    return data.numel() * 4 * 2 * (size - 1) / size / sorted(seconds[1:])[REPEATS // 2] / 1e9


def _wait_for(data: torch.Tensor) -> None:
    if data.device.type == "cuda":
        torch.cuda.synchronize(data.device)


def _clocks(gathering: Gathering, links: Links) -> None:
    """On rank 0: each node's clock minus its own, within half of the shortest round trip."""
    now = torch.zeros(1, dtype=torch.float64)
    leaders = range(0, gathering.world_size, gathering.ranks_per_node)
    if gathering.rank == 0:
        links.skews = [0.0, *(_skew(now, leader) for leader in leaders[1:])]
    elif gathering.rank in leaders:
        for _ in range(PINGS):
            distributed.recv(now, src=0)
            now.fill_(time.time())
            distributed.send(now, dst=0)


def _skew(now: torch.Tensor, leader: int) -> float:
    answers = []
    for _ in range(PINGS):
        sent = time.time()
        distributed.send(now, dst=leader)
        distributed.recv(now, src=leader)
        received = time.time()
        answers.append((received - sent, now.item() - (sent + received) / 2))
    return min(answers)[1]


def _first_line(error: RuntimeError) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
