"""Run the code of a gymnasium environment, so that whatever it raises carries the environment's name."""

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import weakref
from typing import Any, NamedTuple, NoReturn

import gymnasium

from rltrain.config.user_code import describe
from rltrain.envs.patience import CLOSING_S, StandsStill, interruptible
from rltrain.errors import EnvironmentFailure, Halt, OutOfMemory, RltrainError
from rltrain.system import notices, out_of_memory, process, signals, terminal


class Exited(Exception):
    """The environment called `os._exit`, which would have ended the trainer without a word."""


class environment_code:
    """Turn whatever an environment raises inside, `sys.exit` and `os._exit` included, into EnvironmentFailure.

    A class, because each step enters it: a generator would take three times as long.
    """

    def __init__(self, env_id: str, fix: str = "the fault is in the environment") -> None:
        self._id, self._fix = env_id, fix

    def __enter__(self) -> None:
        global _is_inside
        self._casts = _any_autocast()
        if self._id in _torch:
            _set_torch(_torch[self._id])
        self._before, self._is_main = _is_inside, threading.get_ident() == _main
        self._num_forks, self._temporary = _num_forks, tempfile.tempdir
        self._stdout, self._stderr = sys.stdout, sys.stderr
        if self._is_main:
            _is_inside = True

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        global _is_inside
        if self._is_main:
            _is_inside = self._before
        if _num_forks != self._num_forks:  # the environment has forked: the trainer's copy must not train, too
            process.exit_now(0)
        if not self._before:  # else the environment's code goes on
            _keep_torch(self._id, self._casts)
        if tempfile.tempdir is not self._temporary:
            tempfile.tempdir = self._temporary  # the environment's own may be gone when it is closed
        if sys.stdout is not self._stdout or sys.stderr is not self._stderr:
            terminal.guard()  # what it was replaced by may have less than a stream has
        if error is None or isinstance(error, RltrainError | Halt):
            return
        if isinstance(error, KeyboardInterrupt) and (
            signals.interrupts or signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            return  # else no signal came: the environment raised it itself
        if out_of_memory.is_shortage(error):
            what = f"environment '{self._id}': {out_of_memory.describe(error)}"
            raise OutOfMemory(what, "env.id, num_envs", "use fewer environments, or let each take less") from error
        raise EnvironmentFailure(f"environment '{self._id}' raised {describe(error)}", "env.id", self._fix) from error


class _Defaults(NamedTuple):
    """What torch computes with unless it is told otherwise."""

    dtype: Any
    device: Any
    """None for the CPU without a mode of torch's."""
    casts: dict[str, Any] | None
    """The dtype of autocast by the kind of device, where it is on; None: as it was."""


_torch: dict[str, _Defaults] = {}
"""Those of an environment that has set its own, while its code runs, by the environment's id."""


def _any_autocast() -> bool:
    """Return True if autocast is on for any kind of device. As soon as torch is imported, its own function."""
    return False


def _keep_torch(env_id: str, casts: bool) -> None:
    """Put torch's defaults back, with which networks are made. The environment finds its own there next time.

    casts: autocast was on before, as in an algorithm of a plugin.
    """
    global _any_autocast
    torch: Any = sys.modules.get("torch")
    if not hasattr(torch, "get_default_dtype"):  # not imported, or not yet whole
        return
    _any_autocast = torch._C._is_any_autocast_enabled  # looking for it takes longer than the call
    dtype, is_cast = torch.get_default_dtype(), not casts and _any_autocast()
    # A default device is a mode on this stack. The device itself takes 0.4 us to read, torch.get_default_device 1 us.
    if dtype is torch.float32 and not is_cast and not _torch and not torch._C._len_torch_function_stack():
        return
    device = getattr(getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None), "device_context", None)
    if dtype is torch.float32 and device is None and not is_cast:
        _torch.pop(env_id, None)
        return
    kinds = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    dtypes = None if casts else {kind: torch.get_autocast_dtype(kind) for kind in kinds}
    _torch[env_id] = _Defaults(dtype, device and device.device, dtypes)
    _set_torch(_Defaults(torch.float32, None, None if casts else {}))


def _set_torch(defaults: _Defaults) -> None:
    torch: Any = sys.modules["torch"]
    torch.set_default_dtype(defaults.dtype)
    torch.set_default_device(defaults.device)
    if (casts := defaults.casts) is not None:
        for kind in ("cpu", "cuda"):
            torch.set_autocast_enabled(kind, kind in casts)
            torch.set_autocast_dtype(kind, casts.get(kind, torch.get_autocast_dtype(kind)))


with contextlib.suppress(OSError):  # there is no folder for temporary files
    tempfile.gettempdir()  # now, because an environment may change TMPDIR, too

_num_forks = 0
"""How many forks lie between this process and the one that imported this module. `os.getpid` would ask the kernel."""


def _note_fork() -> None:
    global _num_forks
    _num_forks += 1


os.register_at_fork(after_in_child=_note_fork)
_is_inside = False
"""True while the main thread runs the code of an environment."""
_main, _process = threading.main_thread().ident, os.getpid()


def _refuse_exit(status: int) -> NoReturn:
    # A forked child may leave, and so may a worker process: its trainer sees that it exits. Not known at the import of
    # this module, which comes before the process is told its parent.
    if os.getpid() != _process or multiprocessing.parent_process() is not None:
        process.exit_now(status)
    if threading.get_ident() != _main:
        failure = EnvironmentFailure(f"a thread called os._exit({status})", "env.id", "the fault is in the environment")
        process.end_with(failure, failure.exit_code)
    if _is_inside or process.last_words:  # while a run trains, this is a signal handler of an environment
        raise Exited(f"the environment called os._exit({status})")
    process.exit_now(status)


os._exit = _refuse_exit


def _tell_exit_of_c() -> None:
    is_trainer = os.getpid() == _process and multiprocessing.parent_process() is None
    if is_trainer and (_is_inside or process.last_words):
        what = "C code of the environment, or of one of its libraries, has ended the process (`exit`)"
        fix = "the fault is in it; with env.workers=1 or more rltrain replaces the environment and trains on"
        failure = EnvironmentFailure(what, "env.id", fix)
        process.end_with(failure, failure.exit_code)


process.answer_exit_of_c(_tell_exit_of_c)


made: weakref.WeakValueDictionary[int, gymnasium.Env] = weakref.WeakValueDictionary()
"""The environments that were made and still exist, without their wrappers, by identity."""
living: weakref.WeakValueDictionary[int, gymnasium.Env] = weakref.WeakValueDictionary()
"""Those of `made` that are not closed."""


def layers(env: gymnasium.Env) -> list[gymnasium.Env]:
    """Return an environment and what its wrappers hold, the innermost last."""
    found = [env]
    while isinstance(found[-1], gymnasium.Wrapper):
        found.append(found[-1].env)
    return found


def close(env: gymnasium.Env, env_id: str) -> None:
    """Close an environment. An error is only a warning: what the environment gave before is right.

    One with a destructor of its own is kept, as nobody could end a destructor that hangs.
    """
    if any(hasattr(type(layer), "__del__") for layer in layers(env)):
        process.undead.append(env)
    living.pop(id(layers(env)[-1]), None)
    try:
        with environment_code(env_id), interruptible(CLOSING_S):
            env.close()
    except StandsStill:
        notices.warn(f"environment '{env_id}' does not close")
    except EnvironmentFailure as failure:
        notices.warn(f"{failure.what} while it was closed")
    signals.keep_process()
