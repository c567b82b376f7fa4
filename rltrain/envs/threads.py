"""Threads that each do one job at a time, and end with the process even where a job never returns."""

import queue
import threading
from collections.abc import Callable

Job = Callable[[], None]

CHECK_S = 0.25
"""Seconds between looks at jobs that take long."""


class Threads:
    """`num_threads` threads; a job is given to one of them by its number."""

    def __init__(self, num_threads: int, name: str) -> None:
        self._name = name
        # Told when no job is left and not before: a waiter that wakes for each of them keeps the others from the core.
        self._finished = threading.Condition()
        self._num_pending = 0
        self._errors: list[BaseException] = []
        self._jobs = [self._start(number) for number in range(num_threads)]

    def submit(self, number: int, job: Job) -> None:
        """Let thread `number` do `job` after what it was given before; returns at once."""
        with self._finished:
            self._num_pending += 1
            self._jobs[number].put(job)

    def wait(self, while_waiting: Job) -> None:
        """Wait for all jobs, calling `while_waiting` now and then; then raise the first error, if there was one.

        No thread is left at work on the arrays of a step given up.
        """
        with self._finished:
            while not self._finished.wait_for(lambda: not self._num_pending, timeout=CHECK_S):
                while_waiting()
            errors, self._errors = self._errors, []
        if errors:
            raise errors[0]

    def abandon(self, number: int) -> None:
        """Give up the job of thread `number`, which does not return; another thread takes over the number."""
        with self._finished:
            self._num_pending -= 1
            self._jobs[number] = self._start(number)

    def stop(self) -> None:
        """Let each thread end after its last job."""
        for jobs in self._jobs:
            jobs.put(None)

    def _start(self, number: int) -> "queue.SimpleQueue[Job | None]":
        jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        name = f"{self._name}-{number}"
        threading.Thread(target=self._work, args=(number, jobs), name=name, daemon=True).start()
        return jobs

    def _work(self, number: int, jobs: "queue.SimpleQueue[Job | None]") -> None:
        while (job := jobs.get()) is not None:
            error = None
            try:
                job()
            except BaseException as raised:
                error = raised
            with self._finished:
                if self._jobs[number] is not jobs:  # the job returned after it was given up
                    return
                self._num_pending -= 1
                if error is not None:
                    self._errors.append(error)
                if not self._num_pending:
                    self._finished.notify()
