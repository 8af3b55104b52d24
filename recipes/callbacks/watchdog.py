"""Ends a run that hangs, with the stack of every rank, and names who is behind."""

import faulthandler
import os
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from composer import Callback, Logger, State
from composer.utils import dist

from base.errors import FAILED
from base.progress import say
from base.storage import disk_error
from recipes.together import together

LOOK_SECONDS = 1.0
SPEAK_SECONDS = 5.0  # in which the ranks of a node write down their stacks; then its first one tells of them
FRAMES = 10  # of the main thread, told on the console; the file has all


class Watchdog(Callback):
    """Ends this process when nothing has been finished for ``seconds``: no batch, no forward pass of an evaluation.

    A rank that hangs holds up all others in the collective that they meet next, so all watchdogs of a run bark at about
    the same time. Each writes the stacks of all its threads to ``FOLDER/rank-N.txt``; the first rank of each node tells
    on the console where each of the node's ranks stands, which was last seen earliest, and which gives no answer. Then
    the processes end with code 1, and the launch recipe starts the run again.

    Should the interpreter itself be stuck, in which no thread of Python runs, faulthandler writes the stacks and ends
    the process after another ``seconds``.

    Args:
        seconds: more than the slowest step, save or upload takes, less than ``dist_timeout``.
        folder: local.
    """

    def __init__(self, seconds: float, folder: Path):
        self.seconds, self.folder = seconds, folder
        self.seen = time.monotonic()
        self.doing = "starting"
        self.over = threading.Event()

    def fit_start(self, state: State, logger: Logger) -> None:
        together(lambda: self._empty_folder() if dist.get_local_rank() == 0 else None)
        state.model.register_forward_pre_hook(self._forward)
        self._sign(f"before batch {state.timestamp.batch.value}")
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def _empty_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for old in self.folder.glob("rank-*.txt"):
                old.unlink()
        except OSError as error:
            raise disk_error(self.folder, error) from error

    def before_dataloader(self, state: State, logger: Logger) -> None:
        self.doing = f"waiting for batch {state.timestamp.batch.value}, or for other ranks to have it"

    def after_dataloader(self, state: State, logger: Logger) -> None:
        self.doing = f"in batch {state.timestamp.batch.value}"

    def batch_end(self, state: State, logger: Logger) -> None:
        self._sign(f"after batch {state.timestamp.batch.value - 1}")

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        self._sign(f"saving or scoring after batch {state.timestamp.batch.value - 1}")

    def fit_end(self, state: State, logger: Logger) -> None:
        self._sign("after the last batch")

    def close(self, state: State, logger: Logger) -> None:
        self.over.set()

    def _forward(self, model: Any, arguments: Any) -> None:
        if not model.training:
            self._sign("evaluating")

    def _sign(self, doing: str) -> None:
        self.seen, self.doing = time.monotonic(), doing

    def _watch(self) -> None:
        rank = dist.get_global_rank()
        with (self.folder / f"rank-{rank}.txt").open("w", encoding="utf-8") as file:
            while not self.over.wait(min(LOOK_SECONDS, self.seconds / 10)):
                faulthandler.dump_traceback_later(2 * self.seconds, exit=True, file=file)
                if time.monotonic() - self.seen > self.seconds:
                    break
            faulthandler.cancel_dump_traceback_later()
            if self.over.is_set():
                return
            try:
                file.write(self._standing() + "\n")
                faulthandler.dump_traceback(file, all_threads=True)
                file.flush()
            finally:  # a full disk must not keep it from ending
                self._end()

    def _standing(self) -> str:
        """Where this rank stands: ``SEEN DOING``, and the innermost frames of its main thread.

        SEEN is by time.monotonic(), one clock for all processes of a node.
        """
        frame = sys._current_frames()[threading.main_thread().ident or 0]
        stack = traceback.format_stack(frame)[-FRAMES:]
        return f"{self.seen:.1f} {self.doing}\n" + "".join(stack)

    def _end(self) -> None:
        try:
            time.sleep(SPEAK_SECONDS)
            if dist.get_local_rank() == 0:
                say(f"watchdog: no step has ended for {self.seconds:g} s (callbacks.watchdog.seconds)\n{self._told()}")
            else:
                time.sleep(SPEAK_SECONDS)  # Composer's launcher ends all when one has ended
            for child in psutil.Process().children(recursive=True):  # a loader worker that hangs would stay
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        finally:
            os._exit(FAILED)

    def _told(self) -> str:
        first = dist.get_global_rank()
        now, told, seen = time.monotonic(), [], {}
        for rank in range(first, first + dist.get_local_world_size()):
            lines = (self.folder / f"rank-{rank}.txt").read_text(encoding="utf-8").splitlines()
            if not lines:
                told.append(f"rank {rank}: no answer: stopped, stuck outside Python, or seen later than these")
                continue
            when, _, doing = lines[0].partition(" ")
            seen[rank] = float(when)
            told.append(f"rank {rank}: {now - seen[rank]:.0f} s since: {doing}")
            told += [line for line in lines[1 : 2 * FRAMES + 1] if line.startswith(" ")]
        earliest = sorted(seen, key=seen.__getitem__)
        if len(earliest) > 1 and seen[earliest[1]] - seen[earliest[0]] > LOOK_SECONDS:  # else they fell silent together
            told.append(f"first to fall silent: rank {earliest[0]}")
        told.append(f"all stacks of this node: {self.folder}")
        return "\n".join(told)
