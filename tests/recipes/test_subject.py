"""Folders of Hugging Face models: what is wrong with one is said, and what computed it is told as it was."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from base.errors import UserError
from data_prep.tokenizer.training import train, write_tokenizer
from recipes.evaluation import find_model
from recipes.subject import load_subject

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "llama"
    shape = LlamaConfig(
        vocab_size=400, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64,
    )  # fmt: skip
    LlamaForCausalLM(shape).save_pretrained(folder)
    write_tokenizer(train(iter([["a dose was given to a patient"] * 5]), 280, 2), folder, 64)
    return folder


@pytest.mark.parametrize("content", ["cut off", "a pointer of Git LFS"])
def test_weights_that_are_none_are_named(llama: Path, tmp_path: Path, content: str) -> None:
    folder = Path(shutil.copytree(llama, tmp_path / "damaged"))
    weights = folder / "model.safetensors"
    cut = weights.read_bytes()[:-100]
    weights.write_bytes(cut if content == "cut off" else b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(UserError, match="damaged: transformers cannot load it: Error while deserializing header"):
        load_subject(find_model(str(folder)), CPU)


def test_a_tokenizer_of_ones_own_stands_in_for_one_that_is_missing(llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(llama, tmp_path / "bare", ignore=shutil.ignore_patterns("*token*")))
    (folder / "tokenizer.json").unlink(missing_ok=True)
    with pytest.raises(UserError, match="cannot load its tokenizer"):
        load_subject(find_model(str(folder)), CPU)
    given = load_subject(find_model(str(folder)), CPU, str(llama)).encoder
    assert given.sha256 == load_subject(find_model(str(llama)), CPU).encoder.sha256


def test_the_attention_that_is_told_is_the_one_that_computes(llama: Path) -> None:
    subject = load_subject(find_model(str(llama)), CPU)
    assert f", {subject.scorer.model.config._attn_implementation} (" in subject.about["computed_by"]  # type: ignore[union-attr]
    assert "sdpa" in subject.about["computed_by"]


def test_a_name_on_the_hub_without_its_owner_is_told_what_it_lacks() -> None:
    with pytest.raises(UserError, match="on the hub a model is named owner/model"):
        find_model("gpt2")
