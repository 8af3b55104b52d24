"""An evaluation that is cut off goes on with the protocols that it has not scored, and only with these."""

from pathlib import Path
from typing import Any

import pytest
from small_checkpoints import write_checkpoint

from base.configuration import load_configuration
from base.errors import UserError
from eval.sample_questions import write_sample_questions
from recipes import evaluate_model
from recipes.evaluate_model import evaluate
from recipes.evaluation import Evaluation, find_inputs

YAML = str(Path(__file__).parents[2] / "yamls" / "eval" / "qa.yaml")
TASKS = ("medqa", "medqa_letter", "pubmedqa")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unfinished")
    write_sample_questions(str(folder / "qa"), n=12, seed=3)
    write_checkpoint(folder / "run" / "ep0-ba1", seed=1, batch=1)
    return folder


def run(made: Path, out: Path, **more: object) -> None:
    given = {"model": made / "run", "data": made / "qa", "out": out, "tasks": f"[{','.join(TASKS)}]", "pmi": "true"}
    config = load_configuration(YAML, [f"{key}={value}" for key, value in (given | more).items()], Evaluation)
    model, asked = find_inputs(config)
    assert model is not None
    evaluate(config, model, asked)


def cut_off_after(done: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Has the next evaluation end after so many protocols, as Ctrl-C would; those that it scores are in the list."""
    whole, scored = evaluate_model.likelihoods_on_all_ranks, []  # type: ignore[var-annotated]

    def until(prepared: Any, *arguments: Any) -> Any:
        if len(scored) == done:
            raise KeyboardInterrupt
        scored.append(prepared.name)
        return whole(prepared, *arguments)

    monkeypatch.setattr(evaluate_model, "likelihoods_on_all_ranks", until)
    return scored


def files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_what_was_scored_before_it_was_cut_off_is_not_scored_again(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(made, tmp_path / "whole")
    with monkeypatch.context() as patch:
        scored = cut_off_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            run(made, tmp_path / "cut")
        assert scored == ["medqa", "medqa_letter"]
        assert set(files(tmp_path / "cut")) == {f"run-ep0-ba1.unfinished/{name}.json" for name in scored}
    with monkeypatch.context() as patch:
        scored = cut_off_after(9, patch)
        run(made, tmp_path / "cut")
        assert scored == ["pubmedqa"]
    whole, cut = files(tmp_path / "whole"), files(tmp_path / "cut")
    assert whole.keys() == cut.keys() == {"run-ep0-ba1.json", "run-ep0-ba1.items.jsonl"}
    assert whole["run-ep0-ba1.items.jsonl"] == cut["run-ep0-ba1.items.jsonl"]


def test_what_was_scored_of_other_weights_or_in_another_way_is_scored_again(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = ({"limit": 5}, {"precision": "amp_bf16"}, {"beginning_of_text": "true"}, {"model": tmp_path / "run"})
    for number, again in enumerate(others):
        out = tmp_path / f"out{number}"
        with monkeypatch.context() as patch:
            cut_off_after(2, patch)
            with pytest.raises(KeyboardInterrupt):
                run(made, out)
        write_checkpoint(tmp_path / "run" / "ep0-ba1", seed=2, batch=1)  # of the same name, with other weights
        with monkeypatch.context() as patch:
            scored = cut_off_after(9, patch)
            run(made, out, **again)
            assert scored == list(TASKS)


def test_a_length_that_was_asked_for_is_kept_to_and_one_that_no_model_has_is_refused(
    made: Path, tmp_path: Path
) -> None:
    run(made, tmp_path, max_seq_len=100)
    assert b"tokens with its longest option; the model reads 100" in files(tmp_path)["run-ep0-ba1.json"]
    with pytest.raises(UserError, match="max_seq_len: 300 is more than the 256 positions"):
        run(made, tmp_path, max_seq_len=300)
