"""Compiled training is eager training; what is not training runs as it is written."""

import pytest
import torch

from model.config import GPTConfig
from model.gpt import GPT, initialize
from recipes.kernels import compile_model
from recipes.schema import Compile

LAYERS = 10  # more than the eight graphs of one function that torch keeps


def small(**changes: float) -> GPT:
    gpt = GPT(GPTConfig(vocab_size=97, max_seq_len=32, d_model=32, n_heads=2, n_layers=LAYERS, **changes))
    initialize(gpt, seed=3)
    return gpt


@pytest.fixture
def ids():
    torch._dynamo.reset()
    return torch.randint(97, (2, 32), generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
def test_compiled_loss_and_gradients_are_the_eager_ones_and_all_blocks_share_one_graph(ids):
    eager = small(attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0)
    compiled = small(attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0)
    compile_model(compiled, Compile())
    torch._dynamo.utils.counters.clear()
    losses = [gpt(ids, labels=ids) for gpt in (eager, compiled)]
    for loss in losses:
        loss.backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2  # a block, and the loss
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-6, atol=0)
    for (name, theirs), ours in zip(eager.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7, msg=name)
    assert compiled.state_dict().keys() == eager.state_dict().keys()


@pytest.mark.slow
def test_scoring_a_compiled_model_compiles_nothing_more(ids):
    gpt = small()
    compile_model(gpt, Compile())
    torch._dynamo.utils.counters.clear()
    gpt.eval()
    with torch.no_grad():
        for length in (5, 9, 17):
            assert gpt(ids[:, :length]).shape == (2, length, 97)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 0
