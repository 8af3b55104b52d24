"""What the GPU's list must hold before it is given a GPU: names, peaks, its table, and levers that are pulled."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from base.errors import UserError
from benchmarks.gpu import arguments_parser, measure, table
from benchmarks.gpu_levers import LEVERS, Lever, Machine, gelu_in_parts, run_lever
from benchmarks.gpu_parts import microbatches_for, peak_tflops
from model.config import GPTConfig


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100-PCIE-40GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
    ],
)
def test_the_peak_is_that_of_the_device_s_name(name: str, peak: float) -> None:
    assert peak_tflops(name) == peak


@pytest.mark.parametrize("name", ["NVIDIA H100 NVL", "NVIDIA GH200 480GB", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "L40S"])
def test_a_device_whose_peak_is_not_known_must_be_given_one(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} is not known; give it with --peak-tflops"):
        peak_tflops(name)


def test_a_card_of_80_gb_takes_microbatches_of_8() -> None:
    assert (microbatches_for(79.1), microbatches_for(139.8)) == ((8, 8), (16, 24))


@pytest.mark.parametrize("given", [["--parts", "levers,lever"], ["--attention", "xformers"]])
def test_an_unknown_part_or_kernel_ends_with_the_list_of_them(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        arguments_parser().parse_args(given)
    assert given[1].split(",")[-1] in (said := capsys.readouterr().err)
    assert "correct, ceilings, trainer, levers" in said or "cudnn" in said.splitlines()[-1]


def test_levers_can_be_asked_for_by_name() -> None:
    names = [lever.name for lever in LEVERS]
    assert len(set(names)) == len(names) and not any("," in name for name in names)
    assert max(len(name) for name in names) < 38  # the table's first column


@pytest.mark.parametrize(
    "correct",
    [
        {},  # its process was cut before it printed
        {"correct": {"failed": "RuntimeError: no kernel\nand a trace"}},
        {"correct": {"left_out": "not begun within 0 s"}},
        {"correct": {"passed": False, "wrong": ["bf16"], "differences": {"bf16": 0.5}, "failed": {}}},
    ],
)
def test_no_lever_is_timed_unless_correct_has_passed(correct: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def process(arguments: list[str], seconds: float) -> tuple[dict[str, Any], str]:
        asked.append(arguments)
        return correct, "" if correct else "ended with -9"

    monkeypatch.setattr("benchmarks.gpu._in_a_process", process)
    figures = measure(["--small"])
    assert len(asked) == 1 and "has not passed" in figures["stopped"]
    lines = [line.split() for line in table(figures)]
    assert lines[-1][:1] == ["stopped"] and lines[1][0] == ("correct" if correct else "cut:")
    assert len(measure(["--small", "--parts", "levers"])) and len(asked) == 2


def test_the_table_has_the_first_line_of_a_reason_and_no_more() -> None:
    levers = {"FP8 rowwise": {"failed": "OutOfMemoryError: " + "x" * 300 + "\n a second line"}}
    line = table({"levers": levers})[1]
    assert line.startswith("FP8 rowwise") and "OutOfMemoryError" in line and len(line) < 150


@pytest.mark.parametrize("compiled", ["", "blocks loss"])
@pytest.mark.parametrize(("gelu", "runs"), [("fused", {"gelu"}), ("in parts", {"tanh"})])
def test_gelu_in_parts_is_what_runs_compiled_or_not(
    gelu: str, runs: set[str], compiled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[set[str]] = []

    def run_the_graph(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        graphs.append({getattr(node.target, "__name__", "") for node in graph.graph.nodes})
        return graph.forward

    torch_compile = torch.compile
    monkeypatch.setattr("torch.compile", lambda function, **unused: torch_compile(function, backend=run_the_graph))
    shape = GPTConfig(vocab_size=64, max_seq_len=16, d_model=16, n_heads=2, n_layers=2)
    machine = Machine("cpu", shape, 989e12, torch.randint(64, (4, 16)), microbatch=2)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        figures = run_lever(machine, Lever("a", compiled=compiled, gelu=gelu))
    assert figures["graphs"] == len(graphs) and figures["graphs_after_warming"] == 0
    ran = set().union(*graphs) if compiled else {event.key.removeprefix("aten::") for event in profile.key_averages()}
    assert ran & {"gelu", "tanh"} == runs


def test_gelu_in_parts_is_the_tanh_gelu() -> None:
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    torch.testing.assert_close(gelu_in_parts(x, "tanh"), torch.nn.functional.gelu(x, approximate="tanh"))
