"""A checkpoint that would run code ends the launch that is to go on from it, on all ranks, unless it is trusted."""

import shutil

import pytest
from hostile import put_item, saved, touching


@pytest.mark.slow
def test_a_hostile_checkpoint_runs_only_when_it_is_trusted(new_run, tmp_path):
    flat = {"name": "constant_with_warmup", "t_warmup": "1ba"}
    trunk, mark = new_run("trunk", scheduler=flat, max_duration="5ba"), tmp_path / "was-run"
    trunk.train(2)
    hostile = tmp_path / "elsewhere" / "ep0-ba5"
    shutil.copytree(trunk.checkpoints / "ep0-ba5", hostile)
    put_item(hostile, "state.run_name", saved(touching(mark)["system"]))
    branch = new_run("branch", scheduler=flat, max_duration="7ba", load_path=str(hostile))

    process = branch.start(2)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2 and not mark.exists() and branch.metrics() == {}, output
    assert "state.run_name: asks for posix.system; " in output and "trust_checkpoint: true" in output
    assert output.count("asks for posix.system") == 1

    branch.train(2, "trust_checkpoint=true")
    assert mark.exists() and set(branch.metrics()) == {6, 7}
