"""Start Ray, or join its cluster. Ray is imported only where a run asks for it."""

import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import psutil

from rltrain.errors import ConfigError, EnvironmentFailure, RltrainError
from rltrain.system import signals

_REACH_S = 10.0
"""The longest wait for an answer of the machine that an address names, in seconds."""
_TRIES = 3
"""Tries to start Ray. It gives up after 30 s, which a busy machine may take longer than."""
_LONGEST_ROOT = 10
"""The longest path of a folder for temporary files that can hold Ray's sockets: Linux takes 107 characters in all."""


def first_line(error: BaseException) -> str:
    """Return the sentence of one of Ray's errors that says why, with the process if it names one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    why = next((line for line in lines if line.startswith("The actor is dead because")), lines[0])
    facts = dict(line.split(": ", 1) for line in lines if line.startswith(("pid: ", "ip: ")))
    where = f" (process {facts['pid']} on {facts['ip']})" if len(facts) == 2 else ""
    return why.split(". ")[0].rstrip(".") + where


def connect(address: str, num_cpus: int, key: str, num_gpus: int | None = 0) -> Callable[[], None]:
    """Start or join Ray. Return the function that ends or leaves it.

    address: local, auto or HOST:PORT. num_cpus, num_gpus: the cores and GPUs that a Ray of our own has to give; None:
    all GPUs of this machine. key: the setting of the address, for errors. Raises ConfigError, EnvironmentFailure.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    place = None
    if address == "local":
        # Listen on the loopback interface alone, whatever the system: Ray's name for the setting tells half of it.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        # Without a token of ours Ray would write one to the home folder.
        if os.environ.setdefault("RAY_AUTH_MODE", "token") == "token":
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        root = tempfile.gettempdir()
        place = tempfile.mkdtemp(prefix="rltrain-ray-", dir=root if len(root) <= _LONGEST_ROOT else "/tmp")
        settings |= {"num_cpus": num_cpus, "num_gpus": num_gpus}
        settings |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1", "_temp_dir": place}
    elif address != "auto":
        host, _, port = address.rpartition(":")
        try:  # Ray itself tries for minutes
            socket.create_connection((host, int(port)), timeout=_REACH_S).close()
        except (OSError, OverflowError) as error:
            raise _no_ray(error, address, key) from error

    def leave() -> None:
        ray.shutdown()
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)

    import ray

    # Ray takes SIGTERM for itself, and answers it by SystemExit.
    handlers = {number: signal.getsignal(number) for number in signals.STOP_SIGNALS}
    others = {child.pid for child in psutil.Process().children()}
    is_stopped = False
    try:
        for tries_left in range(_TRIES - 1 if place else 0, -1, -1):
            try:
                # As in `python -P`: Ray lets its processes look for modules in the working directory first.
                with contextlib.chdir(os.sep) if sys.flags.safe_path else contextlib.nullcontext():
                    ray.init(address, **settings)
                return leave
            except Exception as error:  # Ray raises plain Exceptions, too
                _kill_new_children(others)
                if not tries_left:
                    leave()
                    raise _no_ray(error, address, key) from error
    except SystemExit:
        is_stopped = True
        _kill_new_children(others)
        leave()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if is_stopped:
        os.kill(os.getpid(), signal.SIGTERM)  # the run answers it
    raise EnvironmentFailure("Ray was stopped while it started", key, "start the run again")


def _no_ray(error: Exception, address: str, key: str) -> RltrainError:
    """Return the error line for a Ray that cannot be started or joined."""
    if address == "local":
        fix = "stop other programs and try again, or join a cluster"
        return EnvironmentFailure(f"Ray cannot be started: {first_line(error)}", key, fix)
    fix = f"start it with `ray start --head`, or use {key}=local"
    return ConfigError(f"Ray cannot be reached: {first_line(error)}", key, fix)


def _kill_new_children(others: set[int]) -> None:
    """Kill the processes of a Ray that did not start: it leaves them behind."""
    for child in psutil.Process().children():
        if child.pid not in others:
            with contextlib.suppress(psutil.Error):
                for each in (*child.children(recursive=True), child):
                    each.kill()
