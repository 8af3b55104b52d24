"""Going on from a checkpoint: the newest or a given one, agreed by all ranks and checked on every node."""

import secrets
import shutil
from functools import partial
from pathlib import Path

from composer import State
from composer.utils import dist
from streaming import StreamingDataset

from base.errors import UserError
from base.progress import say
from model.checkpoint import DamagedCheckpoint, fetch, read_manifest
from model.safe_reading import require_safe
from recipes.interventions import to_go_on_from
from recipes.together import together


def fetch_newest(save_folder: str, into: Path) -> Path | None:
    """Copy the newest whole checkpoint to ``into`` on every node; None when there is none.

    A damaged one is named and the one before it is taken.

    Raises:
        UserError: on every rank: there are checkpoints, and all of them are damaged; or one node could not fetch.
    """
    whole = together(lambda: [one.location for one in to_go_on_from(save_folder)] if _leads() else [])
    candidates: list[str] = dist.all_gather_object(whole)[0]
    for location in reversed(candidates):
        trouble = together(partial(_fetch_on_this_node, location, into))
        troubles = [one for one in dist.all_gather_object(trouble) if one is not None]
        if not troubles:
            return into
        if _leads():
            say(f"left out: {troubles[0]}")
    if candidates:
        raise UserError(f"{save_folder}: every checkpoint there is damaged; none can be resumed from", shared=True)
    return None


def fetch_given(location: str, into: Path) -> Path:
    """Copy the checkpoint at ``location``, of another run, to ``into`` on every node.

    Raises:
        UserError: on every rank: it is damaged, or one node could not fetch it. No other is taken in its place.
    """

    def fetch_once_a_node() -> None:
        if dist.get_local_rank() == 0:
            shutil.rmtree(into, ignore_errors=True)
            fetch(location, into)

    together(fetch_once_a_node)
    return into


def require_safe_everywhere(folder: Path) -> None:
    """Look, on every node, whether the fetched checkpoint can be loaded without running what stands in it.

    Raises:
        UserError: on every rank: it cannot, or nobody can tell.
    """

    def look_once_a_node() -> None:
        try:
            if dist.get_local_rank() == 0:
                require_safe(folder)
        except UserError as error:
            raise UserError(f"{error}; trust_checkpoint: true lets it run, if you trust whoever wrote it") from None

    together(look_once_a_node)


def id_of_run(own: Path | None) -> str:
    """What trackers know the run by, on every rank the same: what its checkpoint has, else a new one.

    Args:
        own: the fetched checkpoint of this run. One of another run is none: what goes on from it is a new run.
    """
    known = read_manifest(str(own)).get("run_id") if own is not None else None
    return dist.all_gather_object(known or secrets.token_hex(4))[0]


def begin_an_epoch(state: State) -> None:
    """Leave the checkpoint's place in its data: an epoch of this run's data begins, in this run's order.

    What is counted within an epoch is counted anew, the rest goes on.
    """
    dataset: StreamingDataset = state.dataloader.dataset
    state.timestamp = state.timestamp.copy(batch_in_epoch=0, sample_in_epoch=0, token_in_epoch=0)
    order = {"num_canonical_nodes": dataset.num_canonical_nodes, "shuffle_seed": dataset.shuffle_seed}
    dataset.load_state_dict({"epoch": state.timestamp.epoch.value, "sample_in_epoch": 0, **order})


def go_on_in_the_data(state: State) -> None:
    """Begin the epoch that is due, when the checkpoint was written between two.

    Composer 0.32.1 takes the place from its own count, which is in the new epoch by then, and the epoch from Streaming,
    which is still in the old one: all of it would be trained once more.
    """
    dataset: StreamingDataset = state.dataloader.dataset
    if state.timestamp.batch_in_epoch == 0:
        place = dataset.state_dict(0, from_beginning=True) | {"epoch": state.timestamp.epoch.value}
        dist.barrier()  # the ranks of a machine share what is written now: all have read it
        dataset.load_state_dict(place)


def _leads() -> bool:
    return dist.get_global_rank() == 0


def _fetch_on_this_node(location: str, into: Path) -> str | None:
    """What is wrong with the checkpoint, or None."""
    trouble = None
    if dist.get_local_rank() == 0:
        shutil.rmtree(into, ignore_errors=True)
        try:
            fetch(location, into)
        except DamagedCheckpoint as error:
            trouble = str(error)
    return trouble
