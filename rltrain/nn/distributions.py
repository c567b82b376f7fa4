"""What a policy network's outputs mean: one distribution over actions for each kind of action space.

Random numbers come from a numpy generator on every device, so that the same seed gives the same actions everywhere.
Legend: B batch, O outputs of the network, A action dimensions.
"""

from typing import Protocol

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.math import policies
from rltrain.nn.device import to_device


class Distribution(Protocol):
    """The actions of one space."""

    num_outputs: int
    """O: what the network's policy head gives for each observation."""
    has_deviation: bool
    """Whether the second half of the outputs are log deviations, which no observation changes."""
    action_shape: tuple[int, ...]
    """Of one action as it is learned from: () or [A]."""
    action_dtype: torch.dtype

    def mode(self, outputs_BO: Tensor) -> Tensor:
        """The action of highest probability (density), [B, *action_shape]."""
        ...

    def sample(self, outputs_BO: Tensor, generator: np.random.Generator) -> Tensor:
        """One action for each observation, [B, *action_shape]."""
        ...

    def log_prob_entropy(self, outputs_BO: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability of the actions and entropy of the policy, both [B], float."""
        ...

    def for_env(self, action: np.ndarray) -> np.ndarray:
        """The action as the environment takes it."""
        ...


def of(action_space: gymnasium.Space) -> Distribution:
    """The distribution that fits an action space."""
    if isinstance(action_space, spaces.Discrete):
        return Categorical(int(action_space.n))
    if isinstance(action_space, spaces.MultiDiscrete):
        return MultiCategorical(action_space.nvec.tolist())
    assert isinstance(action_space, spaces.Box), f"no distribution over {action_space}"
    return Gaussian(action_space)


class Categorical:
    """One of several actions: a softmax over logits."""

    has_deviation = False
    action_shape: tuple[int, ...] = ()
    action_dtype = torch.int64

    def __init__(self, num_actions: int) -> None:
        self.num_outputs = num_actions

    def mode(self, outputs_BO: Tensor) -> Tensor:
        """The largest logit, [B] int64."""
        return outputs_BO.argmax(dim=-1)

    def sample(self, outputs_BO: Tensor, generator: np.random.Generator) -> Tensor:
        """By the Gumbel-max trick (Gumbel 1954), [B] int64."""
        gumbel = generator.gumbel(size=outputs_BO.shape).astype(np.float32)
        return (outputs_BO + to_device(gumbel, outputs_BO.device)).argmax(dim=-1)

    def log_prob_entropy(self, outputs_BO: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Of actions [B] int64."""
        return policies.categorical_log_prob_entropy(outputs_BO, action)

    def for_env(self, action: np.ndarray) -> np.ndarray:
        """As it is."""
        return action


class MultiCategorical:
    """Several choices at once, each a softmax of its own: they are independent given the observation."""

    has_deviation = False
    action_dtype = torch.int64

    def __init__(self, num_choices: list[int]) -> None:
        self._num_choices = num_choices
        self._parts = [Categorical(num) for num in num_choices]
        self.num_outputs = sum(num_choices)
        self.action_shape: tuple[int, ...] = (len(num_choices),)

    def mode(self, outputs_BO: Tensor) -> Tensor:
        """The largest logit of each choice, [B, A] int64."""
        return torch.stack([part.mode(logits) for part, logits in self._each(outputs_BO)], dim=-1)

    def sample(self, outputs_BO: Tensor, generator: np.random.Generator) -> Tensor:
        """Every choice for itself, [B, A] int64."""
        return torch.stack([part.sample(logits, generator) for part, logits in self._each(outputs_BO)], dim=-1)

    def log_prob_entropy(self, outputs_BO: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over the choices, of actions [B, A] int64."""
        pairs = [
            part.log_prob_entropy(logits, choice)
            for (part, logits), choice in zip(self._each(outputs_BO), action.unbind(-1), strict=True)
        ]
        return torch.stack([pair[0] for pair in pairs]).sum(0), torch.stack([pair[1] for pair in pairs]).sum(0)

    def for_env(self, action: np.ndarray) -> np.ndarray:
        """As it is."""
        return action

    def _each(self, outputs_BO: Tensor) -> list[tuple[Categorical, Tensor]]:
        return list(zip(self._parts, outputs_BO.split(self._num_choices, dim=-1), strict=True))


class Gaussian:
    """Real numbers: independent normal distributions, the outputs being means and log deviations."""

    has_deviation = True
    action_dtype = torch.float32

    def __init__(self, space: spaces.Box) -> None:
        self._space = space
        self._num_dimensions = int(np.prod(space.shape))
        self.num_outputs = 2 * self._num_dimensions
        self.action_shape: tuple[int, ...] = (self._num_dimensions,)

    def mode(self, outputs_BO: Tensor) -> Tensor:
        """The means, [B, A] float32."""
        return outputs_BO[:, : self._num_dimensions]

    def sample(self, outputs_BO: Tensor, generator: np.random.Generator) -> Tensor:
        """Means plus noise, [B, A] float32."""
        mean_BA, log_std_BA = outputs_BO.chunk(2, dim=-1)
        noise = generator.standard_normal(mean_BA.shape, dtype=np.float32)
        return mean_BA + log_std_BA.exp() * to_device(noise, mean_BA.device)

    def log_prob_entropy(self, outputs_BO: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Densities of actions [B, A] float32, as they were before they were bounded."""
        mean_BA, log_std_BA = outputs_BO.chunk(2, dim=-1)
        return policies.gaussian_log_prob_entropy(mean_BA, log_std_BA, action)

    def for_env(self, action: np.ndarray) -> np.ndarray:
        """Inside the environment's bounds; the policy learns from what it sampled."""
        return np.clip(action.reshape(len(action), *self._space.shape), self._space.low, self._space.high)
