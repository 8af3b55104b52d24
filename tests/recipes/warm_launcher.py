"""Composer's launcher, started before it is needed: its ranks are forks of it, which need not import torch again.

All else is its own: the ranks' environment, their output, watching them, exit codes. It reads its arguments and its
environment from standard input, as a line of JSON, and ends where there is none.
"""

import atexit
import json
import os
import runpy
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, NoReturn

import composer.cli.launcher

import recipes.preflight
import recipes.pretrain  # noqa: F401  what takes ranks so long


class Fork:
    """As much of a Popen as the launcher needs."""

    def __init__(self, command: list[str], stdout: Any = None, stderr: Any = None, text: bool = True):
        self.args, self.stdout, self.stderr = command, stdout, stderr
        self.returncode: int | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _be(command[1:], stdout, stderr)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def _be(script: list[str], stdout: Any, stderr: Any) -> NoReturn:
    for file, number in ((stdout, 1), (stderr, 2)):
        if file is not None:
            os.dup2(file.fileno(), number)
    sys.argv[:] = script
    sys.path[0] = os.path.dirname(script[0])
    code: Any = 0
    try:
        runpy.run_path(script[0], run_name="__main__")
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        code = 1
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    line = sys.stdin.readline()
    if not line:
        sys.exit()
    arguments, environment = json.loads(line)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
    composer.cli.launcher.subprocess = SimpleNamespace(  # type: ignore[assignment]
        Popen=Fork, STDOUT=subprocess.STDOUT, CalledProcessError=subprocess.CalledProcessError
    )
    sys.exit(composer.cli.launcher.main())
