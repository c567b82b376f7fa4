"""The settings of every algorithm, and what each algorithm needs of environments and of memory.

The schemas stand apart from the algorithms, so that composing a configuration imports neither torch nor numba.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

from rltrain.config.validate import at_least, in_range, one_of
from rltrain.errors import ConfigError

DISCRETE, SEVERAL, CONTINUOUS = "discrete", "several", "continuous"
"""Kinds of actions: one choice (Discrete), several choices at once (MultiDiscrete), real numbers (Box)."""

ACTION_WORDS = {
    DISCRETE: ("one discrete action", "are discrete"),
    SEVERAL: ("several choices at once", "are several at once"),
    CONTINUOUS: ("continuous actions", "are continuous"),
}
"""How a message says what an algorithm needs, and what an environment's actions are."""

_SLOT_BYTES = 8 + 4 + 1 + 1 + 1 + 1
"""What a slot of a replay holds beside its frame: action (int64), reward, terminated, ended, history, valid."""

_TREE_BYTES = 2 * 8 * 2
"""A prioritized slot's two leaves and its share of the nodes above them, float64."""

_LARGE_REPLAY_BYTES = 1e9
"""A replay of this size takes seconds to save."""


class Memory(NamedTuple):
    """What a run will hold for as long as it trains: an estimate from its settings alone."""

    num_bytes: int
    """Bytes in the computer's own memory."""
    what: str
    """`a replay of 100,000 frames`."""
    key: str
    """The setting that decides it."""
    bytes_per_unit: float
    """Bytes for each unit of `key`."""


def action_kind(action_space: Any) -> str:
    """Return the kind of an action space."""
    if hasattr(action_space, "nvec"):
        return SEVERAL
    return DISCRETE if hasattr(action_space, "n") else CONTINUOUS


def frame_bytes(frame_space: Any) -> int:
    """Return the bytes of one frame."""
    return math.prod(frame_space.shape or ()) * int(frame_space.dtype.itemsize)


@dataclass
class AlgorithmConfig:
    """What every algorithm tells of itself. The defaults suit an algorithm that learns by gradients from rollouts."""

    name: str
    num_envs: int
    """Environments stepped side by side."""

    action_kinds: ClassVar[tuple[str, ...]] = (DISCRETE, SEVERAL, CONTINUOUS)
    """The kinds of actions that the algorithm can choose."""
    is_tabular: ClassVar[bool] = False
    """Whether it needs states that can be counted, and keeps a table in place of a network."""
    trains_on_gpu: ClassVar[bool] = True
    """Whether it can use a device other than the processor."""
    supports_cuda_graphs: ClassVar[bool] = True
    supports_compile: ClassVar[bool] = True

    def check(self, frame_space: Any, action_space: Any, stack_num: int) -> None:
        """Raise ConfigError where sizes do not fit each other, once the environment's spaces are known."""

    def memory(self, frame_space: Any, stack_num: int, frames_on_device: bool) -> Memory | None:
        """Return the largest thing that the algorithm holds; None where it is small.

        frames_on_device: frames of a replay lie in the memory of the GPU.
        """
        return None

    def checkpoint_every_steps(self, frame_space: Any, total_steps: int) -> int:
        """Return the steps between checkpoints, unless the user says otherwise: a fifth of total_steps."""
        return max(1, total_steps // 5)

    def until_first_update(self) -> tuple["AlgorithmConfig", int]:
        """Return settings and a number of steps with which exactly one update is made: for a dry run."""
        return self, 1


@dataclass
class TabularConfig(AlgorithmConfig):
    """Settings of an algorithm that keeps a table of action values."""

    name: str
    learning_rate: float = 0.1
    """Step size of the table update at the first step, (0, 1]. Near 1 is right where transitions are deterministic."""
    learning_rate_end: float | None = None
    """Step size at the last step, reached in a straight line, [0, 1]; null keeps it constant. A small one averages the
    noise away where outcomes are random or the policy explores."""
    gamma: float = 0.99
    """Discount per step, [0, 1]."""
    epsilon_schedule: str = "linear"
    """linear: from epsilon_start to epsilon_end in a straight line over steps; exponential: epsilon_end +
    (epsilon_start - epsilon_end) * exp(-epsilon_decay * episode), the course's form. Equal ends keep it constant."""
    epsilon_start: float = 1.0
    """Share of random actions at the first step, [0, 1]."""
    epsilon_end: float = 0.05
    """Share of random actions once the decay is over, [0, 1]."""
    exploration_fraction: float = 0.5
    """linear only: part of total_steps over which epsilon falls, (0, 1]."""
    epsilon_decay: float = 0.01
    """exponential only: rate per episode, at least 0."""
    show_steps: int = 0
    """Steps at the beginning after each of which the terminal shows the table."""
    num_envs: int = 1
    """A table is updated step by step: one environment."""
    batch_size: int = 1
    """One transition an update, by definition."""

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
                f"{self.name} updates its table one transition at a time",
                "num_envs, batch_size",
                "leave both at 1, or use algo=dqn",
            )

    def until_first_update(self) -> tuple["AlgorithmConfig", int]:
        """A thousand steps: Monte Carlo learns at the end of an episode."""
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
    """Learn from the first visit of a state and action in an episode alone; false: from every visit."""


@dataclass
class LearningConfig(AlgorithmConfig):
    """Settings of an algorithm that learns by gradients. Each algorithm has its own values of the first four."""

    name: str
    num_envs: int
    """Environments stepped side by side."""
    learning_rate: float
    """The optimizer's step size at the first step."""
    max_grad_norm: float
    """Gradients are scaled down to this global L2 norm."""
    learning_rate_end: float | None = None
    """Linear schedule of learning_rate to this value at the last step; null: constant."""
    gamma: float = 0.99
    """Discount per agent step, [0, 1]."""
    reward_scale: float = 1.0
    """The agent learns from the reward times this; logs show the raw reward."""
    reward_clip: float | None = None
    """The agent learns from rewards clipped to plus or minus this, after scaling; null: not clipped."""

    def __post_init__(self) -> None:
        at_least("algo.num_envs", self.num_envs, 1)
        in_range("algo.learning_rate", self.learning_rate, 0, 1, open_low=True)
        at_least("algo.max_grad_norm", self.max_grad_norm, 1e-12)
        at_least("algo.learning_rate_end", self.learning_rate_end, 0)
        in_range("algo.gamma", self.gamma, 0, 1)
        at_least("algo.reward_clip", self.reward_clip, 1e-9)

    def memory(self, frame_space: Any, stack_num: int, frames_on_device: bool) -> Memory | None:
        """The observations of one rollout."""
        num_steps = getattr(self, "num_steps", None)
        if num_steps is None:
            return None
        obs_bytes = frame_bytes(frame_space) * stack_num
        samples = num_steps * self.num_envs
        what = f"a rollout of {samples:,} observations"
        return Memory(samples * obs_bytes, what, "algo.num_steps", obs_bytes * self.num_envs)

    def until_first_update(self) -> tuple["AlgorithmConfig", int]:
        """One rollout; one step of REINFORCE, which goes on to the end of its episodes."""
        return self, self.num_envs * getattr(self, "num_steps", 1)


PRESETS: dict[str, tuple[str, ...]] = {
    "dqn": (),
    "double_dqn": ("double",),
    "dueling_dqn": ("dueling",),
    "per_dqn": ("prioritized",),
    "d3qn_per": ("double", "dueling", "prioritized"),
}
"""Every name of DQN, with the switches that the name promises."""


@dataclass
class DQNConfig(LearningConfig):
    """Settings of DQN and its improvements."""

    name: str = "dqn"
    num_envs: int = 1
    learning_rate: float = 1e-4
    max_grad_norm: float = 10.0
    double: bool = False
    """The online network chooses the next action, the target network judges it (van Hasselt et al. 2016)."""
    dueling: bool = False
    """Separate value and advantage streams (Wang et al. 2016)."""
    prioritized: bool = False
    """Sample the replay in proportion to the TD error (Schaul et al. 2016)."""
    n_step: int = 1
    """Rewards summed before the bootstrap."""
    adam_eps: float = 1e-8
    """Adam's denominator offset."""
    loss: str = "huber"
    """huber (linear beyond a TD error of 1: Mnih et al. 2015 clip it there) or squared."""
    batch_size: int = 32
    """Transitions an update."""
    train_every_steps: int = 4
    """Agent steps between rounds of updates."""
    updates_per_round: int = 1
    """Optimizer updates in a round."""
    target_period_updates: int = 1_000
    """Optimizer updates between copies of the online network into the target network."""
    learning_starts: int = 1_000
    """Agent steps taken at random before the first update."""
    replay_capacity: int = 100_000
    """Frames that the replay keeps, over all environments."""
    replay_device: str = "auto"
    """Where those frames lie: cpu, device (the run's), or auto: on a CUDA device with room for them, else cpu. It does
    not change what is sampled."""
    epsilon_start: float = 1.0
    """Share of random actions at the first step."""
    epsilon_end: float = 0.05
    """Share of random actions once the decay is over."""
    exploration_fraction: float = 0.1
    """Part of total_steps over which epsilon falls linearly."""
    priority_alpha: float = 0.6
    """Exponent of the priorities; 0 is uniform."""
    priority_beta_start: float = 0.4
    """Exponent of the importance weights at the first step; it rises linearly to 1 at the last."""

    action_kinds: ClassVar[tuple[str, ...]] = (DISCRETE,)

    def __post_init__(self) -> None:
        super().__post_init__()
        for switch in PRESETS.get(self.name, ()):
            if not getattr(self, switch):
                raise ConfigError(
                    f"{self.name} without {switch} is another algorithm", f"algo.{switch}", "use algo=dqn and switches"
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
        """The replay must be able to fill a batch."""
        needed = self.num_envs * (self.n_step + stack_num + 1) + self.batch_size
        if self.replay_capacity < needed:
            raise ConfigError(
                f"a replay of {self.replay_capacity} frames cannot fill batches of {self.batch_size}",
                "algo.replay_capacity",
                f"give at least {needed}",
            )

    def memory(self, frame_space: Any, stack_num: int, frames_on_device: bool) -> Memory | None:
        """The replay, without its frames where they lie on the device."""
        each = self._slot_bytes(frame_space) - frames_on_device * frame_bytes(frame_space)
        what = f"a replay of {self.replay_capacity:,} frames"
        return Memory(self.replay_capacity * each, what, "algo.replay_capacity", each)

    def checkpoint_every_steps(self, frame_space: Any, total_steps: int) -> int:
        """A fifth of total_steps, or less where a large replay would otherwise have changed too much.

        A signal must be answered within 10 s, and a save writes all that the replay got since the last checkpoint but
        one.
        """
        steps = super().checkpoint_every_steps(frame_space, total_steps)
        if self.replay_capacity * self._slot_bytes(frame_space) > _LARGE_REPLAY_BYTES:
            return min(steps, max(1, self.replay_capacity // 8))
        return steps

    def until_first_update(self) -> tuple["AlgorithmConfig", int]:
        """As many steps as fill a batch, and the next round of updates."""
        starts = self.batch_size + self.num_envs * (self.n_step + 1)
        return replace(self, learning_starts=starts), starts + self.train_every_steps + self.num_envs

    def _slot_bytes(self, frame_space: Any) -> int:
        return frame_bytes(frame_space) + _SLOT_BYTES + _TREE_BYTES * self.prioritized


@dataclass
class PQNConfig(LearningConfig):
    """Settings of parallel Q-learning."""

    name: str = "pqn"
    num_envs: int = 8
    learning_rate: float = 2.5e-4
    max_grad_norm: float = 10.0
    num_steps: int = 32
    """Agent steps of each environment in one rollout."""
    num_epochs: int = 2
    """Passes over a rollout."""
    batch_size: int = 128
    """Transitions in a minibatch; divides num_envs * num_steps."""
    q_lambda: float = 0.65
    """Weight of longer returns, [0, 1]: 0 looks one step ahead, 1 to the end of the rollout."""
    layer_norm: bool = True
    """Normalise the output of every layer, in place of a target network; false only to see what it does."""
    epsilon_start: float = 1.0
    """Share of random actions at the first step."""
    epsilon_end: float = 0.05
    """Share of random actions once the decay is over."""
    exploration_fraction: float = 0.1
    """Part of total_steps over which epsilon falls linearly."""

    action_kinds: ClassVar[tuple[str, ...]] = (DISCRETE,)
    supports_cuda_graphs: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("algo.q_lambda", self.q_lambda, 0, 1)
        in_range("algo.epsilon_start", self.epsilon_start, 0, 1)
        in_range("algo.epsilon_end", self.epsilon_end, 0, 1)
        in_range("algo.exploration_fraction", self.exploration_fraction, 0, 1, open_low=True)
        for key in ("num_steps", "num_epochs", "batch_size"):
            at_least(f"algo.{key}", getattr(self, key), 1)

    def check(self, frame_space: Any, action_space: Any, stack_num: int) -> None:
        """Minibatches must divide the rollout."""
        _check_minibatches(self.num_envs, self.num_steps, self.batch_size)


@dataclass
class ReinforceConfig(LearningConfig):
    """Settings of REINFORCE."""

    name: str = "reinforce"
    num_envs: int = 8
    learning_rate: float = 2e-3
    max_grad_norm: float = 0.5
    batch_size: int = 1000
    """Agent steps of a batch, at least: its episodes are whole."""
    baseline: bool = False
    """Learn a value of each state and subtract it from the return, which lowers the variance and not the mean."""
    optimizer: str = "adam"
    """rmsprop or adam."""
    optimizer_eps: float = 1e-8
    """The optimizer's denominator offset."""
    value_weight: float = 0.5
    """Weight of the baseline's loss (half the mean squared error)."""
    entropy_weight: float = 0.0
    """Weight of the entropy bonus."""
    normalize_advantage: bool = True
    """Shift and scale the factor of log pi to mean 0 and deviation 1 over each batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("algo.optimizer", self.optimizer, ("adam", "rmsprop"))
        at_least("algo.batch_size", self.batch_size, 1)
        at_least("algo.optimizer_eps", self.optimizer_eps, 1e-12)
        for key in ("value_weight", "entropy_weight"):
            at_least(f"algo.{key}", getattr(self, key), 0)


@dataclass
class ActorCriticConfig(LearningConfig):
    """Settings of an actor-critic that learns once from each rollout.

    A2C and A3C share them: the two differ in who collects, and in when the parameters change.
    """

    learning_rate: float = 7e-4
    max_grad_norm: float = 0.5
    num_steps: int = 5
    """Agent steps of each environment in one rollout."""
    gae_lambda: float = 1.0
    """Weight of longer advantage estimates, [0, 1]; 1 is the n-step return of Mnih et al. 2016."""
    optimizer: str = "rmsprop"
    """rmsprop or adam."""
    optimizer_eps: float = 1e-5
    """The optimizer's denominator offset."""
    value_weight: float = 0.5
    """Weight of the value loss (half the mean squared error)."""
    entropy_weight: float = 0.01
    """Weight of the entropy bonus."""
    normalize_advantage: bool = False
    """Shift and scale advantages to mean 0 and deviation 1 over each rollout."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("algo.num_steps", self.num_steps, 1)
        in_range("algo.gae_lambda", self.gae_lambda, 0, 1)
        one_of("algo.optimizer", self.optimizer, ("adam", "rmsprop"))
        at_least("algo.optimizer_eps", self.optimizer_eps, 1e-12)
        at_least("algo.value_weight", self.value_weight, 0)
        at_least("algo.entropy_weight", self.entropy_weight, 0)


@dataclass
class A2CConfig(ActorCriticConfig):
    """Settings of advantage actor-critic."""

    name: str = "a2c"
    num_envs: int = 16


@dataclass
class A3CConfig(ActorCriticConfig):
    """Settings of asynchronous advantage actor-critic; the workers share num_envs evenly."""

    name: str = "a3c"
    num_envs: int = 4
    num_steps: int = 20
    num_workers: int = 4
    """Processes that act and learn on the shared parameters, each on one thread and with its share of num_envs."""

    trains_on_gpu: ClassVar[bool] = False
    supports_cuda_graphs: ClassVar[bool] = False
    supports_compile: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("algo.num_workers", self.num_workers, 1)
        if self.num_envs % self.num_workers:
            raise ConfigError(
                f"{self.num_envs} environments cannot be shared evenly by {self.num_workers} workers",
                "num_envs, algo.num_workers",
                f"use num_envs={self.num_workers * max(1, round(self.num_envs / self.num_workers))}",
            )


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
    """Passes over a rollout."""
    batch_size: int = 256
    """Transitions in a minibatch; divides num_envs * num_steps."""
    gae_lambda: float = 0.95
    """Weight of longer advantage estimates, [0, 1]."""
    clip_range: float = 0.2
    """The probability ratio is clipped to 1 plus or minus this."""
    clip_range_end: float | None = None
    """Linear schedule of clip_range to this value at the last step; null: constant."""
    clip_value_range: float | None = None
    """Bound on how far a value may move from the one of the rollout; null: none. OpenAI's code has this bound;
    Andrychowicz et al. 2021 found no use in it."""
    adam_eps: float = 1e-5
    """Adam's denominator offset."""
    value_weight: float = 0.5
    """Weight of the value loss (half the mean squared error)."""
    entropy_weight: float = 0.01
    """Weight of the entropy bonus."""
    normalize_advantage: bool = True
    """Shift and scale advantages to mean 0 and deviation 1 over each minibatch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("algo.gae_lambda", self.gae_lambda, 0, 1)
        for key in ("num_steps", "num_epochs", "batch_size"):
            at_least(f"algo.{key}", getattr(self, key), 1)
        at_least("algo.clip_range", self.clip_range, 1e-9)
        for key in ("value_weight", "entropy_weight", "clip_range_end"):
            at_least(f"algo.{key}", getattr(self, key), 0)
        at_least("algo.clip_value_range", self.clip_value_range, 1e-9)

    def check(self, frame_space: Any, action_space: Any, stack_num: int) -> None:
        """Minibatches must divide the rollout."""
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
    "ppo": PPOConfig,
}
"""The schema of every algorithm, and of every preset of one."""


def base_name(name: str) -> str:
    """Return the name of the algorithm of which `name` is a preset: dqn for double_dqn; elsewhere the name itself."""
    schema: Any = ALGOS[name]
    return str(schema.name)


def _check_minibatches(num_envs: int, num_steps: int, batch_size: int) -> None:
    rollout = num_envs * num_steps
    if rollout % batch_size:
        divisors = [size for size in range(1, rollout + 1) if rollout % size == 0]
        fitting = min(divisors, key=lambda size: abs(size - batch_size))
        raise ConfigError(
            f"minibatches of {batch_size} do not divide a rollout of {num_envs} x {num_steps}",
            "batch_size",
            f"use batch_size={fitting}, or another algo.num_steps",
        )
