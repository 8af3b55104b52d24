"""The same training, whichever way it is spread over ranks, microbatches and kernels: real launches on the CPU."""

import json
import math
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from streaming import StreamingDataset
from torch.distributed.checkpoint import FileSystemReader

from model.checkpoint import list_checkpoints
from model.composer_gpt import ComposerGPT, collate
from model.config import GPTConfig
from model.gpt import GPT
from recipes import build
from recipes.metrics import NORM, series
from recipes.schema import DecoupledAdamW

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BATCH, BATCHES, SEED = 8, 20, 17
NO_DROPOUT = ["model.attn_pdrop=0.0", "model.resid_pdrop=0.0", "model.embd_pdrop=0.0"]
IN_ORDER = [f"global_train_batch_size={BATCH}", "train_loader.dataset.shuffle=false", "save_interval=10ba"]
HYBRID = ["fsdp_config.sharding_strategy=HYBRID_SHARD", "fsdp_config.data_parallel_shard_degree=2"]


def bare_loop(run, shape: GPTConfig, sizes: Sequence[int] = [BATCH] * BATCHES) -> tuple[list[float], list[float]]:
    """Losses and gradient norms of a plain PyTorch loop over the same samples in the same order."""
    dataset = StreamingDataset(local=str(run.folder / "mds" / "train"), batch_size=1)
    settings = json.loads((run.folder / "run.yaml").read_text())["optimizer"]
    model = ComposerGPT(GPT(shape), SEED)
    optimizer = build.build_optimizer(DecoupledAdamW(**settings), model)
    losses, norms = [], []
    end = 0
    for batch, size in enumerate(sizes):
        done = max(batch - 1, 0)  # Composer steps its schedulers before it counts the batch
        cosine = 0.1 + 0.9 * (1 + math.cos(math.pi * (done - 2) / (BATCHES - 2))) / 2
        optimizer.param_groups[0]["lr"] = settings["lr"] * (done / 2 if done < 2 else cosine)
        first = end if end + size <= len(dataset) else 0
        end = first + size
        loss = model(collate([dataset[number] for number in range(first, end)]))
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, norms


def parts_of_a_weight(checkpoint: Path) -> int:
    metadata = FileSystemReader(checkpoint).read_metadata().state_dict_metadata
    (name,) = [name for name in metadata if name.endswith("model.gpt.wpe.weight")]
    return len(metadata[name].chunks)


def test_one_rank_two_sharded_four_hybrid_and_a_bare_loop_are_one_training(new_run):
    ways = {"one": (1, []), "two": (2, []), "hybrid": (4, HYBRID)}
    runs = {name: new_run(name) for name in ways}
    for name, (ranks, changes) in ways.items():
        runs[name].train(ranks, *NO_DROPOUT, *IN_ORDER, "device_train_microbatch_size=2", *changes)
    losses, norms = bare_loop(runs["one"], GPTConfig(**runs["one"].manifest("ep3-ba20")["model"]))
    assert losses[-1] < losses[0] - 0.05
    for run in runs.values():
        assert run.losses() == pytest.approx(losses, rel=1e-5)
        assert series(run.metrics(), NORM)[1] == pytest.approx(norms, rel=1e-3)

    # Two copies of two parts each, and not four parts: Composer would make these of a mesh that it is given.
    hybrid = runs["hybrid"]
    for name, parts in (("one", 1), ("two", 2), ("hybrid", 2)):
        assert parts_of_a_weight(runs[name].checkpoints / "ep3-ba20") == parts

    # What four hybrid ranks wrote is a checkpoint like any other: two ranks go on from it.
    assert [found.batch for found in list_checkpoints(str(hybrid.checkpoints)) if found.whole] == [10, 20]
    for file in (hybrid.checkpoints / "ep3-ba20").iterdir():
        file.unlink()
    assert "resumed at batch 10" in hybrid.train(2, *NO_DROPOUT, *IN_ORDER, "device_train_microbatch_size=2")
    assert hybrid.losses() == pytest.approx(losses, rel=1e-5)


def test_a_growing_batch_is_a_bare_loop_over_ever_more_samples_on_one_rank_and_on_two(new_run):
    """Full at 44 of the 50 samples of an epoch: the first full batch is that of the next."""
    sizes = [2] * 2 + [4] * 10 + [BATCH] * (BATCHES - 12)
    runs = {ranks: new_run(str(ranks), batch_size_warmup={"double_at": ["4sp", "44sp"]}) for ranks in (1, 2)}
    for ranks, run in runs.items():
        run.train(ranks, *NO_DROPOUT, *IN_ORDER, "device_train_microbatch_size=1")
    losses, norms = bare_loop(runs[1], GPTConfig(**runs[1].manifest("ep2-ba20")["model"]), sizes)
    assert losses[-1] < losses[0] - 0.05
    for run in runs.values():
        assert run.losses() == pytest.approx(losses, rel=1e-5)
        assert series(run.metrics(), NORM)[1] == pytest.approx(norms, rel=1e-3)
        assert series(run.metrics(), "trainer/global_train_batch_size")[1] == sizes


def test_the_size_of_the_microbatch_changes_nothing_but_rounding(new_run):
    losses = []
    for size in (1, 2, 8):
        run = new_run(f"micro{size}")
        run.train(
            1, *NO_DROPOUT, *IN_ORDER, f"device_train_microbatch_size={size}", "save_folder=null", "autoresume=false"
        )
        losses.append(run.losses())
    assert len(losses[0]) == BATCHES
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize("ranks", [1, 2])  # as it is, and sharded
def test_recomputed_activations_change_no_bit_with_dropout_on(new_run, ranks):
    recompute = "fsdp_config.activation_checkpointing=true"
    ways = {"plain": [], "all": [recompute], "second": [recompute, "fsdp_config.activation_checkpointing_interval=2"]}
    losses = {}
    for name, changes in ways.items():
        run = new_run(name)
        run.train(ranks, "save_folder=null", "autoresume=false", *changes)
        losses[name] = run.losses()
    assert len(set(losses["plain"])) == BATCHES
    assert losses["all"] == losses["plain"]
    assert losses["second"] == losses["plain"]


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_blocks_that_are_to_be_recomputed_run_forward_twice_and_no_others(new_run, ranks):
    recompute = "fsdp_config.activation_checkpointing=true"
    second = "fsdp_config.activation_checkpointing_interval=2"
    for changes, times in (([recompute], [2, 2]), ([recompute, second], [1, 2])):
        run = new_run(f"forwards{times[0]}{times[1]}")
        command = run.command(ranks, "save_folder=null", "autoresume=false", "max_duration=3ba", *changes)
        counts = run.folder / "counts.json"
        at = command.index("train.py")
        command[at : at + 1] = [str(Path(__file__).with_name("count_forwards.py")), str(counts)]
        subprocess.run(
            command, check=True, cwd=ROOT, timeout=120,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        microbatches = 3 * 2 // ranks
        assert json.loads(counts.read_text()) == [microbatches * each for each in times]


def test_a_compiled_sharded_run_trains_as_an_eager_one_and_resumes(new_run):
    eager, compiled = new_run("eager"), new_run("compiled")
    eager.train(2, *NO_DROPOUT)
    compiled.train_and_kill(2, at_batch=7, saved="ep0-ba5", overrides=[*NO_DROPOUT, "compile_config={}"])
    output = compiled.train(2, *NO_DROPOUT, "compile_config={}")
    assert "resumed at batch" in output
    assert compiled.losses() == pytest.approx(eager.losses(), rel=1e-5)
    assert series(compiled.metrics(), NORM)[1] == pytest.approx(series(eager.metrics(), NORM)[1], rel=1e-3)
