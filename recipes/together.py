"""Work that may fail on one rank alone, done so that no other rank is left waiting for it."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from composer.utils import dist

from base.errors import StoreTrouble, UserError

T = TypeVar("T")


def together(work: Callable[[], T]) -> T:
    """Do ``work`` on this rank, and go on when every rank has done its own.

    A rank that ended alone would leave the others in their next collective until ``dist_timeout``, on other nodes with
    nothing to say why; and the launcher would end with the exit code of a rank that it killed.

    Raises:
        UserError: on every rank, with what was wrong on any of them.
        StoreTrouble: on every rank, when nothing else was wrong on any.
    """
    try:
        result, fault = work(), None
    except UserError as error:
        fault = error
    faults = [one for one in dist.all_gather_object(fault) if one is not None]
    if faults:
        raise in_one(faults)
    return result


def in_one(faults: Sequence[UserError], title: str | None = None) -> UserError:
    """The faults of all ranks as one: of the store, to be started again after, when all of them are."""
    kind = StoreTrouble if all(isinstance(fault, StoreTrouble) for fault in faults) else UserError
    lines = dict.fromkeys(str(fault) for fault in faults)
    return kind("\n  ".join([title, *lines] if title else lines), shared=True)
