"""What fails on one rank alone is told on every rank, at once."""

import pickle
from pathlib import Path

import pytest
from composer.utils import dist

from base.errors import MayPass, StoreTrouble, UserError
from model.checkpoint import DamagedCheckpoint
from recipes import resume
from recipes.together import together


@pytest.fixture
def second_of_two_ranks(monkeypatch):
    """This process as rank 1; what rank 0 brings to each gathering, in order, is in the list."""
    theirs: list[object] = []
    monkeypatch.setattr(dist, "get_global_rank", lambda: 1)
    monkeypatch.setattr(dist, "all_gather_object", lambda mine: [theirs.pop(0), pickle.loads(pickle.dumps(mine))])  # noqa: S301
    return theirs


def fail() -> None:
    raise UserError("no room here")


def test_a_fault_of_another_rank_is_raised_on_this_one(second_of_two_ranks):
    second_of_two_ranks.append(UserError("no credentials on that node"))
    with pytest.raises(UserError, match="no credentials on that node") as error:
        together(lambda: None)
    assert error.value.shared


def test_a_fault_of_this_rank_is_brought_to_the_gathering_before_it_is_raised(second_of_two_ranks):
    second_of_two_ranks.append(None)
    with pytest.raises(UserError, match="no room here"):
        together(fail)
    assert second_of_two_ranks == []


def test_only_when_nothing_else_is_wrong_is_the_launch_worth_starting_again(second_of_two_ranks):
    def trouble() -> None:
        raise StoreTrouble("SlowDown")

    second_of_two_ranks.append(StoreTrouble("cannot be reached"))
    with pytest.raises(MayPass, match="cannot be reached\n  SlowDown"):
        together(trouble)
    second_of_two_ranks.append(UserError("no room there"))
    with pytest.raises(UserError, match="no room there\n  SlowDown") as error:
        together(trouble)
    assert not isinstance(error.value, MayPass)


def test_a_rank_that_cannot_fetch_a_checkpoint_stops_all_and_a_damaged_one_is_passed_over(
    second_of_two_ranks, monkeypatch, tmp_path
):
    monkeypatch.setattr(dist, "get_local_rank", lambda: 0)
    listed, none = [None, ["runs/ep0-ba5", "runs/ep0-ba9"]], None

    def damaged(location: str, into: Path) -> None:
        if location.endswith("ba9"):
            raise DamagedCheckpoint(f"{location}: damaged")

    monkeypatch.setattr(resume, "fetch", damaged)
    second_of_two_ranks += [*listed, none, none, none, none]
    assert resume.fetch_newest("runs", tmp_path) == tmp_path
    assert second_of_two_ranks == []

    monkeypatch.setattr(resume, "fetch", lambda location, into: fail())
    second_of_two_ranks += [*listed, none]
    with pytest.raises(UserError, match="no room here"):
        resume.fetch_newest("runs", tmp_path)
    assert second_of_two_ranks == []
