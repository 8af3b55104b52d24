"""The decoder is GPT-2 with BioMedLM's attention scaling, and nothing else."""

from dataclasses import replace

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from model.config import GPTConfig
from model.gpt import GPT, initialize
from model.huggingface import (
    config_from_huggingface,
    config_to_huggingface,
    weights_from_huggingface,
    weights_to_huggingface,
)

SMALL = {"vocab_size": 300, "max_seq_len": 64, "d_model": 64, "n_heads": 4, "n_layers": 6}


def our_model(inverse_layer_scaling: bool = True, std: float = 0.2) -> GPT:
    """Weights ten times the usual, so that a wrong attention temperature cannot hide."""
    config = GPTConfig(**SMALL, initializer_range=std, scale_attn_by_inverse_layer_idx=inverse_layer_scaling)
    model = GPT(config)
    initialize(model, seed=7)
    return model.eval()


def theirs(ours: GPT, attention: str) -> GPT2LMHeadModel:
    model = GPT2LMHeadModel(GPT2Config(**config_to_huggingface(ours.config, 0), attn_implementation=attention))
    missing, unexpected = model.load_state_dict(weights_to_huggingface(ours.state_dict()), strict=False)
    assert missing == ["lm_head.weight"] and not unexpected
    model.tie_weights()
    return model.eval()


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(0, SMALL["vocab_size"], (3, 64), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("inverse_layer_scaling", [True, False])
def test_logits_equal_those_of_transformers_gpt2_with_eager_attention(ids, inverse_layer_scaling):
    ours = our_model(inverse_layer_scaling)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ours, "eager")(ids).logits, atol=1e-4, rtol=0)


def test_sdpa_of_the_pinned_transformers_ignores_the_attention_scaling(ids):
    ours, unscaled = our_model(True), our_model(False)
    with torch.no_grad():
        sdpa = theirs(ours, "sdpa")(ids).logits
        assert (sdpa - ours(ids)).abs().max() > 0.5  # wrong, without a word
        torch.testing.assert_close(sdpa, unscaled(ids), atol=1e-4, rtol=0)  # as if the flag were off


def test_conversion_there_and_back_is_exact():
    ours = our_model()
    back = weights_from_huggingface(theirs(ours, "eager").state_dict())
    assert back.keys() == ours.state_dict().keys()
    assert all(tensor.equal(back[name]) for name, tensor in ours.state_dict().items())
    assert config_from_huggingface(config_to_huggingface(ours.config, 0)) == ours.config


def test_a_head_that_is_not_tied_is_refused():
    state = theirs(our_model(), "eager").state_dict()
    state["lm_head.weight"] = state["lm_head.weight"] + 1
    with pytest.raises(ValueError, match="lm_head"):
        weights_from_huggingface(state)


def test_loss_equals_that_of_transformers(ids):
    ours = our_model()
    with torch.no_grad():
        torch.testing.assert_close(ours(ids, labels=ids), theirs(ours, "eager")(ids, labels=ids).loss)


def test_logits_at_positions_are_those_of_the_full_forward(ids):
    ours = our_model()
    positions = torch.tensor([[0, 5, 63], [1, 1, 2], [10, 20, 30]])
    with torch.no_grad():
        full, some = ours(ids), ours(ids, positions=positions)
    torch.testing.assert_close(some, full.gather(1, positions.unsqueeze(-1).expand(-1, -1, full.shape[-1])))


def test_a_token_never_sees_the_future(ids):
    ours, changed = our_model(), ids.clone()
    changed[:, 40:] = 0
    with torch.no_grad():
        torch.testing.assert_close(ours(ids)[:, :40], ours(changed)[:, :40])


def test_the_2_7b_model_has_exactly_2_594_247_680_parameters():
    config = GPTConfig()
    model = GPT(config, device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == 2_594_247_680 == config.n_parameters


def test_flops_per_token_are_those_of_the_published_convention():
    assert GPTConfig().flops_per_token() == pytest.approx(16.550e9, rel=1e-4)


def test_initial_weights_have_the_published_spread_and_depend_on_the_seed_alone():
    first, again, other = GPT(GPTConfig(**SMALL)), GPT(GPTConfig(**SMALL)), GPT(GPTConfig(**SMALL))
    initialize(first, seed=17)
    torch.manual_seed(99)  # the global random state must not matter
    initialize(again, seed=17)
    initialize(other, seed=18)
    for name, tensor in first.state_dict().items():
        assert tensor.equal(again.state_dict()[name])
    assert not first.wte.weight.equal(other.wte.weight)
    assert first.wte.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert first.blocks[3].attn.c_proj.weight.std().item() == pytest.approx(0.02 / 12**0.5, rel=0.05)
    assert first.blocks[0].mlp.c_fc.bias.abs().max() == 0


def test_more_positions_than_learned_are_refused():
    with pytest.raises(ValueError, match="65 positions"):
        our_model()(torch.zeros(1, 65, dtype=torch.long))


def test_dropout_is_on_in_training_and_off_in_evaluation(ids):
    model = our_model()
    with torch.no_grad():
        assert model(ids).equal(model(ids))
        model.train()
        assert not model(ids).equal(model(ids))


def test_bf16_autocast_stays_within_its_rounding_of_fp32(ids):
    ours = our_model(std=0.02).train()
    for module in ours.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
    losses, gradients = [], []
    for enabled in (False, True):
        ours.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = ours(ids, labels=ids)
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in ours.parameters()]))
    exact, rounded = gradients
    assert 0 < abs(losses[1] - losses[0]) < 2e-3 * losses[0]
    assert 0 < (rounded - exact).norm() < 2e-2 * exact.norm()


def test_the_z_loss_is_in_the_training_loss_and_not_in_that_of_validation(ids):
    config = replace(our_model().config, attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0)
    plain, with_z = GPT(config), GPT(config, z_loss=0.1)
    initialize(plain, seed=7)
    initialize(with_z, seed=7)
    with torch.no_grad():
        expected = 0.1 * plain(ids)[:, :-1].logsumexp(-1).square().mean()
        torch.testing.assert_close(with_z.train()(ids, labels=ids), plain.train()(ids, labels=ids) + expected)
        torch.testing.assert_close(with_z.eval()(ids, labels=ids), plain.eval()(ids, labels=ids))
