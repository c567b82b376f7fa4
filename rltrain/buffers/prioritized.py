"""Prioritized experience replay, proportional variant (Schaul et al. 2016): a `Replay` with a sum tree over its slots.

P(i) = p_i^alpha / sum_k p_k^alpha,    p_i = |td error| + epsilon        (eq. 1, section 3.3)
weight_i = (N * P(i))^-beta / max_j (N * P(j))^-beta,    j in the batch  (section 3.4)
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from torch import Tensor

from rltrain.buffers.batch import Batch, Change, Transition
from rltrain.buffers.replay import Replay
from rltrain.buffers.sum_tree import SumTree
from rltrain.errors import NonFiniteError


class PrioritizedReplay:
    """Wrap a `Replay` and keep its interface. The `Replay` stores the transitions and knows which can be sampled."""

    def __init__(self, replay: Replay, alpha: float = 0.6, beta: float = 0.4, epsilon: float = 1e-6) -> None:
        if min(alpha, beta, epsilon) < 0.0:
            raise ValueError(f"alpha, beta and epsilon must not be negative, got {alpha}, {beta} and {epsilon}")
        self.replay = replay
        self.alpha, self.epsilon = alpha, epsilon
        self.beta = beta
        """Exponent of the importance weights: 1 corrects the bias fully, 0 not at all. The training loop anneals it."""
        self.max_priority = 1.0
        """The largest |td error| so far, at least 1. New transitions get it as their |td error|, without epsilon."""
        self._tree = SumTree(replay.capacity)

    @property
    def size(self) -> int:
        """The number of transitions that can be sampled."""
        return self.replay.size

    @property
    def capacity(self) -> int:
        """The number of slots of all environments."""
        return self.replay.capacity

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays and of the sum tree."""
        return self.replay.nbytes + self._tree.nbytes

    @property
    def priorities(self) -> np.ndarray:
        """p^alpha of each slot, 0 for slots that cannot be sampled, [capacity], float64. Do not write to it."""
        return self._tree.priorities

    def add(self, step: Transition, first_env: int = 0) -> Change:
        """Store one step as in `Replay.add`. New transitions get the largest priority so far."""
        return self._apply(self.replay.add(step, first_env))

    def end_episodes(self, envs: Iterable[int] | None = None) -> Change:
        """Truncate open episodes as in `Replay.end_episodes`."""
        return self._apply(self.replay.end_episodes(envs))

    def sample(self, batch_size: int) -> Batch:
        """Stratified: sample one transition from each of `batch_size` equal parts of the total (appendix B.2.1)."""
        if self.size == 0:
            raise ValueError("the replay buffer has no complete transition to sample")
        total = self._tree.total
        fraction = (np.arange(batch_size) + self.replay.generator.random(batch_size)) / batch_size
        index = self._tree.find(fraction * total)
        # N is the number of stored transitions, as in the paper. It cancels in the division by the maximum.
        weight = (self.size * self._tree.priorities[index] / total) ** -self.beta
        return self.replay.gather(index, (weight / weight.max()).astype(np.float32))

    def batches(self, num_batches: int, batch_size: int) -> Iterator[Batch]:
        """Yield `num_batches` minibatches. Each is sampled when it is requested, with the priorities of that moment."""
        for _ in range(num_batches):
            yield self.sample(batch_size)

    def update_priorities(self, index: np.ndarray, td_error: Tensor) -> None:
        """Set the priorities of the slots index [N] int64 from td_error [N], float. Overwritten slots keep priority 0.

        Raises NonFiniteError.
        """
        magnitude = np.abs(td_error.cpu().numpy().astype(np.float64))
        if not np.isfinite(magnitude).all():
            what, fix = "a td error is not finite", "lower algo.learning_rate or algo.reward_scale"
            raise NonFiniteError(what, "train/td_error", fix, {"tensor": "td_error"})
        kept = self.replay.valid[index]
        self._tree.update(index[kept], (magnitude[kept] + self.epsilon) ** self.alpha)
        self.max_priority = max(self.max_priority, float(magnitude.max(initial=0.0)))

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the `Replay`, with the priorities of the written slots, `max_priority` and `beta`."""
        state = self.replay.state_dict()
        used = state["valid"].shape[1]
        priority = self._tree.priorities.reshape(self.replay.num_envs, self.replay.slots_per_env)[:, :used]
        return state | {"priority": priority, "max_priority": self.max_priority, "beta": self.beta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned. Raises ValueError for priorities that do not fit the slots."""
        self.replay.load_state_dict(state)
        saved, valid = state["priority"], state["valid"]
        # A slot that cannot be sampled must have priority 0, or `sample` would return it.
        if saved.shape != valid.shape or saved.dtype.kind != "f" or (saved[~valid] != 0).any():
            raise ValueError(f"the saved priorities {saved.dtype} {saved.shape} do not fit the replay")
        largest, beta = float(state["max_priority"]), float(state["beta"])
        if not (1.0 <= largest < np.inf and 0.0 <= beta < np.inf):
            raise ValueError(f"the saved replay has max_priority {largest} and beta {beta}")
        priority = np.zeros((self.replay.num_envs, self.replay.slots_per_env))
        priority[:, : saved.shape[1]] = saved
        self._tree.load(priority.ravel())
        self.max_priority, self.beta = largest, beta

    def _apply(self, change: Change) -> Change:
        """Update the tree for the slots that can be sampled from now on and for those that no longer can."""
        self._tree.update(change.invalid, np.zeros(len(change.invalid)))
        self._tree.update(change.valid, np.full(len(change.valid), self.max_priority**self.alpha))
        return change
