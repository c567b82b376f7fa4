"""The processes of a run, connected by torch.distributed: gloo for the host's memory, NCCL for GPUs.

A process belongs to a group if torch's launcher started it: `rltrain runtime=torchrun`, or plain `torchrun`.
"""

import base64
import contextlib
import ctypes
import datetime
import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from rltrain.config.runtime import TorchrunConfig
from rltrain.errors import ProcessLost, RltrainError, by_exit_code
from rltrain.runtime import launch
from rltrain.runtime.heartbeat import Heartbeat
from rltrain.system import plain_json, process

P = ParamSpec("P")
R = TypeVar("R")

TIMEOUT = datetime.timedelta(minutes=15)
"""The longest wait for the other processes, at the start and in a collective call. It is long because a hung
environment in one process, which its pool replaces, makes the others wait; the heartbeat ends a wait for a process that
is lost."""
NAMING_S = 5.0
"""Seconds to find out which process was lost, after a connection broke."""
_PR_SET_PDEATHSIG = 1


def _collective(method: Callable[P, R]) -> Callable[P, R]:
    """Turn an error of torch.distributed into the error that ended the other process, or into ProcessLost."""

    @functools.wraps(method)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except RuntimeError as error:
            group: Any = args[0]
            raise group.reason(error) from error

    return wrapped


class TorchGroup:
    """The processes that torch's launcher started."""

    is_alone = False

    def __init__(self, config: TorchrunConfig, cuda: bool, on_lost: Callable[[ProcessLost], None]) -> None:
        """Wait for the other processes. cuda: gradients are on this process' GPU.

        on_lost: called in a thread, just before this process ends with exit code 9, because another one is silent.
        """
        self._on_lost = on_lost
        if sys.platform == "linux":
            # If the launcher is killed, this process saves and ends as after a SIGTERM.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if launch.has_lost_launcher():  # before that; its store would be waited for
            raise ProcessLost("the launcher has ended", "runtime", "start the same command again")
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=TIMEOUT)
        except RuntimeError as error:
            fix = "if a machine has several networks, name one: GLOO_SOCKET_IFNAME=eth0 NCCL_SOCKET_IFNAME=eth0"
            raise ProcessLost(f"the processes cannot reach each other ({_short(error)})", "runtime", fix) from error
        self._store = self._connect(seconds=NAMING_S)
        # Plain torchrun keeps its store when it starts the processes again.
        prefix = self._prefix = f"rltrain/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/"
        store = self._connect(seconds=config.silence_s)
        self._heartbeat = Heartbeat(store, prefix, self.rank, self.size, config.silence_s, self._end)
        self.gather(None)  # every process has given its first sign of life
        self._heartbeat.start()

    def close(self, error: BaseException | None = None) -> None:
        """Leave the group. error: what ended this process; the others end with the same error."""
        if error is not None:
            facts = {"exit_code": 1, "words": [repr(error), "", ""]}
            if isinstance(error, RltrainError):
                facts = {"exit_code": error.exit_code, "words": [error.what, error.where, error.fix]}
            with contextlib.suppress(RuntimeError):
                self._store.set(f"{self._prefix}failed/{self.rank}", plain_json.dumps(facts))
        self._heartbeat.stop()
        if error is None:
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()

    @_collective
    def mean_gradients(self, tensors: Sequence[Tensor], weight: float) -> None:
        """Replace the gradients by their weighted sum over all processes, in one reduction of one flat buffer."""
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors]).mul_(weight)
        dist.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        torch._foreach_copy_(
            list(tensors), [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
        )

    @_collective
    def sum(self, numbers: np.ndarray) -> np.ndarray:
        """Return the sum over all processes, float64, in the shape of `numbers`."""
        total = torch.from_numpy(np.array(numbers, np.float64))
        dist.all_reduce(total)
        return total.numpy()

    @_collective
    def gather(self, value: Any) -> list[Any]:
        """Return the value of every process by rank: JSON values and arrays, in dicts and lists."""
        message = _encode(value)
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(message)]))
        longest = max(int(length) for length in lengths)
        padded = torch.from_numpy(np.frombuffer(message.ljust(longest), np.uint8).copy())
        messages = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.size)]
        dist.all_gather(messages, padded)
        return [
            _decode(message.numpy()[: int(length)].tobytes()) for message, length in zip(messages, lengths, strict=True)
        ]

    @_collective
    def broadcast(self, value: Any) -> Any:
        """Return the value of rank 0; what the others give is ignored."""
        message = _encode(value) if self.rank == 0 else b""
        length = torch.tensor([len(message)])
        dist.broadcast(length, 0)
        content = torch.zeros(int(length), dtype=torch.uint8)
        if self.rank == 0:
            content = torch.from_numpy(np.frombuffer(message, np.uint8).copy())
        dist.broadcast(content, 0)
        return _decode(content.numpy().tobytes())

    def note_signal(self, number: int) -> None:
        """Pass a signal on to the other processes. Safe in a signal handler."""
        self._heartbeat.note_signal(number)

    def reason(self, error: RuntimeError) -> RltrainError:
        """Return the error for a collective call that failed: that of another process, or ProcessLost."""
        end_s = time.monotonic() + NAMING_S
        while True:
            for sign in self._heartbeat.signs():
                key = f"{self._prefix}failed/{sign.rank}"
                with contextlib.suppress(RuntimeError):
                    if self._store.check([key]):
                        facts = plain_json.loads(self._store.get(key))
                        what, where, fix = facts["words"]
                        return by_exit_code(facts["exit_code"])(f"rank {sign.rank}: {what}", where, fix)
            gone = [sign for sign in self._heartbeat.signs() if sign.is_gone or sign.age_s > NAMING_S / 2]
            if gone:
                return lost(f"{' and '.join(map(str, gone))} ended")
            if time.monotonic() > end_s:
                return lost(f"the connection to another process broke ({_short(error)})")
            time.sleep(0.1)

    def _end(self, what: str) -> None:
        """End this process, whose main thread may be in a call that does not return. Runs in the heartbeat's thread."""
        self._on_lost(lost(what))
        process.exit_now(ProcessLost.exit_code)

    def _connect(self, seconds: float) -> Any:
        """Return a connection of its own to the store of the launcher, or of rank 0 if that holds it."""
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return dist.TCPStore(host, port, None, False, datetime.timedelta(seconds=seconds), wait_for_workers=False)


def lost(what: str) -> ProcessLost:
    """Return the error for a lost process."""
    return ProcessLost(what, "runtime", "go on from the last checkpoint with `rltrain resume`")


def _short(error: RuntimeError) -> str:
    return " ".join(str(error).split())[:150]


def _encode(value: Any) -> bytes:
    return plain_json.dumps(value, default=_array).encode()


def _array(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    array = np.asarray(value)
    return {"__array__": [array.dtype.str, array.shape, base64.b64encode(array.tobytes()).decode()]}


def _decode(message: bytes) -> Any:
    return plain_json.loads(message, object_hook=_from_object)


def _from_object(values: dict[str, Any]) -> Any:
    if values.keys() != {"__array__"}:
        return values
    dtype, shape, content = values["__array__"]
    return np.frombuffer(base64.b64decode(content), np.dtype(dtype)).reshape(shape).copy()
