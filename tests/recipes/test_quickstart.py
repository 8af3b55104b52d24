"""The quickstart touches nothing that is not its own, and its metrics survive a kill in the middle of a line."""

import json
from types import SimpleNamespace

import pytest

from base.errors import UserError
from base.local_s3 import LocalS3
from recipes.callbacks.metrics_log import MetricsLog
from recipes.metrics import read_entries, read_metrics
from recipes.quickstart import Quickstart, _begin, prepare_questions

INPUTS = {"source": "sample", "qa": None, "gpt2": None}


def test_a_folder_with_files_of_others_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="not a quickstart's"):
        _begin(tmp_path, INPUTS)
    assert (tmp_path / "work" / "thesis.tex").read_text() == "mine"


def test_an_unfinished_quickstart_goes_on_and_one_of_other_inputs_starts_anew(tmp_path):
    _begin(tmp_path / "out", INPUTS)
    (tmp_path / "out" / "whole").mkdir()
    _begin(tmp_path / "out", INPUTS)
    assert (tmp_path / "out" / "whole").exists()
    _begin(tmp_path / "out", {**INPUTS, "source": "ncbi"})
    assert not (tmp_path / "out" / "whole").exists()


@pytest.mark.parametrize("linked", [False, True])
def test_questions_that_lie_where_the_quickstart_puts_them_are_not_deleted(tmp_path, linked):
    place = tmp_path / "qa"
    theirs = tmp_path / "elsewhere" if linked else place
    theirs.mkdir()
    (theirs / "questions").write_text("mine")
    if linked:
        place.symlink_to(theirs)
    server = LocalS3("http://127.0.0.1:1", "bucket", {}, 0)
    prepare_questions(Quickstart(tmp_path, server), str(place))
    assert (place / "questions").read_text() == "mine"


def test_a_line_that_a_killed_process_cut_does_not_swallow_the_next_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"batch": 1, "loss": 3.0}) + '\n{"batch": 2, "lo')
    time = SimpleNamespace(batch=SimpleNamespace(value=1), token=SimpleNamespace(value=9))
    MetricsLog(path).fit_start(SimpleNamespace(timestamp=time), None)  # type: ignore[arg-type]
    assert read_metrics(path) == {1: {"batch": 1, "loss": 3.0}}
    assert [entry["batch"] for entry in read_entries(path) if "process_started" in entry] == [1]
