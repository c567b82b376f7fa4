"""Start the processes of a run with torch's elastic launcher, and say how they ended.

To torch's launcher every exit code but 0 is a failure. So a process whose end is not a failure of the machine, such as
a stop by a signal or a wrong environment, ends with code 0. What ended it is in a report, which is read here.
"""

import contextlib
import dataclasses
import ipaddress
import itertools
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rltrain.config.runtime import TorchrunConfig
from rltrain.errors import ConfigError, ProcessLost, RltrainError, Stopped, by_exit_code
from rltrain.system import notices, plain_json, process, signals

REPORTS = "RLTRAIN_REPORTS"
"""The environment variable with the folder for the reports. It is set in processes that `launch` started."""
_LAUNCHER = "RLTRAIN_LAUNCHER"
"""The environment variable with the process id of the launcher."""
_RUN_FOLDER = "RLTRAIN_RUN_FOLDER"
"""The environment variable with the folder of a run whose processes are started again."""
_STUCK_S = 5.0
"""Seconds that torch's launcher gets to end after a process found another one silent."""
_stores: list[Any] = []
"""The store on which the machines meet, on the machine that hosts it. It stays open until this process ends, because
closing it can take half a minute."""
_STOP_SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGUSR1"
_NUMBERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_PORT")
"""Variables that torch's launcher sets, as it does MASTER_ADDR."""


def is_launched() -> bool:
    """Return True in a process that torch's launcher started.

    Raises ConfigError if some of the launcher's variables are wrong, as in a program that such a process started.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or "RANK" not in os.environ:
        return False
    wrong = [name for name in _NUMBERS if not os.environ.get(name, "").isdecimal()]
    if wrong or not os.environ.get("MASTER_ADDR"):
        what = f"the variables of torch's launcher are incomplete: {[*wrong, 'MASTER_ADDR'][0]} is missing or wrong"
        raise ConfigError(what, "TORCHELASTIC_RUN_ID", "unset TORCHELASTIC_RUN_ID and RANK, or start it with torchrun")
    return True


def has_lost_launcher() -> bool:
    """Return True in a process whose launcher has ended."""
    return os.getppid() != int(os.environ.get(_LAUNCHER, str(process.PARENT)))


def num_processes(config: TorchrunConfig) -> int:
    """Return the number of processes on this machine."""
    if config.processes is not None:
        return config.processes
    import torch

    return max(1, torch.cuda.device_count())


def launch(config: TorchrunConfig, arguments: Sequence[str]) -> None:
    """Run `rltrain ARGUMENTS` in several processes and wait for them, `max_restarts` times again if one is lost.

    Raises what ended them.
    """
    process.exit_s = 0.0  # the launcher's store can take half a minute to end
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a lost connection is reported by rltrain, in one line
    logging.disable(logging.ERROR)  # the launcher's own reports, of many lines
    host, _, port = (config.rendezvous or "localhost:0").rpartition(":")
    is_host = _can_listen(host, int(port))  # once: later the port is this launcher's
    own_address = _own_address(host, int(port)) if config.nodes > 1 else None
    name = uuid.uuid4().hex[:8] if config.nodes == 1 else "run"
    if config.nodes > 1 and is_host:
        is_host = _open_store(host, int(port))
    try:
        for attempt in itertools.count():
            try:
                _launch_once(config, arguments, f"rltrain-{name}-{attempt}", is_host, own_address)
                return
            except ProcessLost as error:
                if attempt == config.max_restarts:
                    raise
                notices.warn(f"{error}; restart {attempt + 1} of {config.max_restarts}")
    finally:
        logging.disable(logging.NOTSET)
        os.environ.pop(_RUN_FOLDER, None)


def _launch_once(
    config: TorchrunConfig, arguments: Sequence[str], run_id: str, is_host: bool, own_address: str | None
) -> None:
    """Start the processes once and wait for them. Raises what ended them."""
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    settings: dict[str, Any] = {"signals_to_handle": _STOP_SIGNALS}  # an older torch does not have it
    known = {field.name for field in dataclasses.fields(LaunchConfig)}
    failed: tuple[int, ProcessFailure] | None = None
    stopped: int | None = None
    done = threading.Event()
    program, *options = process.python("from rltrain.__main__ import main; main()")
    with tempfile.TemporaryDirectory(prefix="rltrain-") as place:
        os.environ |= {REPORTS: place, _LAUNCHER: str(os.getpid())}
        if config.nodes > 1:
            threading.Thread(target=_leave_if_stuck, args=(Path(place), done), daemon=True).start()
        signals.let_through(signals.STOP_SIGNALS)
        try:
            elastic_launch(
                LaunchConfig(
                    min_nodes=config.nodes,
                    max_nodes=config.nodes,
                    nproc_per_node=num_processes(config),
                    run_id=run_id,
                    rdzv_backend="c10d",
                    rdzv_endpoint=config.rendezvous or "localhost:0",
                    rdzv_configs={"is_host": is_host},
                    local_addr=own_address,
                    max_restarts=0,
                    monitor_interval=0.2,
                    logs_specs=DefaultLogsSpecs(log_dir=place),
                    **{name: value for name, value in settings.items() if name in known},
                ),
                program,
            )(*options, *arguments)
        except ChildFailedError as error:
            failed = _cause(error.failures)
        except SignalException as error:
            stopped = int(error.sigval)
        except RendezvousError as error:
            unreachable = "C10d store" in str(error)
            what = f"nothing answers at {config.rendezvous}" if unreachable else f"the machines did not meet: {error}"
            fix = "start the same command on every machine; HOST:PORT must be a free port of one of them"
            raise ProcessLost(what, "runtime.rendezvous, runtime.nodes", fix) from error
        finally:
            done.set()
            del os.environ[REPORTS], os.environ[_LAUNCHER]
            with contextlib.suppress(OSError):
                os.environ[_RUN_FOLDER] = (Path(place) / "folder").read_text()
        _raise_end(Path(place), failed, stopped)


def _open_store(host: str, port: int) -> bool:
    """Open the store on which the machines meet. Returns False if another launcher of this machine was faster.

    Torch's launcher opens its store for each attempt, and shares this one. Without it the store would end with an
    attempt, although the other machines may wait there already for the next one.
    """
    from torch.distributed import DistNetworkError, TCPStore

    try:
        _stores.append(TCPStore(host, port, is_master=True, wait_for_workers=False, multi_tenant=True))
    except DistNetworkError:
        return False
    return True


def _leave_if_stuck(place: Path, done: threading.Event) -> None:
    """End this process with code 9 if another machine is silent and torch's launcher does not end.

    The launcher talks to a store on the machine of the rendezvous. If that is out of reach, the call never returns.
    """
    found_s: float | None = None
    while not done.wait(0.5):
        silent = [each for each in _reports(place) if each["silent"]]
        if silent and found_s is None:
            found_s = time.monotonic()
        if found_s is not None and time.monotonic() - found_s > _STUCK_S:
            error = ProcessLost(*silent[0]["words"])
            shutil.rmtree(place, ignore_errors=True)
            print(f"rltrain: error: {error}", file=sys.stderr, flush=True)
            process.exit_now(error.exit_code)


def _reports(place: Path) -> list[dict[str, Any]]:
    """Return the reports by rank."""
    return [plain_json.loads(path.read_text()) for path in sorted(place.glob("*.json"))]


def note_folder(folder: Path) -> None:
    """Tell the launcher the run folder, for processes that it starts again. Does nothing under plain torchrun."""
    if REPORTS in os.environ:
        with contextlib.suppress(OSError):
            (Path(os.environ[REPORTS]) / "folder").write_text(str(folder))


def noted_folder() -> str | None:
    """Return the folder that `note_folder` noted before the processes were started again."""
    return os.environ.get(_RUN_FOLDER)


def report(error: BaseException, silent: bool = False) -> bool:
    """Leave a report on how this process ended, for the launcher. Returns False if rltrain did not launch it.

    silent: it ended because another process gave no sign of life.
    """
    place = os.environ.get(REPORTS)
    if place is None:
        return False
    words = [f"{type(error).__name__}: {error}", "", "a bug in rltrain; please report the lines above"]
    if isinstance(error, RltrainError):
        words = [error.what, error.where, error.fix]
    facts: dict[str, Any] = {"exit_code": getattr(error, "exit_code", 1), "words": words, "silent": silent}
    if isinstance(error, Stopped):
        facts |= {"signal": error.signal_number, "again": error.again}
    with contextlib.suppress(OSError):
        path = Path(place) / f"{int(os.environ['RANK']):06d}.json"
        path.with_suffix(".partial").write_text(plain_json.dumps(facts))
        path.with_suffix(".partial").replace(path)
    return True


def _cause(failures: Mapping[int, Any]) -> tuple[int, Any]:
    """Return rank and failure of the process that was killed first, or else of the first that did not end with code 0.

    A process that lost its connection to a killed one may be found in the same look, which counts whole seconds.
    """
    return min(failures.items(), key=lambda each: (each[1].exitcode >= 0, each[1].timestamp))


def _raise_end(place: Path, failed: Any, stopped: int | None) -> None:
    """Raise the error of a process that knows what ended it, else the loss of a process. Returns if all is done.

    failed: of `_cause`. stopped: the signal to the launcher.
    """
    reports = _reports(place)
    lost = [each for each in reports if each["exit_code"] == ProcessLost.exit_code]
    known = [each for each in reports if each not in lost]
    if known and "signal" not in known[0]:
        raise by_exit_code(known[0]["exit_code"])(*known[0]["words"])
    if known and failed is None:
        raise Stopped(known[0]["signal"], known[0]["words"][1], known[0]["again"])
    if stopped is not None:
        raise Stopped(stopped)
    if failed is None:
        return
    rank, failure = failed
    # A killed process is named. One that was silent was killed only for that.
    telling = [each for each in lost if each["silent"] or failure.exitcode >= 0]
    if telling:
        raise ProcessLost(*min(telling, key=lambda each: not each["silent"])["words"])
    how = f"was killed by {signal.Signals(-failure.exitcode).name}" if failure.exitcode < 0 else ""
    how = how or f"ended with exit code {failure.exitcode}"
    where = f"process {failure.pid} on {socket.gethostname()}"
    raise ProcessLost(f"rank {rank} {how}", where, "go on from the last checkpoint with `rltrain resume`")


def _own_address(host: str, port: int) -> str | None:
    """Return the address from which this machine reaches the host, or None if it does not leave the machine.

    The name of a machine, which torch would take instead, is often unknown to the others. gloo and NCCL use the same
    network, unless the environment says otherwise.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)  # sends nothing
            own = str(probe.getsockname()[0])
    except OSError:
        return None
    if ipaddress.ip_address(own).is_loopback:
        return None
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if own in (each.address for each in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
    return own


def _can_listen(host: str, port: int) -> bool:
    """Return True if the host is this machine and the port is free. Raises ConfigError for an unknown host."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, OverflowError) as error:
        fix = "write HOST:PORT with a host that this machine can reach"
        raise ConfigError(f"'{host}:{port}' is no address", "runtime.rendezvous", fix) from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError:
            return False
    return True
