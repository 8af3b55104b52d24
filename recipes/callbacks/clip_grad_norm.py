"""Gradient clipping that logs the norm it computed; Composer's GradientClipping throws it away."""

import torch
from composer import Callback, Logger, State
from torch.distributed.tensor import DTensor


class ClipGradNorm(Callback):
    """Scale all gradients so that their global L2 norm is at most ``threshold``.

    Logs ``l2_norm/grad/global``, the norm before clipping, under the name that Composer's OptimizerMonitor gives it.
    """

    def __init__(self, threshold: float):
        self.threshold = threshold
        self.norm: torch.Tensor | None = None  # of the last step, on the device

    def after_train_batch(self, state: State, logger: Logger) -> None:
        norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), self.threshold)
        if isinstance(norm, DTensor):
            norm = norm.full_tensor()
        self.norm = norm
        logger.log_metrics({"l2_norm/grad/global": norm.item()})
