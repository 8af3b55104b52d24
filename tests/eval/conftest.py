"""A GPT-2 tokenizer folder, made on the spot or from the real files, and questions that are our own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import ByteLevelBPETokenizer, Tokenizer, decoders, models, pre_tokenizers, trainers

from eval.sample_questions import write_sample_questions


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Models of this size only lose by more, and on a busy machine lose a lot."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def sample_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with 40 invented questions a task."""
    folder = tmp_path_factory.mktemp("questions")
    write_sample_questions(str(folder), n=40, seed=3)
    return folder


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory, sample_data: Path) -> Path:
    """A byte-level BPE of 600 entries with ``<|endoftext|>`` as the last."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=599, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train([str(path) for path in sample_data.rglob("*.json*")], trainer)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def gpt2_tokenizer_folder(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> Path:
    """GPT-2's own tokenizer, from the vocabulary beside the tiny real GPT-2."""
    source = real_data / "models" / "tiny_gpt2_medical"
    folder = tmp_path_factory.mktemp("gpt2_tokenizer")
    ByteLevelBPETokenizer(str(source / "vocab.json"), str(source / "merges.txt")).save(str(folder / "tokenizer.json"))
    return folder
