"""A fault that all ranks share is told once on each node; one that a single rank meets is told all the same."""

import pytest

from base import errors
from base.errors import MENDABLE, UserError, run_command


def fail() -> None:
    raise UserError("no credentials", shared=True)


@pytest.mark.parametrize(("rank", "local_rank", "waited"), [("0", "0", []), ("8", "0", []), ("9", "1", [10.0])])
def test_no_rank_ends_without_a_word_and_the_first_of_a_node_speaks_first(
    monkeypatch, capsys, rank, local_rank, waited
):
    slept: list[float] = []
    monkeypatch.setattr(errors.time, "sleep", slept.append)  # the launcher would end this process meanwhile
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    with pytest.raises(SystemExit) as ended:
        run_command(fail)
    assert ended.value.code == MENDABLE
    assert slept == waited
    assert capsys.readouterr().err == "error: no credentials\n"
