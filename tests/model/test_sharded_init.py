"""Weights that are filled in after sharding are those of one rank on the CPU, bit for bit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.gpt import GPT, initialize

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))
from sharded_init import CONFIG, SEED  # noqa: E402


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 3])
def test_initial_weights_do_not_depend_on_the_number_of_ranks(tmp_path, ranks):
    out = tmp_path / "weights.pt"
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}",
         FOLDER / "sharded_init.py", out],
        check=True, capture_output=True, cwd=FOLDER.parents[1],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(FOLDER.parents[1])},
    )  # fmt: skip
    alone = GPT(CONFIG)
    initialize(alone, SEED)
    sharded = torch.load(out, weights_only=True)
    assert sharded.keys() == alone.state_dict().keys()
    assert all(tensor.equal(sharded[name]) for name, tensor in alone.state_dict().items())
