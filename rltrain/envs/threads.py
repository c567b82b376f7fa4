"""Threads that run one job at a time each. They end with the process, even if a job never returns."""

import queue
import threading
from collections.abc import Callable

Job = Callable[[], None]

CHECK_S = 0.25
"""Seconds between two calls of `while_waiting`."""


class Threads:
    """`num_threads` threads, numbered from 0. Each runs the jobs submitted to its number."""

    def __init__(self, num_threads: int, name: str) -> None:
        self._name = name
        # Notified only after the last job: waking the waiting thread for each job would take CPU time from the others.
        self._finished = threading.Condition()
        self._num_pending = 0
        self._errors: list[BaseException] = []
        self._jobs = [self._start(number) for number in range(num_threads)]

    def submit(self, number: int, job: Job) -> None:
        """Queue `job` for thread `number` and return at once."""
        with self._finished:
            self._num_pending += 1
            self._jobs[number].put(job)

    def wait(self, while_waiting: Job) -> None:
        """Wait until all jobs are done, and call `while_waiting` every CHECK_S seconds. Then raise the first error.

        It waits for the other jobs even after an error, so that no thread still writes to the arrays of this step.
        """
        with self._finished:
            while not self._finished.wait_for(lambda: not self._num_pending, timeout=CHECK_S):
                while_waiting()
            errors, self._errors = self._errors, []
        if errors:
            raise errors[0]

    def abandon(self, number: int) -> None:
        """Give up the current job of thread `number`, which does not return. A new thread takes over the number."""
        with self._finished:
            self._num_pending -= 1
            self._jobs[number] = self._start(number)

    def stop(self) -> None:
        """End each thread after its last job."""
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
                if self._jobs[number] is not jobs:  # the job was given up while it ran
                    return
                self._num_pending -= 1
                if error is not None:
                    self._errors.append(error)
                if not self._num_pending:
                    self._finished.notify()
