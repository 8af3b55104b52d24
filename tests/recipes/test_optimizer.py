"""torch's fused AdamW with decay divided by the initial rate is Composer's DecoupledAdamW, in one group or in two."""

import pytest
import torch
from composer.optim import DecoupledAdamW

from model.config import GPTConfig
from model.gpt import GPT, initialize
from recipes.build import build_optimizer
from recipes.schema import DecoupledAdamW as Settings

SHAPE = GPTConfig(vocab_size=40, max_seq_len=16, d_model=16, n_heads=2, n_layers=2, attn_pdrop=0, resid_pdrop=0,
                  embd_pdrop=0)  # fmt: skip
EMBEDDINGS = {"wte.weight", "wpe.weight"}


def test_fused_adamw_equals_decoupled_adamw_over_a_decaying_schedule():
    settings = Settings(name="decoupled_adamw", lr=1.6e-2, betas=[0.9, 0.95], eps=1e-8, weight_decay=1.6e-3)
    torch.manual_seed(0)
    ours, theirs = torch.nn.Linear(16, 16), torch.nn.Linear(16, 16)
    theirs.load_state_dict(ours.state_dict())
    start = ours.weight.detach().clone()
    fused = build_optimizer(settings, ours)
    looped = DecoupledAdamW(
        theirs.parameters(), lr=settings.lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=settings.weight_decay
    )
    for step in range(200):
        x = torch.randn(8, 16, generator=torch.Generator().manual_seed(step))
        for model, optimizer in ((ours, fused), (theirs, looped)):
            optimizer.param_groups[0]["lr"] = settings.lr * (1 - step / 200)
            optimizer.zero_grad()
            model(x).pow(2).sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight, atol=1e-6, rtol=0)
    assert (ours.weight - start).abs().max() > 0.1


def gpt() -> GPT:
    model = GPT(SHAPE)
    initialize(model, seed=1)
    return model


def settings(**changes) -> Settings:
    return Settings(name="decoupled_adamw", **{"lr": 1.6e-2, "weight_decay": 1.6e-3, **changes})


def names_without_decay(model: GPT, *kinds: str) -> set[str]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    optimizer = build_optimizer(settings(no_weight_decay=list(kinds)), model)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(names)
    return {
        names[parameter]
        for group in optimizer.param_groups
        for parameter in group["params"]
        if group["weight_decay"] == 0
    }


def test_each_kind_excludes_what_it_names_and_nothing_else():
    model = gpt()
    everything = {name for name, _ in model.named_parameters()}
    norms = {name for name in everything if ".ln_" in name or name.startswith("ln_f")}
    biases = {name for name in everything if name.endswith("bias")}
    assert len(norms) == 10 and len(biases) == 13
    assert names_without_decay(model) == set()
    assert names_without_decay(model, "embeddings") == EMBEDDINGS
    assert names_without_decay(model, "norms") == norms
    assert names_without_decay(model, "biases") == biases
    products = {name for name in everything if name.split(".")[-2] in ("c_attn", "c_proj", "c_fc")} - biases
    assert everything - names_without_decay(model, "embeddings", "norms", "biases") == products


@pytest.mark.parametrize("kinds", [[], ["embeddings", "norms", "biases"]])
def test_with_and_without_exclusions_the_update_is_composers_over_a_decaying_schedule(kinds):
    """Both are given the same gradients: where they are rounding alone (biases of keys), Adam makes steps of them."""
    ours, theirs = gpt(), gpt()
    fused = build_optimizer(settings(no_weight_decay=kinds), ours)
    excluded = names_without_decay(gpt(), *kinds)
    by_name = dict(theirs.named_parameters())
    looped = DecoupledAdamW(
        [
            {"params": [by_name[name] for name in by_name if name not in excluded]},
            {"params": [by_name[name] for name in by_name if name in excluded], "weight_decay": 0.0},
        ],
        lr=1.6e-2,
        betas=(0.9, 0.95),
        eps=1e-8,
        weight_decay=1.6e-3,
    )
    generator = torch.Generator().manual_seed(0)
    for step in range(200):
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
        for optimizer in (fused, looped):
            for group in optimizer.param_groups:
                group["lr"] = 1.6e-2 * (1 - step / 200)
            optimizer.step()
    for name, mine in ours.named_parameters():
        torch.testing.assert_close(
            mine, by_name[name], atol=1e-6, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_what_is_excluded_stays_and_what_is_not_decays_where_there_is_no_gradient():
    model = gpt()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = build_optimizer(settings(no_weight_decay=["embeddings"]), model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 1.0 if name in EMBEDDINGS else 1 - 1.6e-3  # Composer's: weight_decay times the multiplier of the rate
        torch.testing.assert_close(parameter.detach(), before[name] * factor, rtol=1e-6, atol=0)
