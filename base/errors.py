"""The one kind of error that a user can mend, and how every command ends."""

import os
import sys
import time
import traceback
from collections.abc import Callable
from types import TracebackType

from base.masking import without_secrets

MENDABLE = 2  # exit code for what the user can mend: configuration, missing input, credentials
FAILED = 1  # exit code for the rest
START_AGAIN = 75  # exit code for what is to be started again: all it had is saved (EX_TEMPFAIL of sysexits.h)
LET_THE_FIRST_SPEAK = 10.0  # seconds


class UserError(Exception):
    """What was wrong, where, and what to do, without secrets. Commands print it without a traceback and exit with 2.

    ``shared`` marks a fault that every rank of a launch meets alike, such as one in the configuration: the first rank
    of each node alone prints it.
    """

    def __init__(self, message: str, shared: bool = False):
        super().__init__(without_secrets(message))
        self.shared = shared


class NotThere(UserError):
    """Something that a command needs does not exist yet, or cannot be reached from here."""


class MayPass(UserError):
    """What another start may not meet: nothing for the user to mend yet. Exit code 1."""


class StoreTrouble(MayPass, NotThere):
    """The object store fails for now."""


class StartAgain(Exception):
    """The work has ended early with all that it had saved; the same command, started again, goes on.

    Raised on every rank of a launch together, with what ended it. Commands exit with code 75.
    """


class PartlyRefused(Exception):
    """The work is done, but some input was refused; the message says which. Commands exit with code 1."""


def run_command(main: Callable[[], None]) -> None:
    """Run a command's ``main`` and end the process with the exit codes of this repository.

    0: done; 2: a :class:`UserError`, printed as one message on standard error; 75: :class:`StartAgain`; 1:
    :class:`MayPass` or :class:`PartlyRefused`, printed alike, or an unexpected exception, which keeps its
    traceback; 130: Ctrl-C.
    """
    sys.excepthook = _print_without_secrets
    try:
        main()
    except UserError as error:
        if error.shared:
            _let_the_first_speak()  # alive after it, so the first has met no fault: it was not shared
        print(f"error: {error}", file=sys.stderr)
        sys.exit(FAILED if isinstance(error, MayPass) else MENDABLE)
    except StartAgain as reason:
        _let_the_first_speak()
        print(f"stopped: {without_secrets(str(reason))}; the same command, started again, goes on", file=sys.stderr)
        sys.exit(START_AGAIN)
    except PartlyRefused as error:
        print(f"refused: {without_secrets(str(error))}", file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on where this one was", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as in `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)


def _print_without_secrets(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An unexpected exception, as Python prints it: its text may be a library's, with the URL that it asked for."""
    print(without_secrets("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def _let_the_first_speak() -> None:
    """Composer's launcher ends all ranks of its node when one has ended.

    That might be the first, before it has said what is wrong; and the launcher ends with the exit code of the lowest
    rank, which would then be that of a killed process.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        time.sleep(LET_THE_FIRST_SPEAK)
