"""Run on several ranks: build on the meta device, shard, fill in; rank 0 saves the whole weights."""

import sys

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard

from model.composer_gpt import ComposerGPT
from model.config import GPTConfig
from model.gpt import GPT

CONFIG = GPTConfig(vocab_size=301, max_seq_len=32, d_model=48, n_heads=3, n_layers=2)  # 301: uneven over the ranks
SEED = 17


def main(out: str) -> None:
    dist.init_process_group("gloo")
    gpt = ComposerGPT(GPT(CONFIG, device="meta"), SEED).gpt
    for block in gpt.blocks:
        fully_shard(block)
    fully_shard(gpt)
    gpt.to_empty(device="cpu")
    for module in gpt.modules():  # as Composer's meta_init does it
        gpt.param_init_fn(module)
    whole = {name: tensor.full_tensor() for name, tensor in gpt.state_dict().items()}
    if dist.get_rank() == 0:
        torch.save(whole, out)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
