"""Start the processes of a run with torch's elastic launcher, and say how they ended.

The launcher restarts all processes after any of them failed. So a process whose end is not a failure of the machine,
such as a stop by a signal or a wrong environment, ends with code 0 and leaves a report instead, which is read here.
"""

import contextlib
import dataclasses
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rltrain.config.runtime import TorchrunConfig
from rltrain.errors import ConfigError, ProcessLost, RltrainError, Stopped, by_exit_code
from rltrain.system import process

REPORTS = "RLTRAIN_REPORTS"
"""The environment variable with the folder for the reports. It is set in processes that `launch` started."""
_STOP_SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGUSR1"


def is_launched() -> bool:
    """Return True in a process that torch's launcher started."""
    return "TORCHELASTIC_RUN_ID" in os.environ and "RANK" in os.environ


def num_processes(config: TorchrunConfig) -> int:
    """Return the number of processes on this machine."""
    if config.processes is not None:
        return config.processes
    import torch

    return max(1, torch.cuda.device_count())


def launch(config: TorchrunConfig, arguments: Sequence[str]) -> None:
    """Run `rltrain ARGUMENTS` in several processes and wait for them. Raises what ended them."""
    process.exit_s = 0.0  # the launcher's store can take half a minute to end
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a lost connection is reported by rltrain, in one line
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.ERROR)  # the launcher's own reports, of many lines
    try:
        with tempfile.TemporaryDirectory(prefix="rltrain-") as place:
            os.environ[REPORTS] = place
            settings: dict[str, Any] = {"signals_to_handle": _STOP_SIGNALS}  # torch 2.10 may not have it
            known = {field.name for field in dataclasses.fields(LaunchConfig)}
            host = (config.rendezvous or "localhost:0").rpartition(":")[0]
            failure: ProcessLost | None = None
            stopped: int | None = None
            try:
                elastic_launch(
                    LaunchConfig(
                        min_nodes=config.nodes,
                        max_nodes=config.nodes,
                        nproc_per_node=num_processes(config),
                        run_id=f"rltrain-{uuid.uuid4().hex[:8]}" if config.nodes == 1 else "rltrain",
                        rdzv_backend="c10d",
                        rdzv_endpoint=config.rendezvous or "localhost:0",
                        rdzv_configs={"is_host": _is_here(host)},
                        max_restarts=config.max_restarts,
                        monitor_interval=0.2,
                        logs_specs=DefaultLogsSpecs(log_dir=place),
                        **{name: value for name, value in settings.items() if name in known},
                    ),
                    sys.executable,
                )("-m", "rltrain", *arguments)
            except ChildFailedError as error:
                rank, first = error.get_first_failure()
                failure = _lost(rank, first.pid, first.exitcode)
            except SignalException as error:
                stopped = int(error.sigval)
            _raise_end(Path(place), failure, stopped)
    finally:
        logging.disable(logging.NOTSET)
        os.environ.pop(REPORTS, None)


def report(error: BaseException, rank: int, attempt: int, silent: bool = False) -> None:
    """Leave a report on how this process ended, for the launcher. Does nothing under plain torchrun.

    silent: it ended because another process gave no sign of life.
    """
    place = os.environ.get(REPORTS)
    if place is None:
        return
    words = [f"{type(error).__name__}: {error}", "", "a bug in rltrain; please report the lines above"]
    if isinstance(error, RltrainError):
        words = [error.what, error.where, error.fix]
    facts: dict[str, Any] = {"exit_code": getattr(error, "exit_code", 1), "words": words, "silent": silent}
    if isinstance(error, Stopped):
        facts["signal"] = error.signal_number
    with contextlib.suppress(OSError):
        path = Path(place) / f"{attempt:04d}-{rank:06d}.json"
        path.with_suffix(".partial").write_text(json.dumps(facts))
        path.with_suffix(".partial").replace(path)


def _raise_end(place: Path, failure: ProcessLost | None, stopped: int | None) -> None:
    """Raise the error of the last attempt: that of a process that knows it, else the loss of a process."""
    paths = sorted(place.glob("????-??????.json"))  # by attempt, then by rank
    last = [path for path in paths if path.name[:4] == paths[-1].name[:4]]
    reports = [json.loads(path.read_text()) for path in last]
    known = [each for each in reports if each["exit_code"] != ProcessLost.exit_code]
    if known and (failure is None or known[0]["exit_code"] < 128):
        facts = known[0]
        if "signal" in facts:
            raise Stopped(facts["signal"], facts["words"][1])
        raise by_exit_code(facts["exit_code"])(*facts["words"])
    if stopped is not None:
        raise Stopped(stopped)
    lost = sorted((each for each in reports if each not in known), key=lambda each: not each["silent"])
    if lost and (lost[0]["silent"] or failure is None or "killed" not in failure.what):
        raise ProcessLost(*lost[0]["words"])
    if failure is not None:
        raise failure


def _lost(rank: int, pid: int, code: int) -> ProcessLost:
    """Return the error for the process that failed first."""
    where, fix = f"process {pid} on {socket.gethostname()}", "go on from the last checkpoint with `rltrain resume`"
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return ProcessLost(f"rank {rank} {how}", where, fix)


def _is_here(host: str) -> bool:
    """Return True if the host is this machine: its address can be bound."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
        return True
    except socket.gaierror as error:
        raise ConfigError(f"the host '{host}' is unknown", "runtime.rendezvous", "write HOST:PORT") from error
    except OSError:
        return False
