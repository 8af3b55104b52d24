"""Other tokenizers, to compare with."""

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers

from base.errors import UserError


def load_other(name: str, place: str) -> Tokenizer:
    """Another tokenizer to compare with: a folder with ``tokenizer.json``, or with ``vocab.json`` and ``merges.txt``.

    Raises:
        UserError: neither is there.
    """
    folder = Path(place)
    if (folder / "tokenizer.json").is_file():
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        tokenizer = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
        return tokenizer
    raise UserError(
        f"tokenizer.compare_with.{name}: {place} holds neither tokenizer.json nor vocab.json and merges.txt"
    )
