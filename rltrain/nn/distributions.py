"""Action distributions, one for each kind of action space.

Random numbers come from a NumPy generator, so that a seed draws the same random numbers on every device.
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
    """A distribution over the actions of one space, given a policy network's outputs."""

    num_outputs: int
    """O, the number of outputs of the policy for each observation."""
    has_deviation: bool
    """True if the second half of the outputs are log standard deviations, which do not depend on the observation."""
    action_shape: tuple[int, ...]
    """The shape of one stored action: () or [A]."""
    action_dtype: torch.dtype
    """The dtype of a stored action."""

    def mode(self, outputs_BO: Tensor) -> Tensor:
        """Return the mode of the policy, the action of highest probability (density), [B, *action_shape]."""
        ...

    def sample(self, outputs_BO: Tensor, generator: np.random.Generator) -> Tensor:
        """Sample one action for each observation, [B, *action_shape]."""
        ...

    def log_prob_entropy(self, outputs_BO: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-probability of the actions and the entropy of the policy, both [B], float."""
        ...

    def for_env(self, action: np.ndarray) -> np.ndarray:
        """Return the actions as the environment takes them."""
        ...


def of(action_space: gymnasium.Space) -> Distribution:
    """Return the distribution for an action space: Discrete, MultiDiscrete or Box."""
    if isinstance(action_space, spaces.Discrete):
        return Categorical(int(action_space.n))
    if isinstance(action_space, spaces.MultiDiscrete):
        return MultiCategorical(action_space.nvec.tolist())
    assert isinstance(action_space, spaces.Box), f"no distribution over {action_space}"
    return Gaussian(action_space)


class Categorical:
    """One discrete action: a softmax over logits."""

    has_deviation = False
    action_shape: tuple[int, ...] = ()
    action_dtype = torch.int64

    def __init__(self, num_actions: int) -> None:
        self.num_outputs = num_actions

    def mode(self, outputs_BO: Tensor) -> Tensor:
        """Return the action with the largest logit, [B] int64."""
        return outputs_BO.argmax(dim=-1)

    def sample(self, outputs_BO: Tensor, generator: np.random.Generator) -> Tensor:
        """Sample actions by the Gumbel-max trick (Gumbel 1954), [B] int64."""
        gumbel = generator.gumbel(size=outputs_BO.shape).astype(np.float32)
        return (outputs_BO + to_device(gumbel, outputs_BO.device)).argmax(dim=-1)

    def log_prob_entropy(self, outputs_BO: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-probability and the entropy for actions [B] int64."""
        return policies.categorical_log_prob_entropy(outputs_BO, action)

    def for_env(self, action: np.ndarray) -> np.ndarray:
        """Return the actions unchanged."""
        return action


class MultiCategorical:
    """Several discrete choices at once, each with its own softmax. They are independent given the observation."""

    has_deviation = False
    action_dtype = torch.int64

    def __init__(self, num_choices: list[int]) -> None:
        self._num_choices = num_choices
        self._parts = [Categorical(num) for num in num_choices]
        self.num_outputs = sum(num_choices)
        self.action_shape: tuple[int, ...] = (len(num_choices),)

    def mode(self, outputs_BO: Tensor) -> Tensor:
        """Return the option with the largest logit of each choice, [B, A] int64."""
        return torch.stack([part.mode(logits) for part, logits in self._each(outputs_BO)], dim=-1)

    def sample(self, outputs_BO: Tensor, generator: np.random.Generator) -> Tensor:
        """Sample each choice independently, [B, A] int64."""
        return torch.stack([part.sample(logits, generator) for part, logits in self._each(outputs_BO)], dim=-1)

    def log_prob_entropy(self, outputs_BO: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probability and entropy, each summed over the choices, for actions [B, A] int64."""
        pairs = [
            part.log_prob_entropy(logits, choice)
            for (part, logits), choice in zip(self._each(outputs_BO), action.unbind(-1), strict=True)
        ]
        return torch.stack([pair[0] for pair in pairs]).sum(0), torch.stack([pair[1] for pair in pairs]).sum(0)

    def for_env(self, action: np.ndarray) -> np.ndarray:
        """Return the actions unchanged."""
        return action

    def _each(self, outputs_BO: Tensor) -> list[tuple[Categorical, Tensor]]:
        return list(zip(self._parts, outputs_BO.split(self._num_choices, dim=-1), strict=True))


class Gaussian:
    """Continuous actions: independent normal distributions. The outputs are means and log standard deviations."""

    has_deviation = True
    action_dtype = torch.float32

    def __init__(self, space: spaces.Box) -> None:
        self._space = space
        self._num_dimensions = int(np.prod(space.shape))
        self.num_outputs = 2 * self._num_dimensions
        self.action_shape: tuple[int, ...] = (self._num_dimensions,)

    def mode(self, outputs_BO: Tensor) -> Tensor:
        """Return the means, [B, A] float32."""
        return outputs_BO[:, : self._num_dimensions]

    def sample(self, outputs_BO: Tensor, generator: np.random.Generator) -> Tensor:
        """Sample actions, which may lie outside the bounds of the space, [B, A] float32."""
        mean_BA, log_std_BA = outputs_BO.chunk(2, dim=-1)
        noise = generator.standard_normal(mean_BA.shape, dtype=np.float32)
        return mean_BA + log_std_BA.exp() * to_device(noise, mean_BA.device)

    def log_prob_entropy(self, outputs_BO: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return log density and entropy for actions [B, A] float32, as sampled (not clipped)."""
        mean_BA, log_std_BA = outputs_BO.chunk(2, dim=-1)
        return policies.gaussian_log_prob_entropy(mean_BA, log_std_BA, action)

    def for_env(self, action: np.ndarray) -> np.ndarray:
        """Return the actions clipped to the bounds of the space. Training uses the unclipped samples."""
        return np.clip(action.reshape(len(action), *self._space.shape), self._space.low, self._space.high)
