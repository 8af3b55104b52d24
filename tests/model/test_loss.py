"""The loss that is made piece by piece is the plain cross entropy, in value and gradients."""

import pytest
import torch
import torch.nn.functional as F

from model import loss
from model.loss import next_token_loss

B, T, D, V = 3, 50, 16, 101


def plain_loss(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, z_loss: float) -> torch.Tensor:
    logits = F.linear(hidden[:, :-1], weight).float().flatten(0, 1)
    targets = labels[:, 1:].flatten()
    log_z = logits.logsumexp(1)[targets != -100]
    return F.cross_entropy(logits, targets, ignore_index=-100) + z_loss * log_z.square().mean()


@pytest.fixture(params=[7, 50, 4096], ids="{} tokens at a time".format)
def piece(request, monkeypatch):
    """Pieces that do not divide the 150 tokens, that do, and one for all."""
    monkeypatch.setitem(loss.TOKENS_AT_A_TIME, "cpu", request.param)


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(2)
    hidden = torch.randn(B, T, D, generator=random).requires_grad_()
    weight = torch.randn(V, D, generator=random).requires_grad_()
    labels = torch.randint(V, (B, T), generator=random)
    labels[0, 10:20] = -100
    labels[2] = -100  # a sequence of which nothing is asked for
    return hidden, weight, labels


@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
def test_value_and_gradients_are_those_of_the_plain_cross_entropy(piece, z_loss):
    (hidden, weight, labels), (hidden_2, weight_2, _) = inputs(), inputs()
    ours, theirs = next_token_loss(hidden, weight, labels, z_loss), plain_loss(hidden_2, weight_2, labels, z_loss)
    (3 * ours).backward()  # the Trainer scales the loss of a microbatch
    (3 * theirs).backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    torch.testing.assert_close(hidden.grad, hidden_2.grad, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(weight.grad, weight_2.grad, rtol=1e-4, atol=1e-7)
    assert hidden.grad[2].abs().max() == 0


def test_under_autocast_it_computes_in_bf16_and_keeps_the_loss_in_fp32(piece):
    (hidden, weight, labels), (hidden_2, weight_2, _) = inputs(), inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, theirs = next_token_loss(hidden, weight, labels), plain_loss(hidden_2, weight_2, labels, 0.0)
    ours.backward()
    theirs.backward()
    assert ours.dtype == weight.grad.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)  # the same bf16 products
    exact, exact_weight, _ = inputs()
    plain_loss(exact, exact_weight, labels, 0.0).backward()
    for mine, bf16, fp32 in ((hidden, hidden_2, exact), (weight, weight_2, exact_weight)):
        error, usual = (mine.grad - fp32.grad).norm(), (bf16.grad - fp32.grad).norm()
        assert error <= 1.2 * usual  # no worse than autograd's own under autocast
        assert usual > 0


def test_without_gradients_the_value_is_the_same_and_none_are_made(piece):
    hidden, weight, labels = inputs()
    with torch.no_grad():
        alone = next_token_loss(hidden, weight, labels)
    assert not alone.requires_grad
    torch.testing.assert_close(alone, next_token_loss(hidden, weight, labels), rtol=0, atol=0)


def test_a_batch_of_which_nothing_is_asked_for_is_no_number(piece):
    hidden, weight, labels = inputs()
    assert next_token_loss(hidden, weight, labels.fill_(-100)).isnan()
