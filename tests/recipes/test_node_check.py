"""The check of the nodes names the one that would spoil the job, on every node; by real ranks where that can be."""

import os
import re
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from recipes.node_check.judge import Facts, Links, table, unfit
from recipes.node_check.links import groups
from recipes.node_check.measure import read_driver
from recipes.node_check.thresholds import Thresholds

LIMITS = Thresholds()


def cluster(nodes: int, ranks_per_node: int = 8) -> list[Facts]:
    """GPUs that differ as little as GPUs do."""
    return [
        Facts(
            rank, rank // ranks_per_node, f"host-{rank // ranks_per_node}", "NVIDIA H100", memory_gib=79.6,
            matmul_tflops=650 + rank % 7, clock_mhz=1700 + rank % 5, free_gb=500, store_seconds=0.1,
        )
        for rank in range(nodes * ranks_per_node)
    ]  # fmt: skip


def links(nodes: int, slow: int | None = None) -> Links:
    rates = [(members, 40.0 if slow in members and len(members) > 1 else 150.0) for members in groups(nodes)]
    return Links(rates=rates, skews=[0.01 * node for node in range(nodes)])


def test_nodes_that_differ_as_gpus_do_are_fit_and_each_has_its_line():
    for nodes in (1, 2, 3, 16):
        assert unfit(cluster(nodes), links(nodes), LIMITS) == []
        lines = table(cluster(nodes), links(nodes)).splitlines()
        assert [line.split(":")[0] for line in lines[:nodes]] == [f"node {n} (host-{n})" for n in range(nodes)]
        assert "8 x NVIDIA H100, 80 GiB, 1700 MHz, matmul 650 TFLOP/s, all-reduce 150 GB/s" in lines[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"matmul_tflops": 500.0}, "matmul 500 TFLOP/s, 77% of the median 652"),
        ({"clock_mhz": 900.0}, "clock under load 900 MHz, 53% of the median"),
        ({"memory_gib": 39.5}, "NVIDIA H100 with 40 GiB, where most have NVIDIA H100 with 80 GiB"),
        ({"device": "NVIDIA A100"}, "where most have NVIDIA H100"),
        ({"troubles": ["torch sees 0 GPUs"]}, "torch sees 0 GPUs"),
    ],
)
def test_a_gpu_unlike_the_others_is_named_with_its_rank_and_host(change, said):
    facts = cluster(4)
    facts[19] = replace(facts[19], **change)
    (line,) = unfit(facts, links(4), LIMITS)
    assert line.startswith("node 2 (host-2), rank 19: ") and said in line


@pytest.mark.parametrize("nodes", [3, 4, 5, 16])
def test_of_many_nodes_the_one_with_a_slow_network_is_named_and_not_its_neighbours(nodes):
    for slow in range(nodes):
        (line,) = unfit(cluster(nodes), links(nodes, slow), LIMITS)
        assert line.startswith(f"node {slow} (host-{slow}): all-reduce with node ")


def test_a_pair_that_does_not_reduce_at_all_names_both_when_nothing_tells_them_apart():
    broken = Links(rates=[((0,), 150.0), ((1,), 150.0)], failed=[((0, 1), "timed out")], skews=[0.0, 0.0])
    assert [line[:6] for line in unfit(cluster(2), broken, LIMITS)] == ["node 0", "node 1"]


def test_a_slow_connection_within_a_node_and_a_reduction_that_fails_everywhere_are_told():
    between = links(3)
    between.rates[1] = ((1,), 20.0)
    between.failed.append(((0, 1, 2), "NCCL error"))
    lines = unfit(cluster(3), between, LIMITS)
    assert lines[0].startswith("node 1 (host-1): all-reduce within it 20 GB/s, the best node has 150")
    assert lines[1].startswith("every node: all-reduce of all nodes failed: NCCL error") and len(lines) == 2


def test_a_clock_is_compared_with_the_middle_so_that_node_0_can_be_the_wrong_one():
    between = replace(links(4), skews=[0.0, 60.0, 60.1, 59.9])
    (line,) = unfit(cluster(4), between, LIMITS)
    assert line.startswith("node 0 (host-0): its clock is -60.0 s off")


def test_what_is_wrong_on_every_node_alike_is_said_once():
    facts = cluster(4, 1)
    for one in facts:
        one.troubles.append("s3://bucket: no credentials")
    assert unfit(facts, links(4), LIMITS) == ["every node: s3://bucket: no credentials"]


def test_memory_errors_that_the_driver_counts_are_a_fault_and_what_a_gpu_does_not_count_is_none():
    fine, none, bad = (Facts(0, 0, "host") for _ in range(3))
    read_driver("1980, 0\n", fine)
    read_driver("[N/A], [N/A]\n", none)
    read_driver("1980, 3\n", bad)
    assert (fine.clock_mhz, fine.troubles) == (1980, [])
    assert (none.clock_mhz, none.troubles) == (None, [])
    assert "3 uncorrected memory errors" in bad.troubles[0]


# --- real ranks --------------------------------------------------------------------------------------------------

# Cores that tests share are not alike, and their disk is what it is.
LENIENT = ["--matmul-fraction=0.01", "--allreduce-fraction=0.01", "--spare-gb=0.001"]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def check(
    run, nodes: dict[int, dict[str, str]], *options: str, of: int = 2, ranks: int = 1
) -> dict[int, tuple[int, str]]:
    """Exit code and output by node; every node has folders of its own, and the variables that are given."""
    port = free_port()
    started = {}
    for node, variables in nodes.items():
        places = {"NODE_SCRATCH": str(run.folder / f"node{node}"), "OMP_NUM_THREADS": "1"}
        command = [
            sys.executable, "-m", "composer.cli.launcher", "-n", str(ranks), "--world_size", str(of * ranks),
            "--node_rank", str(node), "--master_addr", "127.0.0.1", "--master_port", str(port),
            "-m", "recipes.node_check", str(run.folder / "run.yaml"), "run_folder=${oc.env:NODE_SCRATCH}/run",
            "train_loader.dataset.local=${oc.env:NODE_SCRATCH}/cache", *LENIENT, *options,
        ]  # fmt: skip
        started[node] = subprocess.Popen(
            command, env=os.environ | run.environment | places | variables, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
    outputs = {node: process.communicate(timeout=240)[0] for node, process in started.items()}
    return {node: (started[node].returncode, outputs[node]) for node in nodes}


def named(output: str) -> set[str]:
    return set(re.findall(r"^  (node \d|every node)", output, flags=re.M))


@pytest.mark.slow
def test_two_nodes_of_two_ranks_are_measured_and_found_fit(new_run):
    run = new_run("fit", device_train_microbatch_size=1)
    results = check(run, {0: {}, 1: {}}, ranks=2)
    assert [code for code, _ in results.values()] == [0, 0], results
    lines = [line for line in results[0][1].splitlines() if line.startswith(("node ", "all-reduce "))]
    number = r"[\d.e+-]+"
    for node, line in enumerate(lines[:2]):
        assert re.fullmatch(
            rf"node {node} \(.+\): 2 x cpu, matmul {number} TFLOP/s, all-reduce {number} GB/s, {number} GB free, "
            rf"store {number} s, clock [+-]0\.0\d\d s",  # one machine: its clock is itself to a tenth of a second
            line,
        ), line
    assert re.fullmatch(rf"all-reduce of two nodes {number} to {number} GB/s", lines[2])
    assert not list(run.checkpoints.iterdir())  # nothing is left of what was written


@pytest.mark.slow
def test_the_node_whose_disk_is_too_small_is_named_on_both(new_run, small_disk):
    small = small_disk("100k")
    results = check(new_run("no-room"), {0: {}, 1: {"NODE_SCRATCH": str(small)}})
    for code, output in results.values():
        assert code == 2 and named(output) == {"node 1"}, output
        assert f"{small}/cache and {small}/run/staging and {small}/run/resume: 0.000 GB are free there" in output
        assert "make room" in output
        assert "Traceback" not in output


@pytest.mark.slow
def test_the_node_that_cannot_reach_the_object_store_is_named_on_both(new_run, s3_server):
    run = new_run("unreachable", save_folder="s3://test/unreachable")
    run.environment |= s3_server.environment
    nowhere = {"S3_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    results = check(run, {0: nowhere, 1: {}})
    for code, output in results.values():
        assert code == 2 and named(output) == {"node 0"}, output
        assert "s3://test/unreachable" in output and "cannot be reached" in output
        assert s3_server.environment["AWS_SECRET_ACCESS_KEY"] not in output


@pytest.mark.slow
def test_a_run_for_gpus_is_refused_where_torch_sees_none(new_run):
    results = check(new_run("gpus", precision="amp_bf16"), {0: {}}, of=1)
    code, output = results[0]
    assert code == 2 and "torch sees 0 GPUs" in output and "precision=fp32" in output


@pytest.mark.slow
def test_a_node_that_does_not_come_is_named_after_the_time_to_join(new_run):
    results = check(new_run("alone"), {0: {}}, "--join-seconds=3")
    code, output = results[0]
    assert code == 2 and "1 of 2 ranks" in output and "rank 1 of node 1" in output, output
    assert "Traceback" not in output


@pytest.mark.slow
def test_after_a_restart_a_node_waits_until_others_must_have_noticed_that_its_ranks_were_gone(new_run, monkeypatch):
    monkeypatch.setenv("BIOMEDLM_RESTARTS", "1")
    results = check(new_run("alone", dist_timeout=2), {0: {}}, "--join-seconds=1")
    assert "gave nothing for 3 s" in results[0][1], results[0][1]
