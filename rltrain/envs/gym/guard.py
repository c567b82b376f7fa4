"""Run the code of a gymnasium environment, so that whatever it raises carries the environment's name."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn

import gymnasium

from rltrain.config.user_code import describe
from rltrain.envs.patience import CLOSING_S, StandsStill, interruptible
from rltrain.errors import EnvironmentFailure, RltrainError, printable
from rltrain.system import out_of_memory, signals


class Exited(Exception):
    """The environment called `os._exit`, which would have ended the trainer without a word."""


@contextlib.contextmanager
def environment_code(env_id: str, fix: str = "the fault is in the environment") -> Iterator[None]:
    """Turn whatever an environment raises inside, `sys.exit` and `os._exit` included, into EnvironmentFailure."""
    true_exit = os._exit
    # Not in a worker process: its trainer sees that it exits.
    if multiprocessing.parent_process() is None and threading.current_thread() is threading.main_thread():
        os._exit = _refuse_exit
    try:
        yield
    except RltrainError:
        raise
    except (Exception, SystemExit) as error:
        if out_of_memory.is_shortage(error):  # it has an exit code of its own
            raise
        raise EnvironmentFailure(f"environment '{env_id}' raised {describe(error)}", "env.id", fix) from error
    except KeyboardInterrupt as error:
        if signals.interrupts or signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            raise
        # No signal came: the environment raised it itself.
        raise EnvironmentFailure(f"environment '{env_id}' raised {describe(error)}", "env.id", fix) from error
    finally:
        os._exit = true_exit


_exit, _process = os._exit, os.getpid()


def _refuse_exit(status: int) -> NoReturn:
    # Another thread, a signal handler or a forked child may really want to leave.
    if os.getpid() != _process or threading.current_thread() is not threading.main_thread():
        _exit(status)
    raise Exited(f"the environment called os._exit({status})")


def close(env: gymnasium.Env, env_id: str) -> None:
    """Close an environment. An error is only a warning: what the environment gave before is right."""
    try:
        with environment_code(env_id), interruptible(CLOSING_S):
            env.close()
    except StandsStill:
        print(printable(f"rltrain: warning: environment '{env_id}' does not close"), file=sys.stderr)
    except EnvironmentFailure as failure:
        print(f"rltrain: warning: {failure.what} while it was closed", file=sys.stderr)
