"""Groups of several processes, played by threads of this one."""

import threading

import numpy as np
import torch

from rltrain.runtime import torch_group


class ThreadGroup:
    """One member of a group of threads; what is exchanged goes through JSON, as between processes."""

    is_alone = False

    def __init__(self, rank, size, shared):
        self.rank, self.size, self._shared = rank, size, shared
        self.signals = []

    def gather(self, value):
        boxes, barrier = self._shared
        boxes[self.rank] = torch_group._encode(value)
        barrier.wait(30)
        found = [torch_group._decode(box) for box in boxes]
        barrier.wait(30)
        return found

    def broadcast(self, value):
        return self.gather(value)[0]

    def sum(self, numbers):
        return sum(self.gather(np.asarray(numbers, np.float64)))

    def mean_gradients(self, tensors, weight):
        parts = self.gather([(tensor * weight).numpy() for tensor in tensors])
        for tensor, *of_ranks in zip(tensors, *parts, strict=True):
            tensor.copy_(sum(torch.from_numpy(part) for part in of_ranks))

    def note_signal(self, number):
        self.signals.append(number)


def together(size, work):
    """Call `work(group)` in `size` threads; returns the results by rank, or raises the first error."""
    shared = [None] * size, threading.Barrier(size)
    results, errors = [None] * size, []

    def run(rank):
        try:
            results[rank] = work(ThreadGroup(rank, size, shared))
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:
            errors.append(error)
            shared[1].abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]
    return results
