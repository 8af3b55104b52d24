"""``device_train_microbatch_size: auto`` takes what fits, and is known before there is a GPU."""

import json
from pathlib import Path

import pytest

from base.configuration import load_configuration
from model.config import GPTConfig
from recipes.memory import GIB, divisors, largest_microbatch, memory_by_part
from recipes.microbatch import largest_that_fits, off_by, sizes_to_try
from recipes.run_sheet import GPUS
from recipes.schema import Training

ROOT = Path(__file__).parents[2]
BIOMEDLM = str(ROOT / "yamls" / "biomedlm.yaml")


def test_the_largest_divisor_within_the_room_is_taken():
    assert largest_that_fits(each=24, room=100, one=20, two=30) == 8  # 20 + 7 x 10 = 90; 12 would take 130
    assert largest_that_fits(each=24, room=90, one=20, two=30) == 8
    assert largest_that_fits(each=24, room=89, one=20, two=30) == 6
    assert largest_that_fits(each=7, room=80, one=20, two=30) == 7
    assert largest_that_fits(each=7, room=79, one=20, two=30) == 1
    assert largest_that_fits(each=7, room=19, one=20, two=30) is None
    assert divisors(12) == [1, 2, 3, 4, 6, 12]


def test_no_step_is_tried_that_a_rank_does_not_have_or_that_is_not_estimated_to_fit():
    assert sizes_to_try(each=8, expected=8) == (1, 2)
    assert sizes_to_try(each=1, expected=1) == (1,)
    assert sizes_to_try(each=8, expected=1) == (1,)


def test_an_estimate_that_is_off_by_more_than_a_tenth_is_told_with_both_figures():
    assert off_by(measured=10.9 * GIB, estimated=10 * GIB) is None
    for measured in (11.1, 8.9):
        told = off_by(measured * GIB, 10 * GIB)
        assert told is not None and f"was 10.0 GiB, measured are {measured}:" in told


def biomedlm(*overrides: str) -> Training:
    return load_configuration(BIOMEDLM, [*overrides], Training)


@pytest.mark.parametrize(("gib", "ranks"), [(40, 128), (80, 8), (141, 1)])
def test_the_estimate_takes_what_fits_and_the_next_divisor_does_not(gib, ranks):
    config, room = biomedlm("compile_config=null"), 0.92 * gib * GIB
    size = largest_microbatch(config, GPTConfig(), ranks, gib * GIB)
    assert size is not None
    each = config.global_train_batch_size // ranks
    larger = [one for one in divisors(each) if one > size]
    assert sum(memory_by_part(config, GPTConfig(), ranks, size).values()) <= room
    assert not larger or sum(memory_by_part(config, GPTConfig(), ranks, larger[0]).values()) > room


def test_the_estimate_counts_16_bytes_a_parameter_over_the_shards():
    parts = memory_by_part(biomedlm(), GPTConfig(), world_size=8, microbatch=8)
    states = parts["parameters"] + parts["gradients"] + parts["Adam moments"]
    assert states == pytest.approx(16 * 2_594_247_680 / 8)


# Three runs of one day. The first was sharded by FSDP2 over its one rank, with SHARD_GRAD_OP, which keeps as many
# weights in bf16 as are counted without sharding.
SHARDED, LEVERS, TRAINER = (
    json.loads((ROOT / "benchmarks" / "records" / f"gpu-2026-11-27{run}.json").read_text())["figures"]
    for run in ("", "-2", "-3")
)
RECOMPUTED = "fsdp_config.activation_checkpointing=true"


@pytest.mark.parametrize(
    ("run", "lever", "microbatch", "changes"),
    [
        (LEVERS, "ours all compiled", 16, []),
        (LEVERS, "microbatch 8", 8, []),
        (LEVERS, "microbatch 24", 24, []),
        (LEVERS, "microbatch 32", 32, []),
        (LEVERS, "nothing compiled", 16, ["compile_config=null"]),
        (SHARDED, "ours, all compiled", 16, []),
        (SHARDED, "activation checkpointing", 16, [RECOMPUTED]),
    ],
)
def test_the_estimate_is_within_a_tenth_of_what_was_measured(run, lever, microbatch, changes):
    """One microbatch: without the gradients (see memory_by_part)."""
    parts = memory_by_part(biomedlm("compile_config={}", *changes), GPTConfig(), world_size=1, microbatch=microbatch)
    expected = (sum(parts.values()) - parts["gradients"]) / GIB
    assert expected == pytest.approx(run["levers"][lever]["peak_gib"], rel=0.1)


@pytest.mark.parametrize("run", [SHARDED, LEVERS, TRAINER])
def test_the_estimate_is_within_a_twentieth_of_what_the_trainer_took(run):
    parts = memory_by_part(biomedlm("compile_config={}"), GPTConfig(), 1, run["trainer"]["microbatch"])
    assert sum(parts.values()) / GIB == pytest.approx(run["trainer"]["peak_gib"], rel=0.05)


def test_the_run_sheet_s_h200_is_the_one_that_was_measured():
    gpu = GPUS["h200_141gb"]
    assert (gpu.memory_gib, gpu.mfu) == (TRAINER["gpu"]["gib"], round(TRAINER["trainer"]["mfu"], 3))
    assert "gpu-2026-11-27-3.json" in gpu.source


def test_a_model_that_fits_nowhere_has_no_microbatch():
    assert largest_microbatch(biomedlm(), GPTConfig(), 1, 40 * GIB) is None  # its states alone are 41.5 GB


def test_hybrid_sharding_needs_the_states_of_its_own_shards_only():
    hybrid = biomedlm("fsdp_config.sharding_strategy=HYBRID_SHARD", "fsdp_config.data_parallel_shard_degree=8")
    assert memory_by_part(hybrid, GPTConfig(), 128, 8)["Adam moments"] == pytest.approx(
        8 * GPTConfig().n_parameters / 8
    )


def test_recomputing_every_second_block_keeps_half_of_the_activations_and_a_little():
    on = "fsdp_config.activation_checkpointing=true"
    none, some, every = (
        memory_by_part(biomedlm(*changes), GPTConfig(), 8, 8)["activations"]
        for changes in ([], [on, "fsdp_config.activation_checkpointing_interval=2"], [on])
    )
    assert every < 0.12 * none
    assert some == pytest.approx((none + every) / 2)
