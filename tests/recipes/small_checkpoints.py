"""Checkpoints as a run writes them, of models that take no time."""

import shutil
from pathlib import Path

import torch.distributed.checkpoint as dcp

from base import storage
from data_prep.tokenizer.training import train, write_tokenizer
from model.checkpoint import write_manifest
from model.config import GPTConfig
from model.gpt import GPT, initialize


def write_checkpoint(place: Path, seed: int, batch: int, scale: float = 1.0) -> None:
    shutil.rmtree(place, ignore_errors=True)
    tokenizer = train(iter([["a dose was given to a patient"] * 5]), 280, 2)
    shape = GPTConfig(vocab_size=tokenizer.get_vocab_size(), max_seq_len=256, d_model=16, n_heads=2, n_layers=1)
    model = GPT(shape)
    initialize(model, seed=seed)
    state = {"state": {"model": {f"gpt.{name}": tensor * scale for name, tensor in model.state_dict().items()}}}
    dcp.save(state, checkpoint_id=place, no_dist=True)
    write_tokenizer(tokenizer, place, 256)
    files = {one.name: {"size": one.stat().st_size, "sha256": storage.sha256(one)} for one in sorted(place.iterdir())}
    about = {"format": 1, "epoch": 0, "batch": batch, "token": 100 * batch, "model": shape.to_dict()}
    write_manifest(str(place), about | {"files": files})
