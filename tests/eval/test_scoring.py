import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import GPT2Config, GPT2LMHeadModel, GraniteConfig, GraniteForCausalLM

from base.errors import UserError
from eval.prompts import Encoded, Prepared, encode, load_tokenizer, prepare, prompt_hash
from eval.results import score_of, write_results
from eval.scoring import LogitsAt, batches_by_length, from_transformers, option_log_likelihoods
from eval.task import Item, Refused, load_questions
from eval.tasks import TASKS
from eval.tasks.medmcqa import MEDMCQA
from eval.tasks.medqa import MEDQA


def small_gpt2(vocab_size: int, max_seq_len: int = 128) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    shape = GPT2Config(vocab_size=vocab_size, n_positions=max_seq_len, n_embd=32, n_layer=2, n_head=2)
    shape._attn_implementation = "eager"
    model = GPT2LMHeadModel(shape)
    with torch.no_grad():  # a fresh GPT-2 gives nearly equal logits; these differ enough for a test to see mistakes
        model.transformer.wte.weight.mul_(20)
    return model.eval()


def full_forward(model: torch.nn.Module, tokenizer: Tokenizer, prompt: str, continuation: str) -> float:
    """What the log-likelihood is by definition: one row, no padding, all logits, log-softmax."""
    given = len(tokenizer.encode(prompt, add_special_tokens=False).ids)
    ids = tokenizer.encode(prompt + continuation, add_special_tokens=False).ids
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(float(logits[place - 1, ids[place]]) for place in range(given, len(ids)))


@pytest.fixture(scope="module")
def prepared(sample_data: Path, tokenizer_folder: Path) -> Prepared:
    return prepare(load_questions(MEDQA, str(sample_data)), load_tokenizer(str(tokenizer_folder)), max_seq_len=128)


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    return small_gpt2(600)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("which", ["real", "random"])
def test_option_likelihood_equals_a_full_forward_by_transformers(
    real_data: Path, gpt2_tokenizer_folder: Path, name: str, which: str
) -> None:
    tokenizer = load_tokenizer(str(gpt2_tokenizer_folder))
    if which == "real":
        folder = real_data / "models" / "tiny_gpt2_medical"
        model = GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager").eval()
    else:
        model = small_gpt2(tokenizer.get_vocab_size(), max_seq_len=1024)
    questions = load_questions(TASKS[name], str(real_data / "qa"), limit=4)
    prepared = prepare(questions, tokenizer, max_seq_len=1024)
    found = option_log_likelihoods(prepared.encoded, from_transformers(model), batch_size=16)
    for item in questions.items:
        prompt = f"Question: {item.question}\nAnswer:"
        expected = [full_forward(model, tokenizer, prompt, f" {option}") for option in item.options]
        assert found[item.id] == pytest.approx(expected, abs=1e-3, rel=1e-5)


def test_option_likelihood_equals_a_full_forward_on_generated_questions(
    prepared: Prepared, model: GPT2LMHeadModel, tokenizer_folder: Path
) -> None:
    tokenizer = load_tokenizer(str(tokenizer_folder))
    found = option_log_likelihoods(prepared.encoded, from_transformers(model), batch_size=16)
    for item in prepared.questions.items[:10]:
        prompt = f"Question: {item.question}\nAnswer:"
        expected = [full_forward(model, tokenizer, prompt, f" {option}") for option in item.options]
        assert found[item.id] == pytest.approx(expected, abs=1e-4, rel=1e-5)


def test_scores_do_not_depend_on_batch_size_or_ranks(prepared: Prepared, model: GPT2LMHeadModel) -> None:
    one = option_log_likelihoods(prepared.encoded, from_transformers(model), batch_size=4)
    for batch_size in (1, 7, 64):
        other = option_log_likelihoods(prepared.encoded, from_transformers(model), batch_size)
        assert other.keys() == one.keys()
        for id, values in other.items():
            assert values == pytest.approx(one[id], abs=1e-5, rel=1e-6)
    for world_size in (2, 3, 64):
        parts = [
            option_log_likelihoods(prepared.encoded, from_transformers(model), 4, rank, world_size)
            for rank in range(world_size)
        ]
        assert sum(len(part) for part in parts) == len(one)
        assert {id: values for part in parts for id, values in part.items()} == one  # bit for bit


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_every_rank_calls_the_model_equally_often(prepared: Prepared, model: GPT2LMHeadModel, world_size: int) -> None:
    def counted(rank: int) -> int:
        calls = itertools.count()
        inner = from_transformers(model)

        def logits_at(ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
            next(calls)
            return inner(ids, positions)

        option_log_likelihoods(prepared.encoded, logits_at, 12, rank, world_size)
        return next(calls)

    assert len({counted(rank) for rank in range(world_size)}) == 1


def test_batches_hold_whole_questions_longest_first(prepared: Prepared) -> None:
    batches = batches_by_length(prepared.encoded, 12)
    lengths = [question.length for batch in batches for question in batch]
    assert lengths == sorted(lengths, reverse=True)
    assert {len(batch) for batch in batches[:-1]} == {3}
    assert sorted(question.id for batch in batches for question in batch) == sorted(q.id for q in prepared.encoded)


def test_models_with_scaled_logits_are_scored_by_their_own_logits(prepared: Prepared) -> None:
    torch.manual_seed(0)
    shape = GraniteConfig(
        vocab_size=600, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, logits_scaling=0.05, pad_token_id=0,
    )  # fmt: skip
    model = GraniteForCausalLM(shape).eval()
    found = option_log_likelihoods(prepared.encoded[:1], from_transformers(model), 4)
    question = prepared.encoded[0]
    for row, value in zip(question.rows, found[question.id], strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([row])).logits[0].log_softmax(-1)
        expected = sum(float(logits[place - 1, row[place]]) for place in range(question.given, len(row)))
        assert value == pytest.approx(expected, abs=1e-3)


def test_a_token_that_spans_the_join_is_scored_with_every_option() -> None:
    words = {"a": 0, "b": 1, ":": 2, ":b": 3, "Q": 4}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[(":", "b")]))
    task = replace(MEDQA, template="{question}:", separator="")
    encoded = encode(task, Item("1", "Q", ("a", "b", "ba"), 0), tokenizer)
    # "Q:" is two tokens, but with "b" the colon is part of the option's token: only "Q" is given, for all three.
    assert encoded == Encoded("1", 1, ((4, 2, 0), (4, 3), (4, 3, 0)))


def test_spaces_at_the_end_of_the_prompt_belong_to_the_option(tokenizer_folder: Path) -> None:
    tokenizer = load_tokenizer(str(tokenizer_folder))
    item = Item("1", "Which one", ("liver", "kidneys"), 0)
    spaced = encode(replace(MEDQA, template="{question}? ", separator=""), item, tokenizer)
    assert spaced == encode(replace(MEDQA, template="{question}?", separator=" "), item, tokenizer)


def test_a_question_without_a_given_token_is_listed(sample_data: Path, tokenizer_folder: Path) -> None:
    questions = load_questions(replace(MEDQA, template=""), str(sample_data), limit=3)
    tokenizer = load_tokenizer(str(tokenizer_folder))
    without = prepare(questions, tokenizer, max_seq_len=128)
    assert (len(without.encoded), set(without.unscorable.values())) == (
        0, {"no token of the prompt comes before the options"},
    )  # fmt: skip
    assert len(prepare(questions, tokenizer, max_seq_len=128, beginning_of_text=True).encoded) == 3


def test_beginning_of_text_is_one_more_given_token_and_another_prompt_hash(
    sample_data: Path, tokenizer_folder: Path, prepared: Prepared
) -> None:
    questions = load_questions(MEDQA, str(sample_data))
    other = prepare(questions, load_tokenizer(str(tokenizer_folder)), max_seq_len=128, beginning_of_text=True)
    for plain, begun in zip(prepared.encoded, other.encoded, strict=True):
        assert (begun.given, begun.rows) == (plain.given + 1, tuple((599, *row) for row in plain.rows))
    assert other.prompt_hash != prepared.prompt_hash


def test_a_question_that_does_not_fit_is_never_cut_but_counted_as_wrong(
    sample_data: Path, tokenizer_folder: Path, model: GPT2LMHeadModel
) -> None:
    questions = load_questions(MEDQA, str(sample_data))
    tokenizer = load_tokenizer(str(tokenizer_folder))
    lengths = sorted(question.length for question in prepare(questions, tokenizer, 128).encoded)
    short = prepare(questions, tokenizer, max_seq_len=lengths[20])
    score, items = score_of(short, option_log_likelihoods(short.encoded, from_transformers(model), 8))
    fit = sum(length <= lengths[20] for length in lengths)
    assert (score.n, score.scored, score.too_long) == (40, fit, 40 - fit)
    assert 0 < fit < 40
    assert score.acc == sum(item.prediction == item.gold for item in items if item.prediction is not None) / 40
    assert f"the model reads {lengths[20]}" in score.unscorable[0]["reason"]
    assert f"{40 - fit} too long" in short.describe()


def constant_logits(logits: Callable[[torch.Tensor], torch.Tensor]) -> LogitsAt:
    def logits_at(ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return logits(torch.zeros(*positions.shape, 600))

    return logits_at


def test_refused_rows_stay_in_the_denominator_of_the_score(prepared: Prepared) -> None:
    refused = (Refused("line 1", "line 1", "not JSON"), Refused("line 2", "line 2", "not JSON"))
    worse = replace(
        prepared,
        questions=replace(prepared.questions, refused=refused),
        unscorable={entry.id: entry.reason for entry in refused},
    )
    found = option_log_likelihoods(prepared.encoded, constant_logits(lambda zeros: zeros), 8)
    before, after = score_of(prepared, found)[0], score_of(worse, found)[0]
    assert (before.n, after.n, after.bad_rows, after.scored) == (40, 42, 2, 40)
    assert after.acc == pytest.approx(before.acc * 40 / 42)
    assert after.majority == pytest.approx(before.majority * 40 / 42)
    assert after.unscorable == [{"id": "line 1", "reason": "not JSON"}, {"id": "line 2", "reason": "not JSON"}]


def test_sum_and_per_character_predictions_follow_their_definitions(prepared: Prepared) -> None:
    # With equal logits an option's log-likelihood is -tokens x log(600): the sum prefers few tokens.
    found = option_log_likelihoods(prepared.encoded, constant_logits(lambda zeros: zeros), 8)
    _, items = score_of(prepared, found)
    texts = {item.id: item.options for item in prepared.questions.items}
    tokens = {question.id: [len(row) - question.given for row in question.rows] for question in prepared.encoded}
    for item in items:
        assert item.log_likelihoods is not None
        per_character = [-count / len(text) for count, text in zip(tokens[item.id], texts[item.id], strict=True)]
        assert item.prediction == tokens[item.id].index(min(tokens[item.id]))
        assert item.prediction_norm == per_character.index(max(per_character))
        assert item.characters == tuple(map(len, texts[item.id]))
    assert any(item.prediction != item.prediction_norm for item in items)


def test_a_diverged_model_answers_nothing(prepared: Prepared, tmp_path: Path) -> None:
    found = option_log_likelihoods(prepared.encoded, constant_logits(lambda zeros: zeros * float("nan")), 8)
    score, items = score_of(prepared, found)
    assert (score.acc, score.scored, sum(score.predicted)) == (0.0, 0, 0)
    assert score.unscorable[0]["reason"] == "the model's log-likelihoods are not finite"
    write_results(str(tmp_path), "nan", {"medqa": score}, items, {})  # and the files are still JSON


def test_a_question_that_no_rank_scored_is_an_error(prepared: Prepared) -> None:
    with pytest.raises(ValueError, match="scored by no rank"):
        score_of(prepared, {})


def test_a_tokenizer_of_another_model_is_named(prepared: Prepared) -> None:
    with pytest.raises(UserError, match="but the model knows 300 ids"):
        option_log_likelihoods(prepared.encoded, from_transformers(small_gpt2(300)), 8)


def test_truncation_stored_in_a_tokenizer_does_not_cut_questions(tokenizer_folder: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = "A sentence that has more than four tokens."
    whole = load_tokenizer(str(tokenizer_folder)).encode(text).ids
    assert load_tokenizer(str(tmp_path)).encode(text).ids == whole


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.json: no such file; a tokenizer folder holds"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="not a tokenizer"):
        load_tokenizer(str(tmp_path))


def test_the_prompt_hash_changes_with_whatever_changes_the_tokens(tokenizer_folder: Path) -> None:
    tokenizer, other = (load_tokenizer(str(tokenizer_folder)) for _ in range(2))
    assert prompt_hash(MEDQA, tokenizer, False) == prompt_hash(MEDQA, other, False)
    other.add_tokens(["hepatomegaly"])
    changed: list[Any] = [
        (MEDQA, tokenizer, False),
        (MEDMCQA, tokenizer, False),
        (replace(MEDQA, version=2), tokenizer, False),
        (replace(MEDQA, template="{question}"), tokenizer, False),
        (replace(MEDQA, separator="\n"), tokenizer, False),
        (MEDQA, tokenizer, True),
        (MEDQA, other, False),
    ]
    assert len({prompt_hash(*arguments) for arguments in changed}) == len(changed)


def test_result_files_hold_the_score_and_one_line_a_question(
    prepared: Prepared, model: GPT2LMHeadModel, tmp_path: Path
) -> None:
    found = option_log_likelihoods(prepared.encoded, from_transformers(model), 8)
    score, items = score_of(prepared, found)
    write_results(str(tmp_path), "ep0-ba5", {"medqa": score}, items, {"batch": 5})
    record = json.loads((tmp_path / "ep0-ba5.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "ep0-ba5.items.jsonl").read_text().splitlines()]
    assert (record["batch"], record["scores"]["medqa"]["n"], len(lines)) == (5, 40, 40)
    assert {"acc", "acc_norm", "n", "majority", "ci95"} <= record["scores"]["medqa"].keys()
    assert sum(line["prediction"] == line["gold"] for line in lines) / 40 == record["scores"]["medqa"]["acc"]
    assert sum(record["scores"]["medqa"]["gold"]) == sum(record["scores"]["medqa"]["predicted"]) == 40
    assert tuple(lines[0]["log_likelihoods"]) == found[lines[0]["id"]]
    assert {line["prompt_hash"] for line in lines} == {record["scores"]["medqa"]["prompt_hash"]}
