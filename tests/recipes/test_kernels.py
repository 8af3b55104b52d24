"""Compiled training is eager training; what is not training runs as it is written."""

from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend

from base.configuration import load_configuration
from base.errors import UserError
from model.config import GPTConfig
from model.gpt import GPT, initialize
from recipes.kernels import attention_order, compile_model, fastest_attention, use_float8
from recipes.schema import Compile, Float8, Training

ROOT = Path(__file__).parents[2]
LAYERS = 10  # more than the eight graphs of one function that torch keeps


NO_DROPOUT = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}


def small(end_of_text: int | None = None, **changes: float) -> GPT:
    shape = GPTConfig(vocab_size=97, max_seq_len=32, d_model=32, n_heads=2, n_layers=LAYERS, **changes)
    gpt = GPT(shape, end_of_text=end_of_text)
    initialize(gpt, seed=3)
    return gpt


@pytest.fixture
def ids():
    torch._dynamo.reset()
    return torch.randint(97, (2, 32), generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [NO_DROPOUT, {}], ids=["without dropout", "with dropout"])
def test_compiled_loss_and_gradients_are_the_eager_ones_and_all_blocks_share_one_graph(ids, dropout):
    """With dropout, too, on the CPU: both draw the same numbers."""
    eager, compiled = small(**dropout), small(**dropout)
    compile_model(compiled, Compile())
    torch._dynamo.utils.counters.clear()
    losses = []
    for gpt in (eager, compiled):
        torch.manual_seed(5)
        losses.append(gpt(ids, labels=ids))
    for loss in losses:
        loss.backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2  # a block, and the loss
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-6, atol=0)
    for (name, theirs), ours in zip(eager.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7, msg=name)
    assert compiled.state_dict().keys() == eager.state_dict().keys()


@pytest.mark.slow
def test_what_was_compiled_for_one_thread_is_taken_up_by_one_thread_only(tmp_path, monkeypatch, ids):
    """The store on disk that a later run finds (TORCHINDUCTOR_CACHE_DIR), as two processes one after the other."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    before = torch.get_num_threads()
    taken_up = []
    try:
        for threads in (1, 1, 2, 2):
            torch._dynamo.reset()
            torch._dynamo.utils.counters.clear()
            torch.set_num_threads(threads)
            gpt = small()
            compile_model(gpt, Compile())
            gpt(ids, labels=ids).backward()
            counters = torch._dynamo.utils.counters
            taken_up.append(counters["aot_autograd"]["autograd_cache_hit"] + counters["inductor"]["fxgraph_cache_hit"])
    finally:
        torch.set_num_threads(before)
    assert [count > 0 for count in taken_up] == [False, True, False, True]


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


@pytest.mark.slow
def test_within_documents_the_cpu_trains_compiled_as_it_does_eager(ids):
    eager, compiled = small(end_of_text=0, **NO_DROPOUT), small(end_of_text=0, **NO_DROPOUT)
    compile_model(compiled, Compile())
    losses = [gpt(ids, labels=ids) for gpt in (eager, compiled)]
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(compiled.wpe.weight.grad, eager.wpe.weight.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["tensorwise", "rowwise"])
def test_products_in_fp8_train_near_those_in_bf16_and_all_blocks_share_one_graph(ids, recipe):
    bf16, fp8 = small(**NO_DROPOUT), small(**NO_DROPOUT)
    use_float8(fp8, Float8(recipe_name=recipe), emulate=True)  # the numbers of FP8; the kernels need a GPU
    for gpt in (bf16, fp8):
        compile_model(gpt, Compile())
    torch._dynamo.utils.counters.clear()
    losses: list[list[float]] = []
    for gpt in (bf16, fp8):
        optimizer = torch.optim.AdamW(gpt.parameters(), lr=3e-3)
        losses.append([])
        for _ in range(10):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = gpt(ids, labels=ids)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses[-1].append(loss.item())
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 3  # two kinds of block, and the loss
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    assert losses[1][-1] < losses[1][0] - 0.5


def test_a_model_in_fp8_keeps_its_weights_their_names_and_what_it_computes_without_training(ids):
    plain, fp8 = small(), small()
    use_float8(fp8, Float8(recipe_name="tensorwise"), emulate=True)
    initialize(fp8, seed=3)
    assert fp8.state_dict().keys() == plain.state_dict().keys()
    for name, weight in plain.state_dict().items():
        assert torch.equal(fp8.state_dict()[name], weight), name
    with torch.no_grad():
        assert torch.equal(fp8.eval()(ids), plain.eval()(ids))
        assert not torch.equal(fp8.train()(ids), plain.train()(ids))


def test_cudnn_s_attention_is_tried_first_where_it_is_fastest():
    first = [attention_order(capability)[0] for capability in [(9, 0), (10, 0), (8, 0), None]]
    assert first == [SDPBackend.CUDNN_ATTENTION] * 2 + [SDPBackend.FLASH_ATTENTION] * 2
    here = torch.cuda.get_device_capability() if torch.cuda.is_available() else None
    with fastest_attention():
        assert torch._C._get_sdp_priority_order()[0] == attention_order(here)[0].value


def test_what_fp8_needs_is_asked_for_at_once():
    overrides = ["float8={recipe_name: tensorwise}", "compile_config=null", "precision=fp32", "model.d_model=2568",
                 "model.n_heads=8"]  # fmt: skip
    with pytest.raises(UserError) as refused:
        load_configuration(str(ROOT / "yamls" / "biomedlm.yaml"), overrides, Training)
    for fault in ("compile_config={}", "amp_bf16, which is fp32", "multiples of 16", "a100_40gb has no FP8"):
        assert fault in str(refused.value)
