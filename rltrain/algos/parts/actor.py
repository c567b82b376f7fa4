"""The actor of a policy-gradient agent: a policy network with an optional critic."""

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rltrain.config.run import RunConfig
from rltrain.fast.compilation import compile_updates
from rltrain.nn import device as devices
from rltrain.nn import distributions, networks, weights
from rltrain.nn.learner import Learner
from rltrain.nn.recording import recorded


class Actor:
    """A policy, with a value estimate unless `critic` is false. Only `evaluate` computes gradients."""

    def __init__(
        self,
        config: RunConfig,
        frame_space: gymnasium.Space,
        action_space: gymnasium.Space,
        seed: int,
        critic: bool = True,
    ) -> None:
        self.device = devices.resolve_device(config.device)
        self.distribution = distributions.of(action_space)
        pixels = len(frame_space.shape or ()) == 3
        dtype = devices.resolve_precision(config.precision, self.device, pixels)

        def make_torso() -> networks.Torso:
            return networks.Torso(frame_space, config.env.stack_num, config.network, dtype, init=True)

        self.network: networks.ActorCritic = networks.build(
            seed,
            lambda: networks.ActorCritic(make_torso, self.distribution, critic),
            self.device,
            fuse=not config.compile,
        )
        if config.compile:
            compile_updates(self.network)
        self._outputs = recorded(self.network, config, self.device)

    def policy(self, obs: np.ndarray, greedy: bool, generator: np.random.Generator) -> np.ndarray:
        """Return the environments' actions for observations [B, *obs_shape]: the mode of the policy, or samples."""
        with torch.inference_mode():
            outputs, _ = self.network(devices.to_device(obs, self.device))
            if greedy:
                return self.for_env(self.distribution.mode(outputs))
            return self.for_env(self.distribution.sample(outputs, generator))

    def act(self, obs: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return sampled actions [B, *action_shape], the network's policy outputs [B, O], and the values [B].

        These are inference tensors: clone those that go into a batch for `Learner.step`.
        """
        with torch.inference_mode():
            outputs, value = self._outputs(obs=obs)
            return self.distribution.sample(outputs, generator), outputs, value

    def value(self, obs: np.ndarray | Tensor) -> Tensor:
        """Return the values of observations [B, *obs_shape], [B] float32."""
        with torch.inference_mode():
            return self.network(devices.to_device(obs, self.device))[1]

    def log_prob(self, outputs: Tensor, action: Tensor) -> Tensor:
        """Return the log-probabilities of actions under policy outputs [B, O], [B] float32."""
        with torch.inference_mode():
            return self.distribution.log_prob_entropy(outputs, action)[0]

    def evaluate(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the actions' log-probabilities [B], the entropies [B] and the values [B], with gradients."""
        outputs, value = self.network(obs)
        return *self.distribution.log_prob_entropy(outputs, action), value

    def for_env(self, action: Tensor) -> np.ndarray:
        """Return the actions as the environments take them, clipped to the bounds of the action space."""
        return self.distribution.for_env(action.cpu().numpy())


class PolicyAgent:
    """An actor and its learner: the base class of the policy-gradient agents."""

    def __init__(self, config: RunConfig, actor: Actor, optimizer: str, optimizer_eps: float) -> None:
        self.actor = actor
        self.network = actor.network
        self.learner = Learner(config, actor.network, optimizer, optimizer_eps)

    def policy(self, obs: np.ndarray, greedy: bool, generator: np.random.Generator) -> np.ndarray:
        """Return the environments' actions: the mode of the policy, or samples."""
        return self.actor.policy(obs, greedy, generator)

    def state_dict(self) -> dict[str, Any]:
        """Return the network, the optimizer's state and the number of updates."""
        return {"network": self.network.state_dict(), **self.learner.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        weights.load(self.network, state["network"])
        self.learner.load_state_dict(state)
