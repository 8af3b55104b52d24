"""When a run is killed, which of its processes, and what it cost."""

import json
import random
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

KINDS = ("job", "rank", "launcher", "upload", "start")
START_SECONDS = 12.0  # within which a start is killed
PATIENCE = 240.0


@dataclass
class Kill:
    """One SIGKILL, or those to all of the job.

    Attributes:
        kind: one of KINDS; of a start, what of it.
        moment: ``time.monotonic()``.
        steps: how many had begun until then, in all processes of the run.
        batch: that of the last.
        seconds_to_next_step: from the kill to the next step of the run that went on.
        batches_again: that were trained a second time for it.
    """

    kind: str
    moment: float
    steps: int
    batch: int
    seconds_to_next_step: float | None = None
    batches_again: int | None = None

    def finish(self, steps: list[bytes]) -> None:
        """Note what it cost, once a step has begun after it."""
        after = json.loads(steps[self.steps])
        self.seconds_to_next_step = round(max(0.0, after["time"] - self.moment), 1)
        self.batches_again = max(0, self.batch - after["batch"] + 1)


class Job:
    """The restart loop with all below it, seen from outside; ``watched`` is what the ranks write of their steps."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path, watched: Path, staging: Path):
        self.command, self.environment, self.log = command, environment, log
        self.steps, self.staging = watched / "rank-0.jsonl", staging
        self.process = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        return self.process

    def end(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            for one in self.everything():
                with suppress(psutil.NoSuchProcess):
                    one.kill()

    def last_step(self) -> tuple[int, int]:
        """How many steps have begun in all, and the batch of the last."""
        if not self.steps.exists():
            return 0, -1
        lines = self.steps.read_bytes().splitlines()
        while lines and not lines[-1].endswith(b"}"):
            lines.pop()  # killed while it wrote
        return len(lines), json.loads(lines[-1])["batch"] if lines else -1

    def launcher_and_ranks(self) -> tuple[psutil.Process | None, list[psutil.Process]]:
        try:
            for one in psutil.Process(self.process.pid).children():
                if "composer.cli.launcher" in one.cmdline():
                    return one, [rank for rank in one.children() if rank.status() != psutil.STATUS_ZOMBIE]
        except psutil.NoSuchProcess:
            pass
        return None, []

    def everything(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]


def kill_at_random(job: Job, number: int, batches: int, seed: int) -> list[Kill]:
    """Kill the job so many times, spread over its batches; it must be gone on with after each.

    Raises:
        RuntimeError: the job has ended, or made no step for too long.
    """
    draw = random.Random(seed)
    window = batches // (number + 1)
    kills: list[Kill] = []
    for index in range(number):
        kind = draw.choice(KINDS if index else KINDS[:-1])
        if kind == "start":
            time.sleep(draw.uniform(0, START_SECONDS))
            kind = draw.choice(("start: rank", "start: launcher", "start: job"))
        else:
            _wait_for_batch(job, (index + 1) * window - draw.randrange(window // 2))
            _finish(kills, job)
            if kind == "upload":
                _wait_for_upload(job)
            else:
                time.sleep(draw.uniform(0, 0.5))
        kills.append(_kill(job, kind, draw))
    _wait_for_batch(job, kills[-1].batch + 1)
    _finish(kills, job)
    return kills


def _kill(job: Job, kind: str, draw: random.Random) -> Kill:
    launcher, ranks = job.launcher_and_ranks()
    whole = kind.endswith("job") or launcher is None or not ranks
    if whole:
        victims = job.everything()
    elif kind.endswith("launcher"):
        victims = [launcher] if launcher is not None else []
    else:
        victims = [draw.choice(ranks)]
    for one in victims:
        with suppress(psutil.NoSuchProcess):
            one.send_signal(signal.SIGKILL)
    kill = Kill(kind, time.monotonic(), *job.last_step())
    if whole:
        job.process.wait()
        job.start()
    return kill


def _finish(kills: list[Kill], job: Job) -> None:
    steps = job.steps.read_bytes().splitlines() if job.steps.exists() else []
    for kill in kills:
        if kill.seconds_to_next_step is None:
            kill.finish(steps)


def _wait_for_batch(job: Job, batch: int) -> None:
    deadline = time.monotonic() + PATIENCE
    steps = job.last_step()[0]
    while job.last_step()[1] < batch:
        now = job.last_step()[0]
        if now > steps:
            steps, deadline = now, time.monotonic() + PATIENCE
        if job.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"it ended ({job.process.poll()}) or hung before batch {batch}; see {job.log}")
        time.sleep(0.05)


def _wait_for_upload(job: Job) -> None:
    deadline = time.monotonic() + PATIENCE
    while not any(job.staging.glob("ep*/*")):
        if job.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"it saved nothing; see {job.log}")
        time.sleep(0.002)
