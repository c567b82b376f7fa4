"""Measure one side of a paired benchmark, which trains one block at a time.

All sides import this module, also in the virtual environments of other packages. So it needs only psutil.
"""

import json
import os
import signal
import sys
import time

import psutil


class Gate:
    """Pauses a training after each block. Call it with the number of agent steps wherever the training may pause."""

    def __init__(self, warm_up: int, steps: int, stop_children: bool = False) -> None:
        """warm_up: agent steps before the first block, which are not measured. steps: agent steps of a block, at least.

        stop_children: stop the side's child processes during a pause, because they would go on working.
        """
        self._due, self._steps, self._stop_children = warm_up, steps, stop_children
        self._first: int | None = None
        self._answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)

    def __call__(self, step: int) -> None:
        """Return at once until a block is full. Then report it and wait until the next block is requested.

        Ends the process if no further block is requested.
        """
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
    """Return the CPU time of this process and its running child processes, in seconds."""
    this = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (this, *this.children(recursive=True)))


def memory_mb() -> float:
    """Return the memory of this process and its child processes in MB. Shared pages count once."""
    this = psutil.Process()
    return sum(process.memory_full_info().pss for process in (this, *this.children(recursive=True))) / 1e6
