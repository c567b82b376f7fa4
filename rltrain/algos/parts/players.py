"""Players act with weights that a learner publishes, and send chunks of what they did.

A player knows neither the learner nor where it runs. A fleet brings weights to players and chunks to the learner.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rltrain.algos.parts.actor import Actor
from rltrain.buffers.chunk import Chunk, older_frames
from rltrain.config.run import RunConfig
from rltrain.envs.pool import Pool
from rltrain.envs.stepper import Stepper
from rltrain.nn import weights as network_weights
from rltrain.nn.device import to_device
from rltrain.run.checkpoint import Stateful
from rltrain.runtime.share import Share


class Policy(Protocol):
    """What acts in a player: an `Actor`, or one that DQN's actors have (ape_x.py)."""

    device: torch.device

    @property
    def network(self) -> torch.nn.Module:
        """The network whose weights a learner publishes."""
        ...

    def act(self, obs: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return sampled actions [B, *action_shape], the network's outputs [B, O], and the values [B]."""
        ...

    def log_prob(self, outputs: Tensor, action: Tensor) -> Tensor:
        """Return the log-probabilities [T * B] of actions of T steps, given the outputs that they were sampled from."""
        ...

    def for_env(self, action: Tensor) -> np.ndarray:
        """Return the actions as the environments take them."""
        ...


MakePolicy = Callable[[RunConfig, gymnasium.Space, gymnasium.Space, Share], Policy]
"""Makes the policy of a player from the run's configuration, the spaces of a frame and an action, and the environments
of the player. Its weights do not matter: `play` overwrites them."""


def make_actor(config: RunConfig, frame_space: gymnasium.Space, action_space: gymnasium.Space, share: Share) -> Actor:
    """Return the policy of a policy-gradient agent's player."""
    return Actor(config, frame_space, action_space, seed=0)


class Player:
    """A pool of environments and a policy that acts in them. Each chunk continues the episodes of the last."""

    def __init__(
        self,
        policy: Policy,
        pool: Pool,
        num_steps: int,
        generator: np.random.Generator,
        env_seed: int,
        first_env: int = 0,
    ) -> None:
        """num_steps: the length of a chunk. generator: samples the actions. env_seed: of the environments, which begin
        new episodes. first_env: the number of the pool's first environment, over all players.
        """
        self.policy, self.num_steps = policy, num_steps
        self.stepper = Stepper(pool, env_seed)
        self._pool, self._generator, self._first_env = pool, generator, first_env

    def play(self, weights: np.ndarray, version: int) -> Chunk:
        """Act for `num_steps` steps in every environment with these weights, [P] float32. Raises NonFiniteError.

        version: the number of updates that made the weights.
        """
        policy, stepper = self.policy, self.stepper
        network_weights.write(policy.network, weights)
        frames, first = [*older_frames(stepper.obs, self._pool.stack_num), stepper.frame], [stepper.first]
        actions, outputs, timesteps = [], [], []
        env_s = 0.0
        for _ in range(self.num_steps):
            action, output, _ = policy.act(to_device(stepper.obs, policy.device), self._generator)
            start_s = time.perf_counter()
            timestep, _ = stepper.step(policy.for_env(action))
            env_s += time.perf_counter() - start_s
            actions.append(action)
            outputs.append(output)
            timesteps.append(timestep)
            frames.append(stepper.frame)
            first.append(stepper.first)
        action = torch.stack(actions)
        log_prob = policy.log_prob(torch.cat(outputs), action.flatten(0, 1)).view(len(actions), -1)
        return Chunk(
            version=version,
            first_env=self._first_env,
            frame=np.stack(frames),
            first=np.stack(first),
            action=action.cpu().numpy(),
            log_prob=log_prob.cpu().numpy(),
            reward=np.stack([timestep.reward for timestep in timesteps]),
            terminated=np.stack([timestep.terminated for timestep in timesteps]),
            truncated=np.stack([timestep.truncated for timestep in timesteps]),
            last_frame=np.concatenate([timestep.next_obs[timestep.truncated] for timestep in timesteps]),
            episodes=[timestep.episodes for timestep in timesteps],
            env_s=env_s,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the environments; empty if they cannot save it."""
        return self.stepper.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self.stepper.load_state_dict(state)

    def close(self) -> None:
        """End the environments."""
        self._pool.close()


class Fleet(Protocol):
    """The players of a run."""

    parts: dict[str, Stateful]
    """What a checkpoint saves, by its name: the arguments of `Run.begin`."""

    @property
    def has_weights(self) -> bool:
        """False until weights are published, or restored."""
        ...

    @property
    def metrics(self) -> dict[str, float]:
        """The state of players elsewhere, by tag; empty for a player in this process."""
        ...

    def publish(self, weights: np.ndarray, version: int) -> None:
        """Give the players new weights, [P] float32, made by `version` updates. They are not copied."""
        ...

    def chunks(self) -> list[Chunk]:
        """Return chunks to learn from; those of one environment come in the order in which they were played.

        Returns at once, or after a second, an empty list if players elsewhere have sent too little.
        """
        ...


class LocalFleet:
    """One player in the learner's process, made to lag behind the learner as players elsewhere do.

    A chunk is played only when it is asked for, with the weights of `lag` updates ago. This is what an older chunk in
    flight would hold, but nothing is played that is never learned from, and the same seed gives the same chunks.
    """

    def __init__(self, player: Player, lag: int) -> None:
        self._player = player
        self._published: deque[tuple[int, np.ndarray]] = deque(maxlen=lag + 1)
        self.parts: dict[str, Stateful] = {"environments": player, "fleet": self}

    @property
    def has_weights(self) -> bool:
        """False until weights are published, or restored."""
        return bool(self._published)

    @property
    def metrics(self) -> dict[str, float]:
        """Return no metrics."""
        return {}

    def publish(self, weights: np.ndarray, version: int) -> None:
        """Let the player act with these weights after `lag` further calls. The first are used at once."""
        self._published.append((version, weights))

    def chunks(self) -> list[Chunk]:
        """Return the player's next chunk."""
        version, weights = self._published[0]
        return [self._player.play(weights, version)]

    def state_dict(self) -> dict[str, Any]:
        """Return the published weights that the player will still act with."""
        return {
            "versions": [version for version, _ in self._published],
            "weights": np.stack([weights for _, weights in self._published]),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned. Raises ValueError if it does not fit the network.

        An empty state, from a run whose players were elsewhere, changes nothing.
        """
        if not state:
            return
        versions, weights = state["versions"], np.asarray(state["weights"])
        if not 0 < len(versions) <= (self._published.maxlen or 0) or len(weights) != len(versions):
            raise ValueError(f"{len(weights)} weights of {len(versions)} versions")
        network_weights.write(self._player.policy.network, weights[0])  # only to see whether they fit
        self._published.clear()
        self._published.extend((int(version), row) for version, row in zip(versions, weights, strict=True))
