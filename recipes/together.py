"""Work that may fail on one rank alone, done so that no other rank is left waiting for it."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from composer.utils import dist

from base.errors import MayPass, UserError

T = TypeVar("T")


def together(work: Callable[[], T]) -> T:
    """Do ``work`` on this rank, and go on when every rank has done its own.

    A rank that ended alone would leave the others in their next collective until ``dist_timeout``, on other nodes with
    nothing to say why; and the launcher would end with the exit code of a rank that it killed.

    Raises:
        UserError: on every rank, with what was wrong on any of them.
        MayPass: on every rank, when all that was wrong on any may pass.
    """
    try:
        result, fault = work(), None
    except UserError as error:
        fault = error
    faults = [one for one in dist.all_gather_object(fault) if one is not None]
    if faults:
        raise in_one(faults)
    return result


def of_rank_0(work: Callable[[], T]) -> T:
    """What ``work`` gives on rank 0, on every rank.

    Raises:
        UserError, MayPass: on every rank, what it raises there.
    """
    return dist.all_gather_object(together(work if dist.get_global_rank() == 0 else _nothing))[0]


def _nothing() -> Any:
    """What the other ranks do meanwhile."""


def in_one(faults: Sequence[UserError]) -> UserError:
    """The faults of all ranks as one: another start may not meet it when it may meet none of them."""
    kind = MayPass if all(isinstance(fault, MayPass) for fault in faults) else UserError
    return kind("\n  ".join(dict.fromkeys(str(fault) for fault in faults)), shared=True)
