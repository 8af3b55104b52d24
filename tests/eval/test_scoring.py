"""The likelihood of each option, by our model and by others, however the questions are shared out."""

import copy
import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from asked import CPU, ours, questions_of, scorer_of, small_gpt2
from transformers import (
    BioGptConfig,
    BioGptForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from base.errors import UserError
from eval.gpt_scorer import GPTScorer
from eval.prompts import Cut, Encoded, FastEncoder, Prepared, load_tokenizer, prepare, prompt
from eval.scoring import Scorer, batches_by_length, log_likelihoods, number_of_calls
from eval.transformers_scorer import TransformersScorer

LONGEST = 512
SHAPE = {"vocab_size": 600, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
OTHERS = {
    "local attention": lambda: GPTNeoForCausalLM(
        GPTNeoConfig(
            vocab_size=600, hidden_size=32, num_layers=2, num_heads=2, window_size=8,
            attention_types=[[["global", "local"], 1]],
        )
    ),
    "positions from the mask": lambda: OPTForCausalLM(OPTConfig(**SHAPE, ffn_dim=64, word_embed_proj_dim=32)),
    "rotary": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, intermediate_size=64)),
    "BioGPT": lambda: BioGptForCausalLM(BioGptConfig(**SHAPE, intermediate_size=64)),
    "scaled logits": lambda: CohereForCausalLM(CohereConfig(**SHAPE, intermediate_size=64, logit_scale=20.0)),
    "no cache": lambda: MambaForCausalLM(MambaConfig(vocab_size=600, hidden_size=32, num_hidden_layers=2)),
}  # fmt: skip


def by_definition(model: torch.nn.Module, question: Encoded) -> list[float]:
    """One row an option, no padding, all logits, log-softmax."""
    sums = []
    for option in question.options:
        ids, given = [*question.given, *option], len(question.given)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        sums.append(sum(float(logits[place - 1, ids[place]]) for place in range(given, len(ids))))
    return sums


def by_rank(encoded: tuple[Encoded, ...], model: Scorer, batch_size: int, world_size: int) -> list[dict[str, Any]]:
    return [log_likelihoods(encoded, model, batch_size, rank, world_size) for rank in range(world_size)]


@pytest.fixture(scope="module")
def encoder(tokenizer_folder: Path) -> FastEncoder:
    return FastEncoder(load_tokenizer(str(tokenizer_folder)))


@pytest.fixture(scope="module")
def prepared(sample_data: Path, encoder: FastEncoder) -> dict[str, Prepared]:
    """The same questions as cloze, by letters, and both after three shots that do not always fit."""
    asked = {name: questions_of(name, sample_data) for name in ("medqa", "medqa_letter")}
    shots = asked["medqa"].items[-3:]
    asked |= {f"{name}_shots": replace(questions, shots=shots) for name, questions in asked.items()}
    whole = {name: prepare(questions, encoder, LONGEST) for name, questions in asked.items()}
    lengths = {name: sorted(question.length for question in one.encoded) for name, one in whole.items()}
    return {name: prepare(asked[name], encoder, lengths[name][-8]) for name in asked if name.endswith("shots")} | {
        name: one for name, one in whole.items() if not name.endswith("shots")
    }


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    return small_gpt2(600, LONGEST)


NAMES = ("medqa", "medqa_letter", "medqa_shots", "medqa_letter_shots")


@pytest.mark.parametrize("which", ["ours", "transformers"])
@pytest.mark.parametrize("name", NAMES)
def test_option_likelihood_is_that_of_a_full_forward(
    prepared: dict[str, Prepared], model: GPT2LMHeadModel, name: str, which: str
) -> None:
    scorer = scorer_of(ours(model)) if which == "ours" else TransformersScorer(model)
    found = log_likelihoods(prepared[name].encoded, scorer, batch_size=8)
    assert len(found) == len(prepared[name].encoded) == 40
    for question in prepared[name].encoded[:12]:
        assert found[question.id] == pytest.approx(by_definition(model, question), abs=1e-4, rel=1e-5)


def test_shots_are_read_once_for_all_questions_that_have_as_many(prepared: dict[str, Prepared]) -> None:
    gpt = ours(small_gpt2(600, LONGEST))
    read: list[tuple[int, bool]] = []

    def forward(batch: Mapping[str, Any]) -> torch.Tensor:
        branches = batch.get("branches")
        if branches is not None:
            read.append((batch["input_ids"].numel(), branches.beginning is not None))
        return gpt(batch["input_ids"], positions=batch["positions"], branches=branches)

    encoded = prepared["medqa_letter_shots"].encoded
    assert {question.cut.shots for question in encoded} >= {0, 1}
    log_likelihoods(encoded, GPTScorer(forward, CPU), batch_size=8)
    beginnings = [tokens for tokens, after in read if not after]
    assert len(beginnings) == len({question.cut.shots for question in encoded})
    assert sum(tokens for tokens, _ in read) < 0.5 * sum(len(question.given) for question in encoded)


@pytest.mark.parametrize("which", OTHERS)
def test_any_causal_model_is_scored_as_its_own_forward_has_it(prepared: dict[str, Prepared], which: str) -> None:
    torch.manual_seed(0)
    model = OTHERS[which]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(5)
    scorer = TransformersScorer(model)
    for name in ("medqa", "medqa_letter_shots"):
        encoded = prepared[name].encoded[:6]
        found = log_likelihoods(encoded, scorer, batch_size=4)
        for question in encoded:
            assert found[question.id] == pytest.approx(by_definition(model, question), abs=1e-3, rel=1e-4)
    assert scorer.has_cache == (which != "no cache")
    assert scorer.projects == (which != "scaled logits")


def test_a_cache_that_gives_other_likelihoods_is_not_used(
    prepared: dict[str, Prepared], model: GPT2LMHeadModel, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    scorer = TransformersScorer(model)
    after = scorer._after
    monkeypatch.setattr(scorer, "_after", lambda *arguments: (after(*arguments)[0] * 2, after(*arguments)[1]))
    encoded = prepared["medqa"].encoded[:5]
    found = log_likelihoods(encoded, scorer, batch_size=4)
    assert scorer.has_cache is False
    assert "each is read in full" in capfd.readouterr().err
    for question in encoded:
        assert found[question.id] == pytest.approx(by_definition(model, question), abs=1e-4, rel=1e-5)


@pytest.mark.parametrize("name", ["medqa", "medmcqa", "medqa_letter", "medmcqa_letter"])
@pytest.mark.parametrize("which", ["real", "random"])
def test_real_questions_get_the_likelihoods_of_a_full_forward(
    real_data: Path, gpt2_tokenizer_folder: Path, name: str, which: str
) -> None:
    encoder = FastEncoder(load_tokenizer(str(gpt2_tokenizer_folder)))
    if which == "real":
        folder = real_data / "models" / "tiny_gpt2_medical"
        model = GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager").eval()
    else:
        model = small_gpt2(50257, max_seq_len=1024)
    encoded = prepare(questions_of(name, real_data / "qa", limit=4), encoder, max_seq_len=1024).encoded
    found = log_likelihoods(encoded, scorer_of(ours(model)), batch_size=16)
    for question in encoded:
        assert found[question.id] == pytest.approx(by_definition(model, question), abs=1e-3, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_scores_do_not_depend_on_batch_size_or_ranks(
    prepared: dict[str, Prepared], model: GPT2LMHeadModel, name: str
) -> None:
    scorer, encoded = scorer_of(ours(model)), prepared[name].encoded
    one = log_likelihoods(encoded, scorer, batch_size=4)
    for batch_size in (1, 7, 64):
        other = log_likelihoods(encoded, scorer, batch_size)
        assert other.keys() == one.keys()
        for id, values in other.items():
            assert values == pytest.approx(one[id], abs=1e-5, rel=1e-6)
    for world_size in (2, 3, 64):
        parts = by_rank(encoded, scorer, 4, world_size)
        assert sum(len(part) for part in parts) == len(one)
        assert {id: values for part in parts for id, values in part.items()} == one  # bit for bit


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_every_rank_calls_the_model_equally_often(
    prepared: dict[str, Prepared], model: GPT2LMHeadModel, world_size: int
) -> None:
    gpt, encoded = ours(model), prepared["medqa_shots"].encoded

    def counted(rank: int) -> tuple[int, int]:
        calls, advances = itertools.count(), itertools.count()

        def forward(batch: Mapping[str, Any]) -> torch.Tensor:
            next(calls)
            return gpt(batch["input_ids"], positions=batch["positions"], branches=batch.get("branches"))

        log_likelihoods(encoded, GPTScorer(forward, CPU), 3, rank, world_size, lambda _: next(advances) and None)
        return next(calls), next(advances)

    found = {counted(rank) for rank in range(world_size)}
    assert len(found) == 1
    assert next(iter(found))[1] == number_of_calls(encoded, 3, world_size)


def test_batches_are_longest_first(prepared: dict[str, Prepared]) -> None:
    batches = batches_by_length(prepared["medqa"].encoded, 12)
    lengths = [question.length for batch in batches for question in batch]
    assert lengths == sorted(lengths, reverse=True)
    assert [len(batch) for batch in batches] == [12, 12, 12, 4]


def test_options_and_questions_of_every_length_fit_into_one_batch(model: GPT2LMHeadModel) -> None:
    generator = torch.Generator().manual_seed(3)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(torch.randint(600, (length,), generator=generator).tolist())

    encoded = tuple(
        Encoded(str(number), ids(given), tuple(map(ids, options)))
        for number, (given, options) in enumerate([(1, (1,)), (1, (9, 1)), (240, (1, 5, 16)), (30, (1, 1, 1, 1, 1))])
    )
    for scorer in (scorer_of(ours(model)), TransformersScorer(model)):
        for batch_size in (1, 4):
            found = log_likelihoods(encoded, scorer, batch_size)
            for question in encoded:
                assert found[question.id] == pytest.approx(by_definition(model, question), abs=1e-4, rel=1e-5)


@pytest.mark.parametrize("which", ["ours", "transformers"])
def test_options_that_are_alike_are_as_likely_to_the_last_bit(model: GPT2LMHeadModel, which: str) -> None:
    scorer = scorer_of(ours(model)) if which == "ours" else TransformersScorer(model)
    options = ((7, 8, 9), (5,), (7, 8, 9), (5,), (7, 8))
    encoded = tuple(Encoded(str(length), tuple(range(length)), options) for length in (3, 40, 41, 90))
    for values in log_likelihoods(encoded, scorer, 4).values():
        assert values[0] == values[2] and values[1] == values[3] and len(set(values)) == 3


def test_a_tokenizer_of_another_model_is_named(prepared: dict[str, Prepared]) -> None:
    with pytest.raises(UserError, match="but the model knows 300 ids"):
        log_likelihoods(prepared["medqa"].encoded, scorer_of(ours(small_gpt2(300, LONGEST))), 8)


def test_a_diverged_model_spoils_no_other_question_of_its_batch(model: GPT2LMHeadModel) -> None:
    """Padding sees something, so that no row is a softmax over nothing."""
    encoded = (Encoded("long", tuple(range(100)), ((1, 2), (3,))), Encoded("short", (5,), ((1,), (2,))))
    found = log_likelihoods(encoded, scorer_of(ours(model)), 2)
    assert all(torch.tensor(values).isfinite().all() for values in found.values())


@pytest.mark.parametrize("which", ["ours", "transformers"])
def test_options_are_told_apart_in_bf16_where_all_logits_are_large(
    prepared: dict[str, Prepared], model: GPT2LMHeadModel, which: str
) -> None:
    """GPT-2's own logits lie around -60: a number that all share, and that no likelihood depends on."""
    shifted = copy.deepcopy(model)
    with torch.no_grad():
        shifted.transformer.wte.weight /= 20
        shifted.transformer.ln_f.weight[-1] = 0
        shifted.transformer.ln_f.bias[-1] = 8
        shifted.transformer.wte.weight[:, -1] = -8
    scorer = scorer_of(ours(shifted)) if which == "ours" else TransformersScorer(shifted)
    encoded = prepared["medqa_letter"].encoded
    in_fp32 = log_likelihoods(encoded, scorer, batch_size=8)
    with torch.autocast("cpu", torch.bfloat16):
        in_bf16 = log_likelihoods(encoded, scorer, batch_size=8)
    for question in encoded:
        assert len(set(in_bf16[question.id])) == len(question.options)
        assert in_bf16[question.id] == pytest.approx(in_fp32[question.id], abs=0.01)


def test_cut_questions_are_scored_with_the_shots_that_they_have(
    prepared: dict[str, Prepared], encoder: FastEncoder, model: GPT2LMHeadModel
) -> None:
    one = next(question for question in prepared["medqa_shots"].encoded if question.cut == Cut(shots=1))
    questions = prepared["medqa_shots"].questions
    item = next(item for item in questions.items if item.id == one.id)
    text = prompt(questions.protocol.form, item, questions.shots[:2])
    assert encoder.tokenizer.decode(list(one.given), skip_special_tokens=False) == text
