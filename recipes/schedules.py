"""Schedules of the learning rate that Composer 0.32.1 does not have."""

import math
from typing import Literal

from composer.core import State
from composer.optim.scheduler import _convert_time  # as Composer's own schedulers do: dur and ep need the state


class WarmupStableDecay:
    """A linear warmup, a constant rate, and a decay that ends with the run (WSD; Hu et al. 2024, arXiv 2404.06395).

    Until the decay begins the multiplier depends on ``t_warmup`` alone, so runs of different lengths share their
    beginning: one trunk, decayed from several of its checkpoints, gives the models of several token budgets. The two
    forms are those that Hägele et al. 2024 (arXiv 2405.18392) compare.

    Args:
        t_warmup: length of the warmup.
        t_decay: length of the decay, which ends at the Trainer's max_duration.
        form: how the multiplier falls over the part x of the decay: ``1-sqrt`` as 1 - √x, ``linear`` as 1 - x.
        alpha_f: the multiplier at the end.

    Times are Composer's: ``100ba``, ``1ep``, ``0.2dur``. Called with Composer's State it gives the multiplier, and
    raises ValueError when the times and max_duration are not in one unit (epochs count as batches).
    """

    def __init__(self, t_warmup: str, t_decay: str, form: Literal["1-sqrt", "linear"], alpha_f: float):
        self.t_warmup, self.t_decay, self.form, self.alpha_f = t_warmup, t_decay, form, alpha_f

    def __call__(self, state: State) -> float:
        warmup, decay, end = (_convert_time(time, state) for time in (self.t_warmup, self.t_decay, "1dur"))
        if not warmup.unit == decay.unit == end.unit:
            raise ValueError(
                f"t_warmup {self.t_warmup}, t_decay {self.t_decay} and max_duration {state.max_duration} must have "
                "the same unit"
            )
        now = state.timestamp.get(end.unit).value
        if now < warmup.value:
            return now / warmup.value
        into_decay = now - (end.value - decay.value)
        if into_decay <= 0:
            return 1.0
        x = min(into_decay / decay.value, 1.0)
        falling = 1 - math.sqrt(x) if self.form == "1-sqrt" else 1 - x
        return self.alpha_f + (1 - self.alpha_f) * falling
