"""The likelihood of texts is what its definition says, whatever the batches, the ranks and the lengths."""

import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from math import exp, log
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from base.errors import UserError
from eval import rolling
from eval.bits_per_byte import DocumentScore, TextScore, difference, ratio_with_interval, score_texts
from eval.prompts import FastEncoder, load_tokenizer
from eval.rolling import EncodedTexts, Window, encode_texts, measure
from eval.scoring import LogitsAt
from eval.texts import Texts, load_texts
from eval.transformers_scorer import TransformersScorer

LENGTH = 32  # tokens that the small model reads


def small_gpt2(vocab_size: int) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    shape = GPT2Config(vocab_size=vocab_size, n_positions=LENGTH, n_embd=32, n_layer=2, n_head=2)
    shape._attn_implementation = "eager"
    model = GPT2LMHeadModel(shape)
    with torch.no_grad():  # a fresh GPT-2 gives nearly equal logits; these differ enough for a test to see mistakes
        model.transformer.wte.weight.mul_(20)
    return model.eval()


def some_texts(folder: Path, sizes: Sequence[int]) -> Texts:
    """Documents of so many words."""
    chosen = random.Random(7)
    words = ["patients", "µg", "0.05", "treatment.", "\n", "\U0001f9ec", "Aspirin", "of", "a", "(n=12)"]
    texts = [" ".join(chosen.choices(words, k=size)) for size in sizes]
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return load_texts("texts", str(folder / "texts.jsonl"))


@pytest.fixture(scope="module")
def encoder(tokenizer_folder: Path) -> FastEncoder:
    return FastEncoder(load_tokenizer(str(tokenizer_folder)))


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    return small_gpt2(600)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Texts:
    return some_texts(tmp_path_factory.mktemp("texts"), [*range(1, 12), 20, 40, 41, 42, 43, 100, 333])


def scored(encoded: EncodedTexts, logits_at: LogitsAt, batch_size: int = 8) -> tuple[TextScore, list[DocumentScore]]:
    return score_texts(encoded, measure(encoded, logits_at, batch_size))


def forward(model: torch.nn.Module, ids: Sequence[int], predicted: int) -> float:
    """By definition: one row, no padding, all logits; the nats of its last so many tokens."""
    with torch.no_grad():
        logits = model(torch.tensor([ids[:-1]])).logits[0].double().log_softmax(-1)
    return -sum(float(logits[place - 1, ids[place]]) for place in range(len(ids) - predicted, len(ids)))


def in_windows(model: torch.nn.Module, ids: Sequence[int], length: int, context: int) -> float:
    """The same, token by token: each from the tokens before it in its window."""
    total, begin, end = 0.0, 0, min(length, len(ids) - 1)  # `end` is the last token that this window predicts
    place = 1
    while place < len(ids):
        if place > end:
            end = min(place + length - context, len(ids) - 1)
            begin = end - length
        total += forward(model, ids[begin : place + 1], 1)
        place += 1
    return total


def test_a_document_within_the_context_equals_a_full_forward_by_transformers(
    texts: Texts, encoder: FastEncoder, model: GPT2LMHeadModel
) -> None:
    encoded = encode_texts(texts, encoder, LENGTH)
    _, found = scored(encoded, TransformersScorer(model).logits_at)
    short = 0
    for document, score in zip(texts.documents, found, strict=True):
        (ids,) = encoder([document.text])
        assert encoder.beginning_of_text is not None
        if len(ids) <= LENGTH:
            short += 1
            assert score.nats == pytest.approx(forward(model, [encoder.beginning_of_text, *ids], len(ids)), rel=1e-5)
    assert short > 3


@pytest.mark.parametrize("context", [1, 2, 16, 31, 32])
def test_a_longer_document_equals_a_loop_over_its_windows(
    texts: Texts, encoder: FastEncoder, model: GPT2LMHeadModel, context: int
) -> None:
    encoded = encode_texts(texts, encoder, LENGTH, context)
    _, found = scored(encoded, TransformersScorer(model).logits_at)
    for tokens, score in zip(encoded.tokens, found, strict=True):
        if len(tokens) < 400:
            assert score.nats == pytest.approx(in_windows(model, tokens.tolist(), LENGTH, context), rel=1e-5)


@pytest.mark.parametrize("context", [1, 300])
def test_a_real_gpt2_on_real_text_equals_a_loop_over_its_windows(
    real_data: Path, gpt2_tokenizer_folder: Path, tmp_path: Path, context: int
) -> None:
    folder = real_data / "models" / "tiny_gpt2_medical"
    real = GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager").eval()
    text = (real_data / "text" / "ncbi-disease" / "NCBItrainset_corpus.txt").read_text()
    (tmp_path / "long.txt").write_text(text[:7_000])
    (tmp_path / "short.txt").write_text(text[:1_000])
    gpt2 = FastEncoder(load_tokenizer(str(gpt2_tokenizer_folder)))
    start = gpt2([text[:10]])[0][0]  # this tokenizer folder has no <|endoftext|>; any token will do here
    gpt2.beginning_of_text = start
    encoded = encode_texts(load_texts("real", str(tmp_path)), gpt2, 1024, context)
    _, found = scored(encoded, TransformersScorer(real).logits_at)
    for tokens, score in zip(encoded.tokens, found, strict=True):
        ids, total, done = tokens.tolist(), 0.0, 0
        while done < len(ids) - 1:
            end = min(done + (1024 - context + 1 if done else 1024), len(ids) - 1)
            total += forward(real, ids[max(0, end - 1024) : end + 1], end - done)
            done = end
        assert score.nats == pytest.approx(total, rel=1e-5)
    assert {len(tokens) > 1025 for tokens in encoded.tokens} == {True, False}


@pytest.mark.parametrize("context", [1, 2, 7, 16])
@pytest.mark.parametrize("tokens", [1, 2, 15, 16, 17, 31, 32, 33, 34, 100])
def test_each_token_is_predicted_once_and_no_window_is_longer_than_the_context(tokens: int, context: int) -> None:
    windows = list(rolling._windows(0, tokens, 16, context))
    assert [place for window in windows for place in range(window.first, window.end)] == list(range(1, tokens + 1))
    assert all(1 <= window.length <= 16 and window.predicted >= 1 for window in windows)
    assert windows[0].begin == 0
    for window in windows[1:]:
        assert window.length == 16 and window.first - window.begin >= context


def test_scores_do_not_depend_on_batches_or_ranks(
    texts: Texts, encoder: FastEncoder, model: GPT2LMHeadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = encode_texts(texts, encoder, LENGTH)
    logits_at = TransformersScorer(model).logits_at
    one, _ = scored(encoded, logits_at, batch_size=1)
    calls: list[int] = []

    def counted(ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return logits_at(ids, positions)

    for batch_size, ranks in ((3, 1), (1000, 1), (2, 2), (5, 3), (1000, 64)):
        found: dict[int, float] = {}
        numbers = set()
        for rank in range(ranks):
            calls.clear()
            told: list[int] = []
            mine = measure(encoded, counted, batch_size, rank, ranks, told.append)
            numbers.add(len(calls))
            assert sum(told) == encoded.predicted and not mine.keys() & found.keys()
            found |= mine
        assert len(numbers) == 1  # as sharded models require
        score, _ = score_texts(encoded, found)
        assert score.bits_per_byte == pytest.approx(one.bits_per_byte, rel=1e-5)
        assert replace(score, **{name: getattr(one, name) for name in AVERAGES}) == one
    monkeypatch.setattr(rolling, "SOFTMAX_BYTES", 1)
    monkeypatch.setattr(rolling, "LOGITS_BYTES", 1)
    assert scored(encoded, logits_at, 1000)[0].bits_per_byte == pytest.approx(one.bits_per_byte, rel=1e-5)


AVERAGES = ("bits_per_byte", "ci95", "nats_per_token", "byte_perplexity", "word_perplexity", "token_perplexity")


def test_logits_of_a_batch_stay_within_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = random.Random(1)
    windows = [
        Window(number, 0, first, first + chosen.randint(1, 16))
        for number in range(300)
        for first in (chosen.randint(1, 5),)
    ]
    monkeypatch.setattr(rolling, "LOGITS_BYTES", 4 * 600 * 50)
    batches = rolling._batches(windows, 7, 600)
    assert sorted(number for batch in batches for number in batch) == list(range(300))
    for batch in batches:
        most = max(windows[number].predicted for number in batch)
        assert 1 <= len(batch) <= 7 and len(batch) * most <= 50
    assert min(map(len, batches[:-1])) >= 3  # 50 places, rows of 16 at most: none is cut off too early


# --- the score ---------------------------------------------------------------------------------------------------


def test_perplexities_are_of_the_bytes_words_and_tokens_of_the_text(texts: Texts, encoder: FastEncoder) -> None:
    def uniform(ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*positions.shape, 600)

    score, documents = scored(encode_texts(texts, encoder, LENGTH), uniform)
    contents = [document.text for document in texts.documents]
    size = sum(len(text.encode()) for text in contents)
    tokens = sum(map(len, encoder(contents)))
    assert (score.documents, score.bytes, score.tokens) == (len(contents), size, tokens)
    assert score.token_perplexity == pytest.approx(600)
    assert score.nats_per_token == pytest.approx(log(600))
    assert score.bits_per_byte == pytest.approx(tokens * log(600) / log(2) / size)
    assert score.byte_perplexity == pytest.approx(2**score.bits_per_byte)
    words = sum(len(text.split()) + text[0].isspace() + text[-1].isspace() for text in contents)  # as lm-eval counts
    assert score.words == words
    assert score.word_perplexity == pytest.approx(exp(tokens * log(600) / words))
    assert [document.nats for document in documents] == pytest.approx(
        [document.tokens * log(600) for document in documents]
    )
    assert score.ci95 is not None and score.ci95[0] < score.bits_per_byte < score.ci95[1]
    json.dumps([asdict(score), *map(asdict, documents)], allow_nan=False)


def test_a_text_without_spaces_has_no_perplexity_per_word(tmp_path: Path, encoder: FastEncoder) -> None:
    (tmp_path / "a.txt").write_text("ACGT" * 2000)
    encoded = encode_texts(load_texts("dna", str(tmp_path)), encoder, LENGTH)
    score, _ = scored(encoded, lambda ids, positions: torch.zeros(*positions.shape, 600))
    assert score.word_perplexity is None and score.token_perplexity == pytest.approx(600)
    assert score.ci95 is None  # of one document
    json.dumps(asdict(score), allow_nan=False)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    chosen = random.Random(3)

    def sample() -> tuple[list[float], list[int]]:
        sizes = [chosen.randint(200, 20_000) for _ in range(60)]
        return [size * chosen.gauss(1.1, 0.2) for size in sizes], sizes

    held = 0
    for _ in range(1000):
        _, interval = ratio_with_interval(*sample())
        assert interval is not None
        held += interval[0] <= 1.1 <= interval[1]
    assert 920 <= held <= 970  # 950, and 60 documents are few


def test_the_difference_of_two_models_is_paired_by_document() -> None:
    chosen = random.Random(4)
    before = [
        DocumentScore("set", f"{n}", f"{n:064x}", size, 1, 1, size * chosen.gauss(0.8, 0.1))
        for n in range(40)
        for size in (chosen.randint(100, 9000),)
    ]
    after = [replace(one, nats=one.nats + one.bytes * chosen.gauss(0.01, 0.002)) for one in before]
    found = difference(before, after[::-1])
    bits = [sum(one.nats for one in scores) / log(2) / sum(one.bytes for one in scores) for scores in (before, after)]
    assert found.bits_per_byte == pytest.approx(bits[1] - bits[0])
    assert found.ci95 is not None and 0 < found.ci95[0] < found.bits_per_byte < found.ci95[1]
    alone = ratio_with_interval([one.nats / log(2) for one in before], [one.bytes for one in before])[1]
    assert alone is not None and found.ci95[1] - found.ci95[0] < (alone[1] - alone[0]) / 10
    with pytest.raises(UserError, match="not of the same documents"):
        difference(before, after[1:])


def test_the_hash_is_of_what_was_measured(tmp_path: Path, encoder: FastEncoder) -> None:
    def hash_of(folder: str, *texts: str) -> str:
        (tmp_path / folder).mkdir()
        for number, text in enumerate(texts):
            (tmp_path / folder / f"{number}.txt").write_text(text)
        encoded = encode_texts(load_texts(folder, str(tmp_path / folder)), encoder, LENGTH)
        return scored(encoded, lambda ids, positions: torch.zeros(*positions.shape, 600))[0].texts_sha256

    same = hash_of("a", "One.", "Two.")
    assert same == hash_of("b", "Two.", "One.")
    assert len({same, hash_of("c", "One."), hash_of("d", "One.", "Two. "), hash_of("e", "One.Two.")}) == 4


def test_a_document_that_the_tokenizer_makes_nothing_of_is_refused(tmp_path: Path, encoder: FastEncoder) -> None:
    class Deaf:
        sha256, beginning_of_text = "x", 599

        def __call__(self, texts: Sequence[str]) -> list[list[int]]:
            return [ids if "z" not in text else [] for text, ids in zip(texts, encoder(texts), strict=True)]

    for name in ("fine", "zebra"):
        (tmp_path / f"{name}.txt").write_text(name)
    encoded = encode_texts(load_texts("set", str(tmp_path)), Deaf(), LENGTH)
    score, documents = scored(encoded, lambda ids, positions: torch.zeros(*positions.shape, 600))
    assert [document.id for document in documents] == ["fine.txt"] and score.bytes == 4
    assert [(entry.id, entry.reason) for entry in score.refused] == [
        ("zebra.txt", "the tokenizer makes no token of it")
    ]
    (tmp_path / "fine.txt").unlink()
    with pytest.raises(UserError, match="makes no token of any text"):
        scored(encode_texts(load_texts("set", str(tmp_path)), Deaf(), LENGTH), lambda ids, positions: torch.zeros(0))


def test_wrong_models_and_tokenizers_are_named(texts: Texts, encoder: FastEncoder, tokenizer_folder: Path) -> None:
    encoded = encode_texts(texts, encoder, LENGTH)

    def gives(value: float, vocabulary: int = 600) -> Callable[[Any, torch.Tensor], torch.Tensor]:
        return lambda ids, positions: torch.full((*positions.shape, vocabulary), value)

    with pytest.raises(UserError, match="the tokenizer gives the id 599, but the model knows 599 ids"):
        measure(encoded, gives(0.0, 599), 8)
    with pytest.raises(UserError, match=r"the model gives .* the log-likelihood nan: it is broken"):
        scored(encoded, gives(float("nan")))
    without = FastEncoder(load_tokenizer(str(tokenizer_folder)))
    without.beginning_of_text = None
    with pytest.raises(UserError, match=r"no <\|endoftext\|>, from which"):
        encode_texts(texts, without, LENGTH)


def test_half_precision_logits_are_taken_in_fp32(texts: Texts, encoder: FastEncoder, model: GPT2LMHeadModel) -> None:
    logits_at = TransformersScorer(model).logits_at
    encoded = encode_texts(texts, encoder, LENGTH)

    def rounded(ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return logits_at(ids, positions).bfloat16()

    def widened(ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return rounded(ids, positions).float()

    assert measure(encoded, rounded, 8) == measure(encoded, widened, 8)


def test_texts_and_their_scores_are_read_without_torch() -> None:
    code = "import sys, eval.texts, eval.bits_per_byte; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
