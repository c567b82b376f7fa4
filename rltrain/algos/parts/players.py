"""Players act with weights that a learner publishes, and send chunks of what they did.

A player knows neither the learner nor where it runs. A fleet brings weights to players and chunks to the learner.
"""

import time
from collections import deque
from typing import Any, Protocol

import numpy as np
import torch

from rltrain.algos.parts.actor import Actor
from rltrain.buffers.chunk import Chunk, older_frames
from rltrain.config.run import RunConfig
from rltrain.envs.pool import Pool
from rltrain.envs.stepper import Stepper
from rltrain.nn import weights as network_weights
from rltrain.nn.device import to_device


class Player:
    """A pool of environments and a policy of its own that acts in them. Each chunk continues the episodes of the last.

    config.algo must have `num_steps`.
    """

    def __init__(self, config: RunConfig, pool: Pool, generator: np.random.Generator, env_seed: int) -> None:
        """generator: samples the actions. env_seed: of the environments, which begin new episodes."""
        self.num_steps: int = config.algo.num_steps
        self.actor = Actor(config, pool.frame_space, pool.action_space, seed=0)  # `play` overwrites these weights
        self.stepper = Stepper(pool, env_seed)
        self._pool, self._generator = pool, generator

    def play(self, weights: np.ndarray, version: int) -> Chunk:
        """Act for `num_steps` steps in every environment with these weights, [P] float32. Raises NonFiniteError.

        version: the number of updates that made the weights.
        """
        actor, stepper = self.actor, self.stepper
        network_weights.write(actor.network, weights)
        frames, first = [*older_frames(stepper.obs, self._pool.stack_num), stepper.frame], [stepper.first]
        actions, outputs, timesteps = [], [], []
        env_s = 0.0
        for _ in range(self.num_steps):
            action, output, _ = actor.act(to_device(stepper.obs, actor.device), self._generator)
            start_s = time.perf_counter()
            timestep, _ = stepper.step(actor.for_env(action))
            env_s += time.perf_counter() - start_s
            actions.append(action)
            outputs.append(output)
            timesteps.append(timestep)
            frames.append(stepper.frame)
            first.append(stepper.first)
        action = torch.stack(actions)
        log_prob = actor.log_prob(torch.cat(outputs), action.flatten(0, 1)).view(len(actions), -1)
        return Chunk(
            version=version,
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


class Fleet(Protocol):
    """The players of a run."""

    def publish(self, weights: np.ndarray, version: int) -> None:
        """Give the players new weights, [P] float32, made by `version` updates. They are not copied."""
        ...

    def chunks(self) -> list[Chunk]:
        """Return chunks to learn from, each for one update, in the order in which they were played."""
        ...


class LocalFleet:
    """One player in the learner's process, made to lag behind the learner as players elsewhere do.

    A chunk is played only when it is asked for, with the weights of `lag` updates ago. This is what an older chunk in
    flight would hold, but nothing is played that is never learned from, and the same seed gives the same chunks.
    """

    def __init__(self, player: Player, lag: int) -> None:
        self._player = player
        self._published: deque[tuple[int, np.ndarray]] = deque(maxlen=lag + 1)

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
        """Restore the state that `state_dict` returned. Raises ValueError if it does not fit the network."""
        versions, weights = state["versions"], np.asarray(state["weights"])
        if not 0 < len(versions) <= (self._published.maxlen or 0) or len(weights) != len(versions):
            raise ValueError(f"{len(weights)} weights of {len(versions)} versions")
        network_weights.write(self._player.actor.network, weights[0])  # only to see whether they fit
        self._published.clear()
        self._published.extend((int(version), row) for version, row in zip(versions, weights, strict=True))
