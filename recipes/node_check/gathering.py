"""How the ranks of a check tell each other what they have found, so that one that is dead or hangs is named.

A collective would only say that it timed out. Here each rank lays its findings into the store of rank 0, and every rank
sees whose are not there.
"""

import json
import os
import socket
import time
from datetime import timedelta
from typing import Any

from torch.distributed import DistError, TCPStore

from base.errors import UserError

LEAVE_SECONDS = 10.0


class Gathering:
    """The ranks of one launch, as the launcher's environment says it.

    Raises:
        UserError: on every rank that is there: the store of rank 0 cannot be reached, or a rank did not come.
    """

    def __init__(self, join_seconds: float):
        if "RANK" not in os.environ:
            raise UserError(
                "the node check is started by a launcher, as training is: composer -n 8 -m recipes.node_check …"
            )
        self.rank, self.world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.local_rank, self.ranks_per_node = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        self.node, self.hostname = self.rank // self.ranks_per_node, socket.gethostname()
        self.nodes = self.world_size // self.ranks_per_node
        self._hostnames: dict[int, str] = {}
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        try:
            self.store = TCPStore(
                address, port, self.world_size, is_master=self.rank == 0,
                timeout=timedelta(seconds=join_seconds), wait_for_workers=False,
            )  # fmt: skip
        except (DistError, RuntimeError) as error:
            raise UserError(
                f"node {self.node} ({self.hostname}) cannot meet the others at {address}:{port}: {_first_line(error)}; "
                "is node 0 up, is this its address, is the port free there and open between the nodes?",
                shared=True,
            ) from None
        names = self.exchange("hostname", self.hostname, join_seconds)
        self._hostnames = dict(enumerate(names))

    def exchange(self, key: str, mine: Any, seconds: float) -> list[Any]:
        """Every rank's value (whatever JSON can hold), in the order of ranks.

        Raises:
            UserError: after ``seconds``, with the ranks whose value is not there.
        """
        self.store.set(f"{key}/{self.rank}", json.dumps(mine))
        keys = [f"{key}/{rank}" for rank in range(self.world_size)]
        deadline = time.monotonic() + seconds
        try:
            while not self.store.check(keys):
                if time.monotonic() > deadline:
                    raise UserError(self._missing(key, keys, seconds), shared=True)
                time.sleep(0.05)
            return [json.loads(value) for value in self.store.multi_get(keys)]
        except (DistError, RuntimeError) as error:
            raise UserError(
                f"the check lost {self._called(0)} at the step {key}: {_first_line(error)}; its own log says why",
                shared=True,
            ) from None

    def leave(self) -> None:
        """Rank 0 holds the store, so it goes last; the others need not wait for it."""
        left = self.store.add("left", 1)
        deadline = time.monotonic() + LEAVE_SECONDS
        while self.rank == 0 and left < self.world_size and time.monotonic() < deadline:
            time.sleep(0.05)
            left = self.store.add("left", 0)

    def _missing(self, key: str, keys: list[str], seconds: float) -> str:
        absent = [rank for rank, one in enumerate(keys) if not self.store.check([one])]
        named = ", ".join(self._called(rank) for rank in absent)
        return (
            f"{len(absent)} of {self.world_size} ranks gave nothing for {seconds:.0f} s at the step {key}: {named}; "
            "look at their logs, leave the nodes out or start the job on all of them"
        )

    def _called(self, rank: int) -> str:
        hostname = f" ({self._hostnames[rank]})" if rank in self._hostnames else ""
        return f"rank {rank} of node {rank // self.ranks_per_node}{hostname}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
