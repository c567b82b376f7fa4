"""Settings of every algorithm, with the actions that it supports and the memory that it needs.

The settings are in a module of their own so that Hydra can compose a configuration without torch or numba.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

from rltrain.config.validate import at_least, in_range, one_of
from rltrain.errors import ConfigError

DISCRETE, SEVERAL, CONTINUOUS = "discrete", "several", "continuous"
"""Kinds of action spaces: one choice (Discrete), several choices at once (MultiDiscrete), real numbers (Box)."""

ACTION_WORDS = {
    DISCRETE: "one discrete action per step",
    SEVERAL: "several discrete actions per step",
    CONTINUOUS: "continuous actions",
}
"""Words of error messages for each kind of action space."""

_SLOT_BYTES = 8 + 4 + 1 + 1 + 1 + 1
"""Bytes of a replay buffer slot without its frame: action (int64), reward, terminated, ended, history, valid."""

_TREE_BYTES = 2 * 8 * 2
"""Extra bytes of a slot with priorities: two leaves and a share of the nodes above them, in float64."""

MOST_ENVS = 1_000_000
"""The most environments of a run. Each is an object of its own, so a thousand times as many fit no machine."""

_LARGE_REPLAY_BYTES = 1e9
"""Above this size a replay buffer takes seconds to save."""


class Memory(NamedTuple):
    """Memory that a run holds throughout the training, estimated from its settings."""

    num_bytes: int
    """Bytes of host memory (not GPU memory)."""
    what: str
    """Name for messages, such as `a replay buffer of 100,000 frames`."""
    key: str
    """The setting that determines the size."""
    bytes_per_unit: float
    """Bytes for each unit of `key`."""


def action_kind(action_space: Any) -> str:
    """Return the kind of an action space: DISCRETE, SEVERAL or CONTINUOUS."""
    if hasattr(action_space, "nvec"):
        return SEVERAL
    return DISCRETE if hasattr(action_space, "n") else CONTINUOUS


def frame_bytes(frame_space: Any) -> int:
    """Return the size of one frame in bytes."""
    return math.prod(frame_space.shape or ()) * int(frame_space.dtype.itemsize)


@dataclass
class AlgorithmConfig:
    """Base of all algorithm settings. The defaults suit an algorithm that trains a network on rollouts."""

    name: str
    num_envs: int
    """Environments stepped in parallel."""
    like: str | None = field(default=None, kw_only=True)
    """Algorithm whose tuned settings (`rltrain list hparams`) to use where this one has none of its own. Only in the
    YAML file of an algorithm of your own, not on the command line."""

    action_kinds: ClassVar[tuple[str, ...]] = (DISCRETE, SEVERAL, CONTINUOUS)
    """Kinds of action spaces that the algorithm supports."""
    is_tabular: ClassVar[bool] = False
    """True if the algorithm needs discrete states and has a table instead of a network."""
    trains_on_gpu: ClassVar[bool] = True
    """True if the algorithm can use a device other than the CPU."""
    supports_cuda_graphs: ClassVar[bool] = True
    supports_compile: ClassVar[bool] = True
    supports_torchrun: ClassVar[bool] = False
    """True if several processes can learn together: the algorithm joins its learner to `run.group`."""
    supports_ray: ClassVar[bool] = False
    """True if actors in other processes can play for it: its `train` calls `make_fleet`."""
    plays_whole_episodes: ClassVar[bool] = False
    """True if an update waits for the end of an episode, so that an environment needs a time limit."""

    def check(self, frame_space: Any, action_space: Any, stack_num: int) -> None:
        """Raise ConfigError if sizes do not fit each other or the environment's spaces."""

    def memory(self, frame_space: Any, stack_num: int, frames_on_device: bool) -> Memory | None:
        """Return the memory of the algorithm's largest buffer, or None if it is small.

        frames_on_device: the frames of a replay buffer are in GPU memory.
        """
        return None

    def checkpoint_every_steps(self, frame_space: Any, total_steps: int) -> int:
        """Return the default number of steps between checkpoints: a fifth of total_steps."""
        return max(1, total_steps // 5)

    def until_first_update(self) -> tuple["AlgorithmConfig", int]:
        """Return the settings and the number of steps of a dry run, which makes exactly one update."""
        return self, 1


@dataclass
class TabularConfig(AlgorithmConfig):
    """Settings of an algorithm that learns a table of action values."""

    name: str
    learning_rate: float = 0.1
    """Learning rate at the first step, (0, 1]. Use a value near 1 if transitions are deterministic."""
    learning_rate_end: float | None = None
    """Learning rate at the last step, reached linearly, [0, 1]; null: constant. A small value averages out the noise of
    random transitions and of exploration."""
    gamma: float = 0.99
    """Discount per step, [0, 1]."""
    epsilon_schedule: str = "linear"
    """linear: from epsilon_start to epsilon_end in a straight line over steps; exponential: epsilon_end +
    (epsilon_start - epsilon_end) * exp(-epsilon_decay * episode), as in the Deep Reinforcement Learning Course. If
    epsilon_start equals epsilon_end, epsilon is constant."""
    epsilon_start: float = 1.0
    """Probability of a random action at the first step, [0, 1]."""
    epsilon_end: float = 0.05
    """Probability of a random action after the decay, [0, 1]."""
    exploration_fraction: float = 0.5
    """linear only: fraction of total_steps over which epsilon falls, (0, 1]."""
    epsilon_decay: float = 0.01
    """exponential only: rate per episode, at least 0."""
    show_steps: int = 0
    """Print the table after each of the first show_steps steps."""
    num_envs: int = 1
    """Always 1: the table is updated step by step in one environment."""
    batch_size: int = 1
    """Always 1: each update uses one transition."""

    action_kinds: ClassVar[tuple[str, ...]] = (DISCRETE,)
    is_tabular: ClassVar[bool] = True
    trains_on_gpu: ClassVar[bool] = False
    supports_cuda_graphs: ClassVar[bool] = False
    supports_compile: ClassVar[bool] = False

    def __post_init__(self) -> None:
        in_range("algo.learning_rate", self.learning_rate, 0, 1, open_low=True)
        if self.learning_rate_end is not None:
            in_range("algo.learning_rate_end", self.learning_rate_end, 0, 1)
        in_range("algo.gamma", self.gamma, 0, 1)
        one_of("algo.epsilon_schedule", self.epsilon_schedule, ("linear", "exponential"))
        in_range("algo.epsilon_start", self.epsilon_start, 0, 1)
        in_range("algo.epsilon_end", self.epsilon_end, 0, 1)
        in_range("algo.exploration_fraction", self.exploration_fraction, 0, 1, open_low=True)
        at_least("algo.epsilon_decay", self.epsilon_decay, 0)
        at_least("algo.show_steps", self.show_steps, 0)
        if self.num_envs != 1 or self.batch_size != 1:
            raise ConfigError(
                f"{self.name} updates its table one transition at a time, in one environment",
                "num_envs, batch_size",
                "leave both at 1, or use algo=dqn",
            )

    def until_first_update(self) -> tuple["AlgorithmConfig", int]:
        """Return 1,000 steps, because Monte Carlo updates only at the end of an episode."""
        return self, 1000


@dataclass
class QLearningConfig(TabularConfig):
    """Settings of tabular Q-learning."""

    name: str = "q_learning"


@dataclass
class SarsaConfig(TabularConfig):
    """Settings of SARSA."""

    name: str = "sarsa"


@dataclass
class MonteCarloConfig(TabularConfig):
    """Settings of Monte Carlo control."""

    name: str = "monte_carlo"
    first_visit: bool = True
    """Update only at the first visit of a state-action pair in an episode; false: at every visit."""


@dataclass
class LearningConfig(AlgorithmConfig):
    """Settings of an algorithm that trains a network. Each algorithm sets its own values of the first four."""

    name: str
    num_envs: int
    """Environments stepped in parallel."""
    learning_rate: float
    """Learning rate of the optimizer at the first step."""
    max_grad_norm: float
    """Maximum global L2 norm of the gradients; larger gradients are scaled down."""
    learning_rate_end: float | None = None
    """Learning rate at the last step, reached linearly; null: constant."""
    gamma: float = 0.99
    """Discount per agent step, [0, 1]."""
    reward_scale: float = 1.0
    """The agent trains on rewards multiplied by this factor. Logs show the raw reward."""
    reward_clip: float | None = None
    """The agent trains on rewards clipped to [-reward_clip, reward_clip], after reward_scale; null: not clipped."""

    def __post_init__(self) -> None:
        in_range("algo.num_envs", self.num_envs, 1, MOST_ENVS)
        in_range("algo.learning_rate", self.learning_rate, 0, 1, open_low=True)
        at_least("algo.max_grad_norm", self.max_grad_norm, 1e-12)
        at_least("algo.learning_rate_end", self.learning_rate_end, 0)
        in_range("algo.gamma", self.gamma, 0, 1)
        at_least("algo.reward_clip", self.reward_clip, 1e-9)

    def memory(self, frame_space: Any, stack_num: int, frames_on_device: bool) -> Memory | None:
        """Return the memory of the observations of one rollout."""
        num_steps = getattr(self, "num_steps", None)
        if num_steps is None:
            return None
        obs_bytes = frame_bytes(frame_space) * stack_num
        samples = num_steps * self.num_envs
        what = f"a rollout of {samples:,} observations"
        return Memory(samples * obs_bytes, what, "algo.num_steps", obs_bytes * self.num_envs)

    def until_first_update(self) -> tuple["AlgorithmConfig", int]:
        """Return the steps of one rollout; for REINFORCE one step, because it always completes its episodes."""
        return self, self.num_envs * getattr(self, "num_steps", 1)


PRESETS: dict[str, tuple[str, ...]] = {
    "dqn": (),
    "double_dqn": ("double",),
    "dueling_dqn": ("dueling",),
    "per_dqn": ("prioritized",),
    "d3qn_per": ("double", "dueling", "prioritized"),
}
"""The presets of DQN, with the switches that each preset turns on."""


@dataclass
class DQNConfig(LearningConfig):
    """Settings of DQN and its improvements."""

    name: str = "dqn"
    num_envs: int = 1
    learning_rate: float = 1e-4
    max_grad_norm: float = 10.0
    double: bool = False
    """Double DQN: the online network selects the next action and the target network evaluates it (van Hasselt et al.
    2016)."""
    dueling: bool = False
    """Dueling network: separate value and advantage streams (Wang et al. 2016)."""
    prioritized: bool = False
    """Prioritized replay: sample transitions in proportion to their TD error (Schaul et al. 2016)."""
    n_step: int = 1
    """Rewards summed before the bootstrap."""
    adam_eps: float = 1e-8
    """Epsilon of Adam."""
    loss: str = "huber"
    """huber (linear beyond a TD error of 1, the error clipping of Mnih et al. 2015) or squared."""
    batch_size: int = 32
    """Transitions in a minibatch."""
    train_every_steps: int = 4
    """Agent steps, over all environments, between rounds of updates."""
    updates_per_round: int = 1
    """Optimizer updates in a round."""
    target_period_updates: int = 1_000
    """Optimizer updates between copies of the online network to the target network."""
    learning_starts: int = 1_000
    """Agent steps with random actions before the first update."""
    replay_capacity: int = 100_000
    """Frames that the replay buffer stores, over all environments."""
    replay_device: str = "auto"
    """Where the replay buffer stores its frames: cpu, device (the run's device), or auto (a CUDA device if the frames
    fit there, else cpu). The samples are the same."""
    epsilon_start: float = 1.0
    """Probability of a random action at the first step."""
    epsilon_end: float = 0.05
    """Probability of a random action after the decay."""
    exploration_fraction: float = 0.1
    """Fraction of total_steps over which epsilon falls linearly."""
    priority_alpha: float = 0.6
    """Exponent of the priorities; 0 samples uniformly."""
    priority_beta_start: float = 0.4
    """Exponent of the importance weights at the first step. It rises linearly to 1 at the last step."""

    action_kinds: ClassVar[tuple[str, ...]] = (DISCRETE,)
    supports_ray: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for switch in PRESETS.get(self.name, ()):
            if not getattr(self, switch):
                raise ConfigError(
                    f"algo={self.name} needs algo.{switch}=true",
                    f"algo.{switch}",
                    "use algo=dqn to choose the switches yourself",
                )
        one_of("algo.loss", self.loss, ("huber", "squared"))
        one_of("algo.replay_device", self.replay_device, ("auto", "cpu", "device"))
        in_range("algo.epsilon_start", self.epsilon_start, 0, 1)
        in_range("algo.epsilon_end", self.epsilon_end, 0, 1)
        in_range("algo.exploration_fraction", self.exploration_fraction, 0, 1, open_low=True)
        in_range("algo.priority_alpha", self.priority_alpha, 0, 1)
        in_range("algo.priority_beta_start", self.priority_beta_start, 0, 1)
        for key in ("n_step", "batch_size", "train_every_steps", "updates_per_round"):
            at_least(f"algo.{key}", getattr(self, key), 1)
        at_least("algo.target_period_updates", self.target_period_updates, 1)
        at_least("algo.learning_starts", self.learning_starts, 0)
        at_least("algo.replay_capacity", self.replay_capacity, 1)

    def check(self, frame_space: Any, action_space: Any, stack_num: int) -> None:
        """Raise ConfigError if the replay buffer cannot fill a minibatch."""
        needed = self.num_envs * (self.n_step + stack_num + 1) + self.batch_size
        if self.replay_capacity < needed:
            raise ConfigError(
                f"a replay buffer of {self.replay_capacity} frames cannot fill minibatches of {self.batch_size}",
                "algo.replay_capacity",
                f"give at least {needed}",
            )

    def memory(self, frame_space: Any, stack_num: int, frames_on_device: bool) -> Memory | None:
        """Return the memory of the replay buffer, without its frames if they are on the device."""
        each = self._slot_bytes(frame_space) - frames_on_device * frame_bytes(frame_space)
        what = f"a replay buffer of {self.replay_capacity:,} frames"
        return Memory(self.replay_capacity * each, what, "algo.replay_capacity", each)

    def checkpoint_every_steps(self, frame_space: Any, total_steps: int) -> int:
        """Return a fifth of total_steps; with a large replay buffer, at most an eighth of its capacity.

        A run must save and stop within 10 s of a signal, and a save writes all frames since the last checkpoint but
        one.
        """
        steps = super().checkpoint_every_steps(frame_space, total_steps)
        if self.replay_capacity * self._slot_bytes(frame_space) > _LARGE_REPLAY_BYTES:
            return min(steps, max(1, self.replay_capacity // 8))
        return steps

    def until_first_update(self) -> tuple["AlgorithmConfig", int]:
        """Return the steps that fill a minibatch, plus those until the next round of updates."""
        starts = self.batch_size + self.num_envs * (self.n_step + 1)
        return replace(self, learning_starts=starts), starts + self.train_every_steps + self.num_envs

    def _slot_bytes(self, frame_space: Any) -> int:
        return frame_bytes(frame_space) + _SLOT_BYTES + _TREE_BYTES * self.prioritized


@dataclass
class PQNConfig(LearningConfig):
    """Settings of PQN, the parallelised Q-network."""

    name: str = "pqn"
    num_envs: int = 8
    learning_rate: float = 2.5e-4
    max_grad_norm: float = 10.0
    num_steps: int = 32
    """Agent steps of each environment in one rollout."""
    num_epochs: int = 2
    """Passes over each rollout."""
    batch_size: int = 128
    """Transitions in a minibatch; must divide num_envs * num_steps."""
    q_lambda: float = 0.65
    """Lambda of the Q(lambda) returns, [0, 1]: 0 is the one-step return, 1 uses all rewards of the rollout."""
    layer_norm: bool = True
    """Layer normalisation after every layer, which replaces the target network. false is for experiments only."""
    epsilon_start: float = 1.0
    """Probability of a random action at the first step."""
    epsilon_end: float = 0.05
    """Probability of a random action after the decay."""
    exploration_fraction: float = 0.1
    """Fraction of total_steps over which epsilon falls linearly."""

    action_kinds: ClassVar[tuple[str, ...]] = (DISCRETE,)
    supports_cuda_graphs: ClassVar[bool] = False
    supports_torchrun: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("algo.q_lambda", self.q_lambda, 0, 1)
        in_range("algo.epsilon_start", self.epsilon_start, 0, 1)
        in_range("algo.epsilon_end", self.epsilon_end, 0, 1)
        in_range("algo.exploration_fraction", self.exploration_fraction, 0, 1, open_low=True)
        for key in ("num_steps", "num_epochs", "batch_size"):
            at_least(f"algo.{key}", getattr(self, key), 1)

    def check(self, frame_space: Any, action_space: Any, stack_num: int) -> None:
        """Raise ConfigError if batch_size does not divide the rollout."""
        _check_minibatches(self.num_envs, self.num_steps, self.batch_size)


@dataclass
class ReinforceConfig(LearningConfig):
    """Settings of REINFORCE."""

    name: str = "reinforce"
    num_envs: int = 8
    learning_rate: float = 2e-3
    max_grad_norm: float = 0.5
    batch_size: int = 1000
    """Minimum number of agent steps in a batch. A batch holds whole episodes, so it can be longer."""
    baseline: bool = False
    """Train a value function and subtract it from the return. This lowers the variance of the gradient only."""
    optimizer: str = "adam"
    """rmsprop or adam."""
    optimizer_eps: float = 1e-8
    """Epsilon of the optimizer."""
    value_weight: float = 0.5
    """Weight of the value loss of the baseline (half the mean squared error)."""
    entropy_weight: float = 0.0
    """Weight of the entropy bonus."""
    normalize_advantage: bool = True
    """Normalise the returns (minus the baseline) to mean 0 and standard deviation 1 over each batch."""

    plays_whole_episodes: ClassVar[bool] = True

    def memory(self, frame_space: Any, stack_num: int, frames_on_device: bool) -> Memory | None:
        """Return the memory of the observations of one batch, which may be longer."""
        obs_bytes = frame_bytes(frame_space) * stack_num
        what = f"a batch of {self.batch_size:,} observations"
        return Memory(self.batch_size * obs_bytes, what, "batch_size", obs_bytes)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("algo.optimizer", self.optimizer, ("adam", "rmsprop"))
        at_least("algo.batch_size", self.batch_size, 1)
        at_least("algo.optimizer_eps", self.optimizer_eps, 1e-12)
        for key in ("value_weight", "entropy_weight"):
            at_least(f"algo.{key}", getattr(self, key), 0)


@dataclass
class ActorCriticConfig(LearningConfig):
    """Settings of an actor-critic that makes one update from each rollout: A2C, A3C and IMPALA share them."""

    learning_rate: float = 7e-4
    max_grad_norm: float = 0.5
    num_steps: int = 5
    """Agent steps of each environment in one rollout."""
    optimizer: str = "rmsprop"
    """rmsprop or adam."""
    optimizer_eps: float = 1e-5
    """Epsilon of the optimizer."""
    value_weight: float = 0.5
    """Weight of the value loss (half the mean squared error)."""
    entropy_weight: float = 0.01
    """Weight of the entropy bonus."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("algo.num_steps", self.num_steps, 1)
        one_of("algo.optimizer", self.optimizer, ("adam", "rmsprop"))
        at_least("algo.optimizer_eps", self.optimizer_eps, 1e-12)
        at_least("algo.value_weight", self.value_weight, 0)
        at_least("algo.entropy_weight", self.entropy_weight, 0)


@dataclass
class A2CConfig(ActorCriticConfig):
    """Settings of advantage actor-critic."""

    name: str = "a2c"
    num_envs: int = 16
    gae_lambda: float = 1.0
    """Lambda of generalized advantage estimation, [0, 1]; 1 is the n-step return of Mnih et al. 2016."""
    normalize_advantage: bool = False
    """Normalise advantages to mean 0 and standard deviation 1 over each rollout."""

    supports_torchrun: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("algo.gae_lambda", self.gae_lambda, 0, 1)


@dataclass
class A3CConfig(A2CConfig):
    """Settings of asynchronous advantage actor-critic. num_workers must divide num_envs.

    A2C updates from all environments at once, A3C from each worker's own rollout.
    """

    name: str = "a3c"
    num_envs: int = 4
    num_steps: int = 20
    num_workers: int = 4
    """Processes that act and update the shared parameters. Each has one thread and num_envs / num_workers
    environments."""

    trains_on_gpu: ClassVar[bool] = False
    supports_cuda_graphs: ClassVar[bool] = False
    supports_compile: ClassVar[bool] = False
    supports_torchrun: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("algo.num_workers", self.num_workers, 1, 1000)
        if self.num_envs % self.num_workers:
            raise ConfigError(
                f"{self.num_workers} workers cannot share {self.num_envs} environments evenly",
                "num_envs, algo.num_workers",
                f"use num_envs={self.num_workers * max(1, round(self.num_envs / self.num_workers))}",
            )


@dataclass
class IMPALAConfig(ActorCriticConfig):
    """Settings of IMPALA, an actor-critic that corrects for actions of an older policy. Its rollouts are chunks."""

    name: str = "impala"
    num_envs: int = 16
    learning_rate: float = 6e-4
    num_steps: int = 20
    policy_lag: int = 2
    """How many updates the policy that plays is behind the one that learns; 0: the same policy, as in A2C."""
    rho_clip: float = 1.0
    """Upper limit of the probability ratio in the errors of the values and in the policy gradient (rho). It decides
    which policy the values belong to."""
    c_clip: float = 1.0
    """Upper limit of the probability ratio with which later errors count for earlier steps (c); at most rho_clip."""
    vtrace_lambda: float = 1.0
    """Factor of c, [0, 1]: 1 is the n-step return of the paper, smaller values lean more on the critic."""

    supports_ray: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("algo.policy_lag", self.policy_lag, 0, 1000)
        at_least("algo.c_clip", self.c_clip, 0)
        at_least("algo.rho_clip", self.rho_clip, 1e-9)
        if self.c_clip > self.rho_clip:
            what = f"algo.c_clip={self.c_clip:g} is larger than algo.rho_clip={self.rho_clip:g}"
            raise ConfigError(what, "algo.c_clip", f"use algo.c_clip={self.rho_clip:g} or less")
        in_range("algo.vtrace_lambda", self.vtrace_lambda, 0, 1)


@dataclass
class PPOConfig(LearningConfig):
    """Settings of proximal policy optimization."""

    name: str = "ppo"
    num_envs: int = 8
    learning_rate: float = 2.5e-4
    max_grad_norm: float = 0.5
    num_steps: int = 128
    """Agent steps of each environment in one rollout."""
    num_epochs: int = 4
    """Passes over each rollout."""
    batch_size: int = 256
    """Transitions in a minibatch; must divide num_envs * num_steps."""
    gae_lambda: float = 0.95
    """Lambda of generalized advantage estimation, [0, 1]."""
    clip_range: float = 0.2
    """The probability ratio is clipped to [1 - clip_range, 1 + clip_range]."""
    clip_range_end: float | None = None
    """Clip range at the last step, reached linearly; null: constant."""
    clip_value_range: float | None = None
    """Clip the new value to within this distance of the value in the rollout; null: not clipped. OpenAI's code clips
    it. Andrychowicz et al. 2021 found no benefit."""
    adam_eps: float = 1e-5
    """Epsilon of Adam."""
    value_weight: float = 0.5
    """Weight of the value loss (half the mean squared error)."""
    entropy_weight: float = 0.01
    """Weight of the entropy bonus."""
    entropy_weight_end: float | None = None
    """Weight of the entropy bonus at the last step, reached linearly; null: constant."""
    normalize_advantage: bool = True
    """Normalise advantages to mean 0 and standard deviation 1 over each minibatch."""
    normalize_reward: bool = False
    """Divide rewards by the running standard deviation of their discounted sums, after reward_scale and reward_clip
    (Engstrom et al. 2020). Then rewards of any size suit the same learning rate and weights. Logs show the raw reward.
    For one process only."""

    supports_torchrun: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("algo.gae_lambda", self.gae_lambda, 0, 1)
        for key in ("num_steps", "num_epochs", "batch_size"):
            at_least(f"algo.{key}", getattr(self, key), 1)
        at_least("algo.clip_range", self.clip_range, 1e-9)
        for key in ("value_weight", "entropy_weight", "entropy_weight_end", "clip_range_end"):
            at_least(f"algo.{key}", getattr(self, key), 0)
        at_least("algo.clip_value_range", self.clip_value_range, 1e-9)

    def check(self, frame_space: Any, action_space: Any, stack_num: int) -> None:
        """Raise ConfigError if batch_size does not divide the rollout."""
        _check_minibatches(self.num_envs, self.num_steps, self.batch_size)


ALGOS: dict[str, type[AlgorithmConfig]] = {
    "q_learning": QLearningConfig,
    "sarsa": SarsaConfig,
    "monte_carlo": MonteCarloConfig,
    **dict.fromkeys(PRESETS, DQNConfig),
    "pqn": PQNConfig,
    "reinforce": ReinforceConfig,
    "a2c": A2CConfig,
    "a3c": A3CConfig,
    "impala": IMPALAConfig,
    "ppo": PPOConfig,
}
"""The settings class of every algorithm and of every preset."""


def base_name(name: str) -> str:
    """Return the algorithm behind a preset, such as dqn for double_dqn; for any other name, the name itself."""
    schema: Any = ALGOS[name]
    return str(schema.name)


def _check_minibatches(num_envs: int, num_steps: int, batch_size: int) -> None:
    rollout = num_envs * num_steps
    if rollout % batch_size:
        small = [size for size in range(1, math.isqrt(rollout) + 1) if rollout % size == 0]
        divisors = sorted({*small, *(rollout // size for size in small)})
        fitting = min(divisors, key=lambda size: abs(size - batch_size))
        raise ConfigError(
            f"batch_size={batch_size} does not divide the rollout of {num_envs} x {num_steps} steps",
            "batch_size",
            f"use batch_size={fitting}, or change algo.num_steps",
        )
