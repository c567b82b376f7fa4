"""The network of a policy-gradient agent and what it is asked: to act, to value, to say how likely an action was."""

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rltrain import cuda_graphs, distributions, networks
from rltrain import device as devices
from rltrain.compilation import compiled
from rltrain.config import RunConfig


class Actor:
    """A policy, with a value unless `critic` is false. Everything but `evaluate` computes without gradients."""

    def __init__(
        self,
        run_config: RunConfig,
        frame_space: gymnasium.Space,
        action_space: gymnasium.Space,
        seed: int,
        critic: bool = True,
    ) -> None:
        self.device = devices.resolve_device(run_config.device)
        self.distribution = distributions.of(action_space)
        pixels = len(frame_space.shape or ()) == 3
        dtype = devices.resolve_precision(run_config.precision, self.device, pixels)

        def make_torso() -> networks.Torso:
            return networks.Torso(frame_space, run_config.env.stack_num, run_config.network, dtype, init=True)

        self.network: networks.ActorCritic = networks.build(
            seed, lambda: networks.ActorCritic(make_torso, self.distribution, critic), self.device
        )
        self._learned_from = compiled(self.network) if run_config.compile else self.network
        devices.set_up_processor(self.network.torso.large_layers)
        devices.set_up_tensor_cores(run_config.precision, self.device)
        self._outputs = cuda_graphs.graphed(self.network, run_config, self.device)

    def policy(self, obs: np.ndarray, greedy: bool, generator: np.random.Generator) -> np.ndarray:
        """Actions for the environment, given observations [B, *obs_shape]: the likeliest, or sampled."""
        with torch.inference_mode():
            outputs, _ = self.network(devices.to_device(obs, self.device))
            if greedy:
                return self.for_env(self.distribution.likeliest(outputs))
            return self.for_env(self.distribution.sample(outputs, generator))

    def act(self, obs: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Sampled actions [B, *action_shape], the outputs [B, O] that they were drawn from, and the values [B]."""
        with torch.inference_mode():
            outputs, value = self._outputs(obs=obs)
            return self.distribution.sample(outputs, generator), outputs, value

    def value(self, obs: np.ndarray) -> Tensor:
        """Values [B]."""
        with torch.inference_mode():
            return self.network(devices.to_device(obs, self.device))[1]

    def log_prob(self, outputs: Tensor, action: Tensor) -> Tensor:
        """Log-probabilities [B] of the actions that were drawn from these outputs."""
        with torch.inference_mode():
            return self.distribution.log_prob_entropy(outputs, action)[0]

    def evaluate(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities [B] of actions taken, entropies [B] and values [B], with gradients."""
        outputs, value = self._learned_from(obs)
        return *self.distribution.log_prob_entropy(outputs, action), value

    def for_env(self, action: Tensor) -> np.ndarray:
        """Actions as the environments take them: inside their bounds."""
        return self.distribution.for_env(action.cpu().numpy())
