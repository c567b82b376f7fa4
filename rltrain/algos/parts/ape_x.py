"""The actors of Ape-X (Horgan et al. 2018, section 4): each environment explores with an epsilon of its own."""

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rltrain.algos.parts.q_network import make_q_network
from rltrain.config.run import RunConfig
from rltrain.nn import device as devices
from rltrain.runtime.share import Share

EPSILON, ALPHA = 0.4, 7.0
"""The paper's: epsilon of the first environment, and the exponent that makes the last one greedy."""
CHUNK_STEPS = 50
"""Steps of each environment that an actor sends at once: the paper's batch of transitions of an actor."""


def epsilon_ladder(num_envs: int) -> np.ndarray:
    """Return epsilon^(1 + alpha i / (N - 1)) of each environment i of N, [N] float64; 0.4 to 0.0007."""
    return EPSILON ** (1 + ALPHA * np.arange(num_envs) / max(num_envs - 1, 1))


class ApexPolicy:
    """A Q-network that acts epsilon-greedily in some of the run's environments. It learns nothing."""

    def __init__(
        self, config: RunConfig, frame_space: gymnasium.Space, action_space: gymnasium.Space, share: Share
    ) -> None:
        assert isinstance(action_space, gymnasium.spaces.Discrete)
        self.device = devices.resolve_device(config.device)
        self.num_actions = int(action_space.n)
        dueling = config.algo.dueling
        self.network = make_q_network(config, frame_space, self.num_actions, 0, dueling, learns=False)
        self.epsilon = epsilon_ladder(share.total)[share.rows]
        """[B] float64."""

    def act(self, obs: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return actions [B] int64, their Q values [B, A] and the largest Q values [B]."""
        random_action = generator.integers(self.num_actions, size=len(obs))
        explores = generator.random(len(obs)) < self.epsilon
        with torch.inference_mode():
            q = self.network(obs)
        action = torch.where(torch.from_numpy(explores), torch.from_numpy(random_action), q.argmax(dim=1))
        return action, q, q.amax(dim=1)

    def log_prob(self, outputs: Tensor, action: Tensor) -> Tensor:
        """Return the log-probabilities of actions [T * B] given their Q values [T * B, A], [T * B] float32."""
        epsilon = torch.from_numpy(self.epsilon).float().repeat(len(action) // len(self.epsilon))
        greedy = outputs.argmax(dim=1) == action
        return (epsilon / self.num_actions + (1 - epsilon) * greedy).log()

    def for_env(self, action: Tensor) -> np.ndarray:
        """Return the actions as the environments take them."""
        return action.numpy()
