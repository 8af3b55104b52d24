"""A run on two ranks that is killed 30 times before a store that misbehaves, against the same run left alone.

Both train the same small model on the same shards in a real S3 server, with validation, scores, and checkpoints in the
bucket. One is started once. The other reaches the server through benchmarks/faulty_proxy.py, which spoils a part of
all requests, under the restart loop of the launch recipes, and is killed with SIGKILL at random moments: the whole job,
one rank, Composer's launcher (its ranks then save and end), a rank while checkpoints are being uploaded, and a start.

    python -m benchmarks chaos [--kills 30] [--faults 0.05] [--batches 1800]
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from base import storage
from base.errors import UserError
from base.local_s3 import LocalS3, local_s3
from base.progress import say
from benchmarks.chaos.kills import Job, Kill, kill_at_random
from benchmarks.chaos.small_run import BATCH, configuration, send, write_data, write_yaml
from benchmarks.faulty_proxy import faulty_proxy
from recipes.metrics import LOSS, read_metrics, series

RANKS = 2
SAVE_INTERVAL = 20
SCRIPT = "benchmarks/chaos/watched_train.py"


def measure(arguments: list[str]) -> dict[str, Any]:
    """Whether both runs are equal, what was lost or doubled, what each kill cost, which faults there were."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--faults", type=float, default=0.05, help="the part of all requests that is spoiled")
    parser.add_argument("--batches", type=int, default=1800)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--folder", help="where to work, and to leave everything; by default nothing is left")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        folder = Path(given.folder or temporary).absolute()
        with local_s3(folder / "s3") as server:
            os.environ.update(server.environment)
            storage._client.cache_clear()
            return Chaos(folder, server, given).measure()


class Chaos:
    """Both runs in one folder and one bucket."""

    def __init__(self, folder: Path, server: LocalS3, given: argparse.Namespace):
        self.folder, self.server, self.given = folder, server, given
        self.data = folder / "data"
        self.bucket = server.location("chaos")

    def measure(self) -> dict[str, Any]:
        write_data(self.data, sequences=self.given.batches * BATCH // 3)  # three epochs
        send(self.data / "mds", f"{self.bucket}/mds")
        say("the run that is left alone")
        whole_seconds = self._train_whole()
        say("the run that is killed")
        start = time.monotonic()
        with faulty_proxy(self.server.endpoint, self.given.faults, self.given.seed) as proxy:
            kills = self._train_killed(proxy.endpoint)
            faults = Counter(proxy.counts)
        seconds = time.monotonic() - start
        requests = faults.pop("requests")
        return {
            **self._compared(),
            "kills": len(kills),
            "kills_by_kind": Counter(kill.kind for kill in kills),
            "faults": sum(faults.values()),
            "faults_by_kind": faults,
            "requests": requests,
            "seconds_whole": round(whole_seconds, 1),
            "seconds_killed": round(seconds, 1),
            "recovery_seconds_median": median(_known(kill.seconds_to_next_step) for kill in kills),
            "recovery_seconds_max": max(_known(kill.seconds_to_next_step) for kill in kills),
            "batches_again": sum(_known(kill.batches_again) for kill in kills),
            "start_seconds": self._starts(),
            "moments": [{key: value for key, value in asdict(kill).items() if key != "moment"} for kill in kills],
        }

    def _train_whole(self) -> float:
        start = time.monotonic()
        command = self._composer(self._yaml("whole"))
        with (self.folder / "whole" / "log").open("wb") as log:
            environment = self._environment("whole", self.server.endpoint)
            code = subprocess.run(command, env=environment, stdout=log, stderr=log, check=False).returncode
        _require(code == 0, f"the run that is left alone ended with {code}", self.folder / "whole" / "log")
        return time.monotonic() - start

    def _train_killed(self, endpoint: str) -> list[Kill]:
        loop = [sys.executable, "-m", "recipes.launch.run_on_node", "--max-restarts", "1000"]
        loop += ["--backoff-seconds", "1", "--steady-seconds", "5"]  # these kills come closer together than faults do
        command, log = [*loop, *self._composer(self._yaml("killed"))], self.folder / "killed" / "log"
        staging = self.folder / "killed" / "run" / "staging"
        job = Job(command, self._environment("killed", endpoint), log, self._watched("killed"), staging)
        try:
            kills = kill_at_random(job, self.given.kills, self.given.batches, self.given.seed)
            code = job.process.wait(timeout=3600)
        finally:
            job.end()
        _require(code == 0, f"the run that is killed ended with {code}", log)
        return kills

    def _compared(self) -> dict[str, Any]:
        whole, killed = (trained(self._watched(name)) for name in ("whole", "killed"))
        due = [row for rows in whole.values() for row in rows]
        seen = Counter(row for batch, rows in killed.items() for row in rows)
        losses = [
            series(read_metrics(self.folder / name / "run" / "metrics.jsonl"), LOSS) for name in ("whole", "killed")
        ]
        weights = [self._weights(name) for name in ("whole", "killed")]
        return {
            "weights_equal": weights[0] == weights[1],
            "weights_sha256": weights,
            "losses_equal": losses[0] == losses[1],
            "batches": len(killed),
            "batches_equal": whole == killed,
            "samples_due": len(due),
            "samples_lost": sum((Counter(due) - seen).values()),
            "samples_doubled": sum((seen - Counter(due)).values()),
            "trained_otherwise_meanwhile": _otherwise(self._watched("killed"), whole),
            "checkpoints_verified": self._verified(),
            "shards_intact": all(
                storage.read_bytes(f"{self.bucket}/mds/{name}") == (self.data / "mds" / name).read_bytes()
                for name in storage.list_files(str(self.data / "mds"))
            ),
        }

    def _weights(self, name: str) -> str:
        """sha256 of the last checkpoint's weights."""
        from model.checkpoint import fetch, load_weights, resolve

        place = self.folder / "final" / name
        fetch(resolve(f"{self.bucket}/{name}"), place)
        weights = load_weights(place)[1]
        digest = hashlib.sha256()
        for key in sorted(weights):
            digest.update(key.encode() + weights[key].numpy().tobytes())
        return digest.hexdigest()

    def _verified(self) -> int:
        """How many checkpoints are in the bucket, all of which are whole."""
        from model.checkpoint import list_checkpoints

        for name in ("whole", "killed"):
            subprocess.run([sys.executable, "-m", "model.checkpoint", "verify", f"{self.bucket}/{name}"], check=True)
        found = [one for name in ("whole", "killed") for one in list_checkpoints(f"{self.bucket}/{name}")]
        return sum(one.whole for one in found) if all(one.whole or one.set_aside for one in found) else 0

    def _starts(self) -> dict[str, float]:
        """Seconds of each part of a start, the median of all that came to a step."""
        parts: dict[str, list[float]] = {}
        for line in (self.folder / "killed" / "run" / "metrics.jsonl").read_text().splitlines():
            for name, value in json.loads(line).items():
                if name.startswith("start/"):
                    parts.setdefault(name.removeprefix("start/"), []).append(value)
        return {name: round(median(values), 2) for name, values in parts.items()}

    def _yaml(self, name: str) -> Path:
        folder = self.folder / name
        content = configuration(name, folder, self.data, self.bucket, self.given.batches, SAVE_INTERVAL)
        return write_yaml(folder, content)

    def _watched(self, name: str) -> Path:
        return self.folder / name / "watched"

    def _composer(self, yaml: Path) -> list[str]:
        return [sys.executable, "-m", "composer.cli.launcher", "-n", str(RANKS), SCRIPT, str(yaml)]

    def _environment(self, name: str, endpoint: str) -> dict[str, str]:
        ours = {"WATCHED": str(self._watched(name)), "S3_ENDPOINT_URL": endpoint, "PYTHONPATH": os.getcwd()}
        return os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | ours


def trained(watched: Path) -> dict[int, list[str]]:
    """Of each batch its sequences over all ranks, in the process that trained it last."""
    batches: dict[int, dict[str, list[str]]] = {}
    for file in sorted(watched.glob("rank-*.jsonl")):
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            batches.setdefault(entry["batch"], {})[file.name] = entry["rows"]
    return {batch: [row for rows in by_rank.values() for row in rows] for batch, by_rank in sorted(batches.items())}


def _otherwise(watched: Path, whole: dict[int, list[str]]) -> int:
    """Steps, those that were done again among them, that had other sequences than they should."""
    wrong = 0
    for rank, file in enumerate(sorted(watched.glob("rank-*.jsonl"))):
        each = BATCH // RANKS
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            wrong += entry["rows"] != whole[entry["batch"]][rank * each : (rank + 1) * each]
    return wrong


def _known(value: Any) -> Any:
    assert value is not None
    return value


def _require(fine: bool, what: str, log: Path) -> None:
    if not fine:
        raise UserError(
            f"{what}; the end of its log:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-30:])
        )
