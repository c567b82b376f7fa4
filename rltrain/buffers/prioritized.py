"""Prioritized experience replay, proportional variant (Schaul et al. 2016): a `Replay` with a sum tree over its slots.

P(i) = p_i^alpha / sum_k p_k^alpha with p_i = |td error| + epsilon; weight_i = (N * P(i))^-beta / max_j weight_j, j
in the batch.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from rltrain.buffers.batch import Batch, Change, Transition
from rltrain.buffers.replay import Replay
from rltrain.buffers.sum_tree import SumTree
from rltrain.errors import NonFiniteError


class PrioritizedReplay:
    """Keeps the interface of `Replay`, which it wraps and which alone decides what may be sampled."""

    def __init__(self, replay: Replay, alpha: float = 0.6, beta: float = 0.4, epsilon: float = 1e-6) -> None:
        if min(alpha, beta, epsilon) < 0.0:
            raise ValueError(f"alpha, beta and epsilon must not be negative, got {alpha}, {beta} and {epsilon}")
        self.replay = replay
        self.alpha, self.epsilon = alpha, epsilon
        self.beta = beta
        """How far weights correct the bias, 0 none to 1 fully. The loop anneals it."""
        self.max_priority = 1.0
        """Largest |td error| seen, at least 1: the priority of a transition that was never learned from."""
        self._tree = SumTree(replay.capacity)

    @property
    def size(self) -> int:
        """Transitions that can be sampled."""
        return self.replay.size

    @property
    def capacity(self) -> int:
        """Slots over all environments."""
        return self.replay.capacity

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays and of the tree."""
        return self.replay.nbytes + self._tree.nbytes

    @property
    def priorities(self) -> np.ndarray:
        """p^alpha of every slot, 0 where nothing can be sampled, [capacity], float64; read it only."""
        return self._tree.priorities

    def add(self, step: Transition) -> Change:
        """As `Replay.add`; new transitions get the largest priority seen, so that all are learned from once."""
        return self._apply(self.replay.add(step))

    def end_episodes(self) -> Change:
        """As `Replay.end_episodes`."""
        return self._apply(self.replay.end_episodes())

    def sample(self, batch_size: int) -> Batch:
        """One transition from each of `batch_size` equal shares of the priority mass (appendix B.2.1)."""
        if self.size == 0:
            raise ValueError("the replay holds no complete transition to sample")
        total = self._tree.total
        share = (np.arange(batch_size) + self.replay.generator.random(batch_size)) / batch_size
        index = self._tree.find(share * total)
        # N is the number of transitions stored, not the batch size, although the maximum cancels it: section 3.4.
        weight = (self.size * self._tree.priorities[index] / total) ** -self.beta
        return self.replay.gather(index, (weight / weight.max()).astype(np.float32))

    def batches(self, num_batches: int, batch_size: int) -> Iterator[Batch]:
        """`num_batches` samples, each drawn when it is asked for: by the priorities that the ones before have left."""
        for _ in range(num_batches):
            yield self.sample(batch_size)

    def update_priorities(self, index: np.ndarray, td_error: Tensor) -> None:
        """Set the priorities of slots index [N] int64 from td_error [N], float; slots lost since then stay at 0."""
        size = np.abs(td_error.cpu().numpy().astype(np.float64))
        if not np.isfinite(size).all():
            what, fix = "a td error is not finite", "lower algo.learning_rate or algo.reward_scale"
            raise NonFiniteError(what, "train/td_error", fix, {"tensor": "td_error"})
        kept = self.replay.valid[index]
        self._tree.update(index[kept], (size[kept] + self.epsilon) ** self.alpha)
        self.max_priority = max(self.max_priority, float(size.max(initial=0.0)))

    def state_dict(self) -> dict[str, Any]:
        """That of `Replay`, with the priorities of the written part."""
        state = self.replay.state_dict()
        used = state["valid"].shape[1]
        priority = self._tree.priorities.reshape(self.replay.num_envs, self.replay.slots_per_env)[:, :used]
        return state | {"priority": priority, "max_priority": self.max_priority, "beta": self.beta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.replay.load_state_dict(state)
        priority = np.zeros((self.replay.num_envs, self.replay.slots_per_env))
        priority[:, : state["priority"].shape[1]] = state["priority"]
        self._tree.load(priority.ravel())
        self.max_priority, self.beta = float(state["max_priority"]), float(state["beta"])

    def _apply(self, change: Change) -> Change:
        """Mirror in the tree what the replay gained and lost."""
        self._tree.update(change.invalid, np.zeros(len(change.invalid)))
        self._tree.update(change.valid, np.full(len(change.valid), self.max_priority**self.alpha))
        return change
