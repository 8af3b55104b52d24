"""What the model reads, and what is cut so that it fits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asked import questions_of
from tokenizers import Tokenizer, models

from base.errors import UserError
from eval.official_files import Questions
from eval.prompts import Cut, Encoded, FastEncoder, encode, load_tokenizer, prepare, prompt, prompt_hash
from eval.task import Protocol


@pytest.fixture(scope="module")
def encoder(tokenizer_folder: Path) -> FastEncoder:
    return FastEncoder(load_tokenizer(str(tokenizer_folder)))


def with_passages(questions: Questions, words: int, passages: int) -> Questions:
    """Each question is about so many passages of so many words."""
    item = questions.items[0]
    form = replace(questions.protocol.form, template="Abstract: {context}\n" + questions.protocol.form.template)
    task = replace(questions.protocol.task, forms={"cloze": form})
    about = tuple(" ".join([f"p{number}"] + ["liver"] * words) for number in range(passages))
    return replace(questions, protocol=Protocol(task, "cloze", 0), items=(replace(item, passages=about),))


def test_a_letter_prompt_lists_the_options_and_scores_their_letters(sample_data: Path) -> None:
    questions = questions_of("medqa_letter", sample_data)
    item = questions.items[0]
    lines = prompt(questions.protocol.form, item).split("\n")
    assert lines[0] == f"Question: {item.question}" and lines[-1] == "Answer:"
    assert lines[1:-1] == [f"{letter}. {option}" for letter, option in zip("ABCD", item.options, strict=True)]


def test_shots_stand_before_the_question_with_their_answers(sample_data: Path) -> None:
    questions = questions_of("medqa", sample_data)
    shots, item = questions.items[:2], questions.items[5]
    text = prompt(questions.protocol.form, item, shots)
    first, second, last = text.split("\n\n")
    assert first == f"Question: {shots[0].question}\nAnswer: {shots[0].options[shots[0].gold]}"
    assert second.endswith(f"Answer: {shots[1].options[shots[1].gold]}")
    assert last == f"Question: {item.question}\nAnswer:"


def test_whole_shots_are_left_out_from_the_last_on_and_never_the_question(
    sample_data: Path, encoder: FastEncoder
) -> None:
    questions = questions_of("medqa", sample_data)
    shots = questions.items[30:34]
    questions = replace(questions, items=questions.items[:10], shots=shots)
    whole = prepare(questions, encoder, 10_000)
    room = sorted(entry.length for entry in whole.encoded)[4]
    for full, cut in zip(whole.encoded, prepare(questions, encoder, room).encoded, strict=True):
        assert cut.length <= room
        if full.length <= room:
            assert cut == full
            continue
        assert cut.cut.shots > 0
        kept = shots[: len(shots) - cut.cut.shots]
        item = next(item for item in questions.items if item.id == cut.id)
        text = prompt(questions.protocol.form, item, kept)
        assert encoder.tokenizer.decode(list(cut.given), skip_special_tokens=False) == text
        one_more = prompt(questions.protocol.form, item, shots[: len(kept) + 1])
        longest = max(map(len, cut.options)) - 1
        assert len(encoder([one_more])[0]) + longest > room  # no more was left out than had to be
    assert (
        f"{sum(e.length > room for e in whole.encoded)} with fewer shots"
        in prepare(questions, encoder, room).describe()
    )


def test_whole_passages_are_left_out_but_one_and_the_shots_before_them(sample_data: Path, encoder: FastEncoder) -> None:
    questions = with_passages(questions_of("medqa", sample_data, 1), words=10, passages=4)
    one = prepare(questions, encoder, 10_000).encoded[0]
    shorter = prepare(questions, encoder, one.length - 1)
    assert shorter.encoded[0].cut == Cut(passages=1)
    assert "p3" not in encoder.tokenizer.decode(list(shorter.encoded[0].given))
    assert "p2" in encoder.tokenizer.decode(list(shorter.encoded[0].given))
    assert "1 with fewer passages" in shorter.describe()
    with_shots = replace(questions, shots=questions.items)
    assert prepare(with_shots, encoder, one.length).encoded[0].cut == Cut(shots=1)
    long = with_passages(questions, words=200, passages=1)
    assert prepare(long, encoder, 128).too_long == 1  # a question about a text is not asked without it


def test_a_token_that_spans_the_join_is_scored_with_every_option() -> None:
    words = {"a": 0, "b": 1, ":": 2, " ": 3, "Q": 4, ": ": 5, ": b": 6}
    encoder = FastEncoder(Tokenizer(models.BPE(vocab=words, merges=[(":", " "), (": ", "b")])))
    # "Q:" is two tokens, but with a space the colon is part of the answer's token: only "Q" is given, for all three.
    assert encode("1", "Q:", ("a", "b", "ba"), encoder) == Encoded("1", (4,), ((5, 0), (6,), (6, 0)))


def test_spaces_at_the_end_of_the_prompt_belong_to_the_option(encoder: FastEncoder) -> None:
    spaced = encode("1", "Which one? ", ("liver",), encoder)
    plain = encode("1", "Which one?", ("liver",), encoder)
    assert spaced is not None and plain is not None
    assert spaced.given == plain.given
    assert encoder.tokenizer.decode(list(spaced.options[0])) == "  liver"


def test_a_question_without_a_given_token_is_listed(sample_data: Path, encoder: FastEncoder) -> None:
    questions = questions_of("medqa", sample_data, limit=3)
    task = replace(questions.protocol.task, forms={"cloze": replace(questions.protocol.form, template="")})
    empty = replace(questions, protocol=Protocol(task, "cloze", 0))
    without = prepare(empty, encoder, max_seq_len=128)
    assert not without.encoded
    assert set(without.unscorable.values()) == {"no token of the prompt comes before the options"}
    assert len(prepare(empty, encoder, max_seq_len=128, beginning_of_text=True).encoded) == 3


def test_beginning_of_text_is_one_more_given_token_and_another_prompt_hash(
    sample_data: Path, encoder: FastEncoder
) -> None:
    questions = questions_of("medqa", sample_data)
    plain, begun = (prepare(questions, encoder, 128, beginning_of_text=begin) for begin in (False, True))
    for one, other in zip(plain.encoded, begun.encoded, strict=True):
        assert (other.given, other.options) == ((599, *one.given), one.options)
    assert begun.prompt_hash != plain.prompt_hash


def test_truncation_stored_in_a_tokenizer_does_not_cut_questions(tokenizer_folder: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = "A sentence that has more than four tokens."
    whole, stored = (FastEncoder(load_tokenizer(str(folder))) for folder in (tokenizer_folder, tmp_path))
    assert stored([text, "short"]) == whole([text, "short"])


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.json: no such file; a tokenizer folder holds"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="not a tokenizer"):
        load_tokenizer(str(tmp_path))


def test_the_prompt_hash_changes_with_whatever_changes_the_tokens(sample_data: Path, tokenizer_folder: Path) -> None:
    same, encoder, more = (FastEncoder(load_tokenizer(str(tokenizer_folder))) for _ in range(3))
    more.tokenizer.add_tokens(["hepatomegaly"])
    more = FastEncoder(more.tokenizer)
    questions = questions_of("medqa", sample_data)
    form, task = questions.protocol.form, questions.protocol.task

    def changed(**changes: Any) -> Questions:
        return replace(questions, protocol=replace(questions.protocol, task=replace(task, **changes)))

    assert prompt_hash(questions, same, False) == prompt_hash(questions, encoder, False)
    assert prompt_hash(replace(questions, items=()), encoder, False) == prompt_hash(questions, encoder, False)
    different = [
        (questions, encoder, False),
        (questions_of("medmcqa", sample_data), encoder, False),
        (questions_of("medqa_letter", sample_data), encoder, False),
        (changed(version=99), encoder, False),
        (changed(forms={"cloze": replace(form, template="{question}")}), encoder, False),
        (replace(questions, shots=questions.items[:1]), encoder, False),
        (questions, encoder, True),
        (questions, more, False),
    ]
    assert len({prompt_hash(*arguments) for arguments in different}) == len(different)
