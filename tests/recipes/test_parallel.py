"""What sharding is told, where a GPU alone would show what it does."""

import pytest
import torch
from composer.core import Precision
from composer.distributed.fsdp2 import create_mixed_precision_policy

from recipes.parallel import build_parallelism
from recipes.schema import FSDP


@pytest.mark.parametrize(("name", "reduced_in"), [("DEFAULT", torch.float32), ("PURE", torch.bfloat16)])
def test_weights_are_gathered_in_bf16_and_gradients_reduced_in_fp32_or_when_asked_in_bf16(name, reduced_in):
    config = build_parallelism(FSDP(mixed_precision=name))["fsdp"]
    policy = create_mixed_precision_policy(Precision.AMP_BF16, config.mixed_precision)
    assert (policy.param_dtype, policy.reduce_dtype) == (torch.bfloat16, reduced_in)
