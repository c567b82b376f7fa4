"""How a side of a paired benchmark is measured: it learns one block at a time, when it is told to.

Imported by every side, also in the peers' own virtual environments: nothing but psutil is needed.
"""

import json
import os
import signal
import sys
import time

import psutil


class Gate:
    """Called with the count of agent steps wherever a side may pause; returns at once until a block is full."""

    def __init__(self, warm_up: int, steps: int, stop_children: bool = False) -> None:
        """The first `warm_up` steps, in which things are built, are measured as no block; later ones hold `steps`.

        `stop_children`: the side's processes would go on working behind its back, so they are stopped in a pause.
        """
        self._due, self._steps, self._stop_children = warm_up, steps, stop_children
        self._first: int | None = None
        self._answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)

    def __call__(self, step: int) -> None:
        """Report a full block and wait for the next one; ends the process where none is wanted any more."""
        if step < self._due:
            return
        if self._first is None:
            self._answer({"ready": True})
        else:
            seconds, cpu_s = time.perf_counter() - self._start_s, processor_s() - self._start_cpu_s
            self._answer({"steps": step - self._first, "seconds": seconds, "cpu_s": cpu_s, "memory_mb": memory_mb()})
        children = psutil.Process().children(recursive=True) if self._stop_children else []
        _signal(children, signal.SIGSTOP)
        if not sys.stdin.readline():
            os._exit(0)
        _signal(children, signal.SIGCONT)
        self._first, self._due = step, step + self._steps
        self._start_cpu_s, self._start_s = processor_s(), time.perf_counter()

    def _answer(self, values: dict) -> None:
        self._answers.write(f"GATE {json.dumps(values)}\n")


def _signal(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        process.send_signal(number)


def processor_s() -> float:
    """Processor time of this process and of those that it started and that still run, seconds."""
    this = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (this, *this.children(recursive=True)))


def memory_mb() -> float:
    """Memory in use by this process and those that it started, shared pages counted once, MB."""
    this = psutil.Process()
    return sum(process.memory_full_info().pss for process in (this, *this.children(recursive=True))) / 1e6
