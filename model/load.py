"""A decoder and its tokenizer from a checkpoint of ours, or from a Hugging Face folder, on the CPU."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from base import storage
from base.errors import UserError
from model.checkpoint import fetch, load_weights, resolve
from model.config import END_OF_TEXT
from model.gpt import GPT
from model.huggingface import config_from_huggingface, weights_from_huggingface


@dataclass
class Loaded:
    """A model in evaluation mode, its tokenizer, and the local folder they came from."""

    model: GPT
    tokenizer: Tokenizer
    folder: Path

    @property
    def end_of_text(self) -> int:
        """Id of the token that ends a document."""
        token = self.tokenizer.token_to_id(END_OF_TEXT)
        if token is None:
            raise UserError(f"{self.folder}/tokenizer.json: has no {END_OF_TEXT}")
        return token


@contextmanager
def open_model(location: str) -> Iterator[Loaded]:
    """Load a checkpoint (local or s3://, or the newest whole one of a folder) or a local Hugging Face folder.

    Raises:
        UserError: there is neither, or it is not a GPT-2 that this model can take.
    """
    if not storage.is_remote(location) and (Path(location) / "config.json").exists():
        yield _from_huggingface(Path(location))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        fetch(resolve(location), folder)
        yield from_checkpoint(folder)


def from_checkpoint(folder: Path) -> Loaded:
    """Load a checkpoint of ours from the local folder that :func:`model.checkpoint.fetch` has filled."""
    config, weights = load_weights(folder)
    return Loaded(_model(GPT(config, device="meta"), weights), _tokenizer(folder), folder)


def _from_huggingface(folder: Path) -> Loaded:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = config_from_huggingface(json.loads((folder / "config.json").read_bytes()))
        state: dict = {}
        for file in sorted(folder.glob("*.safetensors")):
            state |= load_file(file)
        if not state:
            raise UserError(f"{folder}: no *.safetensors; other formats can run code when they are read")
        weights = weights_from_huggingface(state)
        return Loaded(_model(GPT(config, device="meta"), weights), _tokenizer(folder), folder)
    except (ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder}: not a GPT-2 that can be read: {error}") from error


def _model(empty: GPT, weights: dict) -> GPT:
    empty.load_state_dict(weights, assign=True)
    return empty.eval()


def _tokenizer(folder: Path) -> Tokenizer:
    if (folder / "tokenizer.json").exists():
        try:
            return Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises Exception itself
            raise UserError(f"{folder}/tokenizer.json: not a tokenizer: {error}") from error
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        from tokenizers import ByteLevelBPETokenizer

        return ByteLevelBPETokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))._tokenizer
    raise UserError(f"{folder}: no tokenizer.json, and no vocab.json with merges.txt")
