"""Two result files side by side: what is compared, what is refused, and what is said."""

import json
from dataclasses import asdict
from math import log
from pathlib import Path
from typing import Any

import pytest
from made_results import item, write

from base.errors import NotThere, UserError
from eval.bits_per_byte import DocumentScore
from eval.compare import compare, main, read_results
from eval.paired import mcnemar_exact

BOTH, ONLY_A, ONLY_B, NEITHER = (True, True), (True, False), (False, True), (False, False)
ANSWERS = [BOTH] * 30 + [ONLY_A] * 4 + [ONLY_B] * 16 + [NEITHER] * 50


def pair(folder: Path, answers: Any = ANSWERS, task: str = "medqa", **of_b: Any) -> tuple[str, str]:
    """The places of two result files with such answers; ``of_b``: what else stands in the score of B."""
    made = [[item(task, f"q{place}", both[side]) for place, both in enumerate(answers)] for side in (0, 1)]
    made[1].reverse()  # the order of the lines says nothing
    return write(folder, "a", made[0]), write(folder, "b", made[1], **{task: of_b})


def test_a_comparison_counts_the_questions_that_tell_two_models_apart(tmp_path: Path) -> None:
    (found,) = compare(*map(read_results, pair(tmp_path)))
    assert (found.n, found.a.correct, found.b.correct, found.only_a, found.only_b) == (100, 34, 46, 4, 16)
    assert found.difference == pytest.approx(0.12) and found.metric == "acc_norm"
    assert found.p == found.p_adjusted == mcnemar_exact(4, 16) < 0.02
    assert found.ci95 is not None and 0.02 < found.ci95[0] < 0.12 < found.ci95[1] < 0.22
    assert found.detectable == pytest.approx(0.125, abs=1e-3)
    assert found.a.ci95[1] > found.b.ci95[0]  # which the two intervals do not tell apart
    assert found.warnings == ()


def test_the_same_files_turned_around_give_the_same_with_the_other_sign(tmp_path: Path) -> None:
    a, b = map(read_results, pair(tmp_path))
    (found,), (turned,) = compare(a, b), compare(b, a)
    assert (turned.p, turned.only_a, turned.a) == (found.p, found.only_b, found.b)
    assert turned.difference == -found.difference
    assert compare(a, b) == compare(a, b)


def test_where_no_question_differs_there_is_no_interval_and_nothing_that_could_be_found(tmp_path: Path) -> None:
    (found,) = compare(*map(read_results, pair(tmp_path, [BOTH] * 3 + [NEITHER] * 5)))
    assert (found.difference, found.p, found.ci95, found.detectable) == (0.0, 1.0, None, None)


def test_what_was_not_scored_is_wrong_on_that_side_and_told(tmp_path: Path) -> None:
    a, b = pair(tmp_path, [*ANSWERS, (None, True), (True, None), (None, None)])
    (found,) = compare(read_results(a), read_results(b))
    assert (found.n, found.only_a, found.only_b) == (103, 5, 17)
    assert (found.a.unscored, found.b.unscored) == (2, 2)
    assert found.warnings == ("not scored and counted as wrong: 2 of A, 2 of B",)


def test_a_refused_row_that_neither_has_a_right_answer_of_is_right_on_no_side(tmp_path: Path) -> None:
    lines = [item("medqa", "q0", True), item("medqa", "q1 (line 2)", None, gold=None)]
    a, b = (read_results(write(tmp_path, name, lines)) for name in "ab")
    (found,) = compare(a, b)
    assert (found.n, found.a.correct, found.b.correct) == (2, 1, 1)


def test_p_is_adjusted_for_the_number_of_tasks_compared(tmp_path: Path) -> None:
    sides: list[list[Any]] = [[], []]
    for task, answers in (("medqa", ANSWERS), ("medmcqa", [*ANSWERS, *[ONLY_A] * 10])):
        for side in (0, 1):
            sides[side] += [item(task, f"q{place}", both[side]) for place, both in enumerate(answers)]
    a, b = (read_results(write(tmp_path, name, items)) for name, items in zip("ab", sides, strict=True))
    medqa, medmcqa = compare(a, b)
    assert medqa.p_adjusted == pytest.approx(2 * medqa.p) and medmcqa.p_adjusted == medmcqa.p
    (alone,) = compare(a, b, ["medqa"])
    assert alone.p_adjusted == medqa.p


def test_models_asked_differently_are_refused_unless_told_and_then_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = pair(tmp_path, question_hash="otherwise", prompt_hash="other")
    with pytest.raises(UserError, match=r"medqa: asked differently.*--despite-prompts"):
        main([a, b])
    assert capsys.readouterr().out == ""
    main([a, b, "--despite-prompts"])
    assert "medqa: WARNING: the two were asked differently" in capsys.readouterr().out


def test_texts_that_both_were_measured_on_are_compared_document_by_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = pair(tmp_path)
    for place, bits in ((a, 1.0), (b, 1.5)):
        documents = [
            DocumentScore("held_out", f"d{size}", f"sha{size}", size, 1, 1, bits * size * log(2)) for size in (100, 300)
        ]
        lines = "".join(json.dumps(asdict(one)) + "\n" for one in reversed(documents))
        Path(place.removesuffix(".json") + ".texts.jsonl").write_text(lines)
    main([a, b])
    told = capsys.readouterr().out
    assert "held_out: B - A +0.5000 [+0.5000, +0.5000] bits per byte, paired by document; 2 documents" in told
    Path(b.removesuffix(".json") + ".texts.jsonl").write_text(lines.splitlines()[0])
    with pytest.raises(UserError, match=r"held_out: .*not of the same documents"):
        main([a, b])
    Path(b.removesuffix(".json") + ".texts.jsonl").write_text("{}")
    with pytest.raises(UserError, match=r"b\.texts\.jsonl, line 1: no document"):
        main([a, b])


def test_models_asked_the_same_with_different_tokenizers_compare_and_it_is_said(tmp_path: Path) -> None:
    a, b = map(read_results, pair(tmp_path, prompt_hash="of another tokenizer"))
    with pytest.raises(UserError, match=r"medqa: asked the same, but with different tokenizers.*--despite-tokenizers"):
        compare(a, b, despite_prompts=True)
    (found,) = compare(a, b, despite_tokenizers=True)
    assert found.warnings == ("asked the same, with different tokenizers; accuracy per token depends on them",)


def test_other_questions_are_refused_with_how_many_are_missing_where(tmp_path: Path) -> None:
    lines = [item("medqa", f"q{place}", True) for place in range(9)]
    a, b = (read_results(write(tmp_path, name, part)) for name, part in (("a", lines[:7]), ("b", lines[2:])))
    with pytest.raises(UserError, match=r"medqa: A lacks 2 .*\(q7, q8\) and B lacks 2 .*\(q0, q1\); score both"):
        compare(a, b, despite_prompts=True)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    a = [item("medqa", "q0", True), item("medmcqa", "m0", True), item("bioasq", "b0", True, gold=0)]
    b = [item("medqa", "q1", True), item("medmcqa", "m0", True), item("bioasq", "b0", True, gold=1)]
    places = write(tmp_path, "a", a), write(tmp_path, "b", b, medmcqa={"question_hash": "other", "metric": "acc"})
    with pytest.raises(UserError) as caught:
        compare(*map(read_results, places), tasks=["medqa", "medmcqa", "bioasq", "pubmedqa"])
    text = str(caught.value)
    for fault in (
        "pubmedqa: not in both; both have medqa, medmcqa, bioasq", "medqa: A lacks 1", "medmcqa: asked differently",
        "medmcqa: the primary accuracy is acc and acc_norm", "bioasq: another option is right in B than in A in 1 of",
    ):  # fmt: skip
        assert fault in text


def test_an_accuracy_that_was_not_asked_for_is_named(tmp_path: Path) -> None:
    places = pair(tmp_path)
    with pytest.raises(UserError, match=r"medqa: .*a\.json has no acc_pmi"):
        main([*places, "--metric", "acc_pmi"])
    (found,) = compare(*map(read_results, places), metric="acc_bytes")
    assert found.metric == "acc_bytes"


def test_other_cuts_and_other_files_are_told(tmp_path: Path) -> None:
    a = [item("medqa", "q0", True), item("medqa", "q1", True)]
    b = [item("medqa", "q0", True), item("medqa", "q1", True, shots_left_out=1)]
    places = write(tmp_path, "a", a), write(tmp_path, "b", b, medqa={"files": {"medqa/test.jsonl": "other"}})
    (found,) = compare(*map(read_results, places))
    assert "files with other bytes" in found.warnings[0] and "other shots or passages: 1 of" in found.warnings[1]


def test_the_command_prints_a_table_and_writes_the_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = pair(tmp_path)
    main([a, b, "--task", "medqa", "--json", str(tmp_path / "out" / "found.json")])
    header, row = capsys.readouterr().out.splitlines()[3:5]
    assert header.split()[:4] == ["task", "accuracy", "n", "A"]
    for cell in ("medqa  acc_norm", "34.0 [25.5, 43.7]", "46.0 [36.6, 55.7]", "+12.0 [+", "0.0118"):
        assert cell in row
    assert row.index("34.0") == header.index("A")  # columns stand under their names
    (found,) = json.loads((tmp_path / "out" / "found.json").read_text())["comparisons"]
    assert (found["only_a"], found["only_b"], found["task"]) == (4, 16, "medqa")


def test_files_that_are_no_results_are_named(tmp_path: Path) -> None:
    a, _ = pair(tmp_path)
    with pytest.raises(UserError, match=r"a\.items\.jsonl: results are a file NAME\.json"):
        read_results(a.replace(".json", ".items.jsonl"))
    with pytest.raises(NotThere, match=r"none\.json: no such file"):
        read_results(str(tmp_path / "none.json"))
    (tmp_path / "old.json").write_text('{"scores": {"medqa": {"n": 1}}}')
    with pytest.raises(UserError, match=r"old\.json: holds no scores of this version"):
        read_results(str(tmp_path / "old.json"))
    (tmp_path / "cut.json").write_text('{"scores": ')
    with pytest.raises(UserError, match=r"cut\.json: not JSON"):
        read_results(str(tmp_path / "cut.json"))


def test_items_of_another_run_or_damaged_ones_are_named(tmp_path: Path) -> None:
    a, _ = pair(tmp_path)
    lines = tmp_path / "a.items.jsonl"
    whole = lines.read_text()
    lines.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match=r"holds 99 questions of medqa, .* tells of 100"):
        read_results(a)
    lines.write_text(whole.replace('"medqa"', '"medmcqa"', 1))
    with pytest.raises(UserError, match=r"line 1: of medmcqa, which .*a\.json has no score of"):
        read_results(a)
    lines.write_text(whole.replace('"gold"', '"golden"', 1))
    with pytest.raises(UserError, match="line 1: no question of this version"):
        read_results(a)
    lines.unlink()
    with pytest.raises(NotThere, match=r"a\.items\.jsonl: no such file"):
        read_results(a)
