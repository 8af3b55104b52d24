"""The next-token loss from hidden states, without ever holding all logits.

Logits are by far the widest activation: 28,896 numbers a token, against 2,560 of the residual stream. They are made for
some thousand tokens at a time, and the gradient of a piece is made at once, while its logits are there; nothing of them
is kept for the backward pass, and nothing is computed twice.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Tokens whose logits exist at one time: on a GPU 236 MB of bf16 logits for 28,896 entries, in products large enough for
# it; on a CPU 30 MB in fp32, of which much stays in its caches until they are used.
TOKENS_AT_A_TIME = {"cuda": 4096, "cpu": 256}

PieceOfLoss = Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]


def piece_of_loss(logits: Tensor, targets: Tensor, count: Tensor, z_loss: float) -> tuple[Tensor, Tensor]:
    """Loss of n tokens and its gradient: n V logits, n targets → the sum (fp32), and d(sum / count) / d(logits), n V.

    A function of its own because compiled it makes two passes over the logits, where eager mode makes ten.
    """
    asked = (targets != -100).unsqueeze(1)  # n 1
    targets = targets.clamp_min(0).unsqueeze(1)
    scores = logits.float()
    log_z = scores.logsumexp(1, keepdim=True)
    loss = (log_z - scores.gather(1, targets) + z_loss * log_z.square()).masked_fill(~asked, 0.0).sum()
    share = asked / count  # n 1
    d_logits = (scores - log_z).exp_().mul_(share * (1.0 + 2.0 * z_loss * log_z)).scatter_add_(1, targets, -share)
    return loss, d_logits.to(logits.dtype)


def next_token_loss(
    hidden: Tensor, weight: Tensor, labels: Tensor, z_loss: float = 0.0, piece: PieceOfLoss = piece_of_loss
) -> Tensor:
    """Mean cross entropy in nats of each label given the hidden state before it.

    Args:
        hidden: B T D, the normed output of the last block.
        weight: V D, the head.
        labels: B T, int64, usually the input itself; position t is asked for label t + 1. -100 is not asked for.
        z_loss: coefficient of the mean of log(Z)², which keeps the softmax's normaliser near 1 (PaLM, section 5).
        piece: ``piece_of_loss``, as it is or compiled.

    Returns:
        A scalar in fp32, with the z-loss in it. NaN when no label is asked for, as F.cross_entropy has it.

    Computed in the dtype of autocast where that is on, as F.linear would be; softmax, loss and the sums over pieces in
    fp32.
    """
    targets = labels.new_full(labels.shape, -100)
    targets[:, :-1] = labels[:, 1:]
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    loss: Tensor = _ChunkedCrossEntropy.apply(hidden.flatten(0, 1).to(dtype), weight, targets.flatten(), z_loss, piece)
    return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    """hidden (N D, in the dtype to compute in), weight (V D), targets (N) → the mean; gradients are made on the way."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, z_loss: float, piece: PieceOfLoss) -> Tensor:
        wants_gradient = any(ctx.needs_input_grad)
        head = weight.to(hidden.dtype)
        count = (targets != -100).sum()
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if wants_gradient else None
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if wants_gradient else None
        length = TOKENS_AT_A_TIME[hidden.device.type]
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, hidden.shape[0], length):
                some = slice(start, start + length)
                loss, d_logits = piece(F.linear(hidden[some], head), targets[some], count, z_loss)
                total += loss
                if d_hidden is not None and d_weight is not None:
                    torch.mm(d_logits, head, out=d_hidden[some])
                    if hidden.dtype == d_weight.dtype:
                        d_weight.addmm_(d_logits.t(), hidden[some])
                    else:
                        d_weight += d_logits.t() @ hidden[some]
        ctx.save_for_backward(d_hidden, d_weight)
        ctx.weight_dtype = weight.dtype
        return total / count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden * gradients[0], (d_weight * gradients[0]).to(ctx.weight_dtype), None, None, None
