"""Signs of life: each process of a run writes them to the launcher's store and reads those of the others.

A process that was killed closes its connections, and the others notice at once. One that is stopped, or whose cable is
cut, does not: they would wait for it in a collective call for as long as its long time-out. The store may be gone too,
and a call to it then never returns. So one thread talks to the store, and a second one watches that thread.
"""

import contextlib
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import psutil

from rltrain.system import plain_json

LOOK_S = 0.25
"""Seconds between two looks of the watching thread."""


class Store(Protocol):
    """A connection to a key-value store that all processes see, such as torch's TCPStore."""

    def set(self, key: str, value: str) -> None:
        """Write a value."""
        ...

    def multi_get(self, keys: list[str]) -> list[bytes]:
        """Return the values of several keys. Waits until all of them exist."""
        ...


class Sign(NamedTuple):
    """The last sign of life of a process."""

    rank: int
    facts: dict[str, Any]
    """host, pid, pids and signal."""
    age_s: float

    def __str__(self) -> str:
        return f"rank {self.rank} (process {self.facts['pid']} on {self.facts['host']})"

    @property
    def is_here(self) -> bool:
        """True if its process id is one of this machine."""
        return bool(self.facts["pids"] == _pids())

    @property
    def is_gone(self) -> bool:
        """True if it is a process of this machine that has ended."""
        if not self.is_here:
            return False
        try:
            return psutil.Process(self.facts["pid"]).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    @property
    def is_sibling(self) -> bool:
        """True if it is a process of the launcher that started this one."""
        with contextlib.suppress(psutil.Error):
            return self.is_here and psutil.Process(self.facts["pid"]).ppid() == os.getppid()
        return False


def _pids() -> str:
    """Return a name for the process ids of this machine. Containers with one name have different ones."""
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


class Heartbeat:
    """Writes this process' signs of life and calls `on_silence` if another process gives none for `silence_s`."""

    def __init__(
        self, store: Store, prefix: str, rank: int, size: int, silence_s: float, on_silence: Callable[[str], None]
    ) -> None:
        """The store is used by this object alone. on_silence: called once, in a thread, with the words for what is
        silent."""
        self._store, self._rank, self._silence_s, self._on_silence = store, rank, silence_s, on_silence
        self._keys = [f"{prefix}alive/{number}" for number in range(size)]
        self._every_s = min(1.0, silence_s / 10)
        self._signal: int | None = None
        self._passed_on = False
        self._count = 0
        self._now_s = 0.0
        self._stopped = threading.Event()
        self._kick: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._seen: list[tuple[bytes, float]] = [(b"{}", 0.0)] * size
        self._talked_s = 0.0
        self._write()

    def start(self) -> None:
        """Start the threads. Every process must have made its Heartbeat before."""
        self._read()
        for work in (self._talk, self._watch):
            threading.Thread(target=work, name="heartbeat", daemon=True).start()

    def stop(self) -> None:
        """End the threads."""
        self._stopped.set()
        self._kick.put(None)

    def note_signal(self, number: int) -> None:
        """Tell the other processes of a signal, which each of them then sends to itself."""
        self._signal = number
        # An event would have a lock, for which a second signal in this handler would wait without end.
        self._kick.put(None)

    def signs(self) -> list[Sign]:
        """Return the last sign of life of each other process."""
        return [
            Sign(rank, plain_json.loads(raw), self._now_s - since_s)
            for rank, (raw, since_s) in enumerate(self._seen)
            if rank != self._rank
        ]

    def _write(self) -> None:
        self._count += 1
        facts = {"host": socket.gethostname(), "pid": os.getpid(), "signal": self._signal, "count": self._count}
        facts["pids"] = _pids()
        self._store.set(self._keys[self._rank], plain_json.dumps(facts))

    def _read(self) -> None:
        for rank, raw in enumerate(self._store.multi_get(self._keys)):
            if raw != self._seen[rank][0]:
                self._seen[rank] = (raw, self._now_s)

    def _talk(self) -> None:
        while not self._stopped.is_set():
            # An error of the store counts as its silence: the watching thread ends the wait.
            with contextlib.suppress(RuntimeError):
                self._write()
                self._read()
                self._talked_s = self._now_s
                self._take_signals()
            with contextlib.suppress(queue.Empty):
                self._kick.get(timeout=self._every_s)

    def _take_signals(self) -> None:
        told = [sign.facts["signal"] for sign in self.signs() if sign.facts["signal"]]
        if told and self._signal is None and not self._passed_on:
            self._passed_on = True
            os.kill(os.getpid(), told[0])  # its handler runs in the main thread

    def _watch(self) -> None:
        looked_s = time.monotonic()
        while not self._stopped.wait(LOOK_S):
            now_s = time.monotonic()
            # A process that was suspended itself must not take the others for silent.
            self._now_s += min(now_s - looked_s, 4 * LOOK_S)
            looked_s = now_s
            silent = [sign for sign in self.signs() if sign.age_s > self._silence_s]
            if self._now_s - self._talked_s > self._silence_s:
                what = "the launcher of rank 0 does not answer"
            elif silent:
                what = " and ".join(map(str, silent)) + f" gave no sign of life for {self._silence_s:g} s"
            else:
                continue
            for sign in silent:
                if sign.is_sibling:  # the launcher would wait for it
                    with contextlib.suppress(OSError):
                        os.kill(sign.facts["pid"], signal.SIGKILL)
            self._on_silence(what)
            return
