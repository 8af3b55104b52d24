"""Real launches on the CPU: sharding changes nothing, a killed run becomes the run that would have been."""

import json

import pytest

from model.checkpoint import list_checkpoints
from recipes.report import LOSS
from recipes.schema import FSDP

pytestmark = pytest.mark.slow

NO_DROPOUT = {"model.attn_pdrop=0.0", "model.resid_pdrop=0.0", "model.embd_pdrop=0.0"}


def test_a_killed_run_resumes_bit_for_bit_within_an_epoch_and_at_its_end(new_run):
    """Dropout on. Killed at batch 8 (saved at 5) and, after the end of the first epoch (12), at 14 (saved at 12)."""
    whole, killed = new_run("whole", save_interval="4ba"), new_run("killed", save_interval="4ba")
    whole.train(2)
    killed.train_and_kill(2, at_batch=7)
    killed.train_and_kill(2, at_batch=14)
    output = killed.train(2)
    assert "resumed at batch 12" in output
    assert len(whole.losses()) == 20
    assert killed.losses() == whole.losses()
    for name in ("l2_norm/grad/global", "lr-AdamW/group0"):
        assert [e.get(name) for e in killed.metrics().values()] == [e.get(name) for e in whole.metrics().values()]


def test_one_rank_and_two_ranks_give_the_same_losses_and_a_damaged_checkpoint_is_left_out(new_run):
    one, two = new_run("one"), new_run("two")
    one.train(1, *NO_DROPOUT)
    two.train(2, *NO_DROPOUT)
    assert two.losses() == pytest.approx(one.losses(), rel=1e-5)
    assert two.losses()[-1] < two.losses()[0] - 0.05

    # Two ranks wrote; damage the newest, cut the manifest off the one before: the third from the end is taken.
    newest, before = two.checkpoints / "ep1-ba20", two.checkpoints / "ep1-ba15"
    shard = newest / "__1_0.distcp"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    (before / "manifest.json").unlink()
    output = two.train(1, *NO_DROPOUT)
    assert "__1_0.distcp: its sha256 is not the manifest's" in output
    assert "resumed at batch 10" in output
    assert two.losses() == pytest.approx(one.losses(), rel=1e-5)
    assert [found.batch for found in list_checkpoints(str(two.checkpoints)) if found.whole] == [5, 10, 15, 20]


def test_retention_keeps_the_newest_whole_checkpoints_and_hybrid_sharding_trains_alike(new_run):
    run = new_run("kept", save_num_checkpoints_to_keep=2, fsdp_config=FSDP().model_dump())
    run.train(2, *NO_DROPOUT, "save_interval=4ba")
    assert [found.batch for found in list_checkpoints(str(run.checkpoints))] == [16, 20]
    manifest = json.loads((run.checkpoints / "ep1-ba20" / "manifest.json").read_text())
    assert {"__0_0.distcp", "__1_0.distcp", ".metadata", "tokenizer.json"} <= set(manifest["files"])
    hybrid = new_run("hybrid", fsdp_config={"sharding_strategy": "HYBRID_SHARD", "data_parallel_shard_degree": 1})
    hybrid.train(2, *NO_DROPOUT)
    assert hybrid.losses() == pytest.approx(run.losses(), rel=1e-5)
    assert all(LOSS in entry for entry in hybrid.metrics().values())
