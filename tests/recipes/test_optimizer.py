"""torch's fused AdamW with decay divided by the initial rate is Composer's DecoupledAdamW."""

import torch
from composer.optim import DecoupledAdamW

from recipes.build import build_optimizer
from recipes.schema import DecoupledAdamW as Settings


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
