"""The root schema, the table of algorithms, and every check that needs more than one field.

Hydra is not imported here: a resumed or evaluated run builds the same dataclasses from its own file (saved_config.py).
"""

import dataclasses
import importlib
import re
import types
from dataclasses import dataclass, field
from typing import Any

from rltrain import memory_needs, network_config
from rltrain.algos.a2c_config import A2CConfig
from rltrain.algos.a3c_config import A3CConfig
from rltrain.algos.dqn_config import PRESETS, DQNConfig
from rltrain.algos.monte_carlo_config import MonteCarloConfig
from rltrain.algos.ppo_config import PPOConfig
from rltrain.algos.pqn_config import PQNConfig
from rltrain.algos.q_learning_config import QLearningConfig
from rltrain.algos.reinforce_config import ReinforceConfig
from rltrain.algos.sarsa_config import SarsaConfig
from rltrain.envs import registry
from rltrain.envs.spaces import pixel_shape
from rltrain.errors import ConfigError
from rltrain.network_config import NetworkConfig
from rltrain.tabular_config import TabularConfig
from rltrain.validate import at_least, in_range, one_of

ALGOS: dict[str, Any] = {
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
"""The schema of every algorithm, and of every preset of one; `<algorithm>.py` stands beside `<algorithm>_config.py`."""

SEVERAL_ACTIONS = {"reinforce", "a2c", "a3c", "ppo"}
"""The algorithms that can choose several things at once (MultiDiscrete)."""


@dataclass
class RunConfig:
    """Everything that defines a run. `algo`, `env` and `network` hold the schema of the chosen option."""

    algo: Any = None
    env: Any = None
    network: NetworkConfig = field(default_factory=NetworkConfig)
    seed: int = 0
    """Source of every random number."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: str = "auto"
    """fp32, bf16 (torsos only; heads stay fp32), tf32 (fp32 of which CUDA multiplies 10 bits of the fraction), or auto:
    bf16 for convolutions where that is the quicker one, else fp32."""
    cuda_graphs: str = "auto"
    """Record the kernels of acting and of updates once and launch them together: true, false, or auto: on CUDA."""
    compile: bool = False
    """Let torch.compile make kernels of the network for its updates: half a minute or more at the start, then quicker
    updates; the metric time/compile_s says how long."""
    total_steps: int = 100_000
    """Agent decisions, over all environments."""
    num_envs: int | None = None
    """null: the algorithm's tuned value."""
    batch_size: int | None = None
    """null: the algorithm's tuned value."""
    micro_batch_size: int | None = None
    """Samples whose gradients are computed at once and then added up to the batch's: the same mathematics in less
    memory. null: whole batches."""
    oom: str = "fail"
    """Where an update runs out of memory: `fail` ends the run with code 6 and the micro_batch_size that fits; `split`
    takes it from then on and repeats the update."""
    log_every_s: float = 2.0
    """Seconds between refreshes of the progress line."""
    log_every_steps: int | None = None
    """Agent steps between lines of metrics.jsonl; null: a hundredth of total_steps. In steps, so that the same seed
    gives the same lines."""
    eval_every_steps: int | None = None
    """Agent steps between evaluations; null: a tenth of total_steps; 0: never."""
    eval_episodes: int = 10
    """Episodes of an evaluation during training."""
    final_eval_episodes: int = 20
    """Episodes of the evaluation after the last step."""
    eval_greedy: bool = True
    """Evaluate the likeliest action; false: sample as in training."""
    checkpoint_every_steps: int | None = None
    """Agent steps between checkpoints; null: a fifth of total_steps, and at most an eighth of a replay of more than
    1 GB; 0: only at the end."""
    checkpoint_keep_every_steps: int | None = None
    """Agent steps between checkpoints that stay for good, beside the newest two and the best; null: none."""
    run_dir: str = "runs"
    """Folder that holds the run folders."""
    name: str | None = None
    """Appended to the run folder's name."""
    plugins: list[str] = field(default_factory=list)
    """Modules of yours that register algorithms, environments or networks: see rltrain/plugins.py. They are imported
    because of the command line alone, so `resume`, `eval` and the others want them named again."""
    dry_run: bool = False
    """Build everything, do one update in a temporary folder, print shapes and sizes."""
    progress: bool = True
    """Show the panel and the progress line."""

    def __post_init__(self) -> None:
        in_range("seed", self.seed, 0, 2**63 - 1)
        if not self.run_dir:
            raise ConfigError("the folder of the runs has no name", "run_dir", "leave it out, or give run_dir=DIR")
        one_of("oom", self.oom, ("fail", "split"))
        one_of("precision", self.precision, ("auto", "fp32", "tf32", "bf16"))
        self.cuda_graphs = self.cuda_graphs.lower()  # Hydra makes a truth value of `true` and text of that
        one_of("cuda_graphs", self.cuda_graphs, ("auto", "true", "false"))
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise ConfigError(f"unknown device '{self.device}'", "device", "use auto, cpu, cuda, cuda:1 or mps")
        at_least("total_steps", self.total_steps, 1)
        at_least("num_envs", self.num_envs, 1)
        at_least("batch_size", self.batch_size, 1)
        at_least("micro_batch_size", self.micro_batch_size, 1)
        at_least("log_every_s", self.log_every_s, 0.05)
        at_least("log_every_steps", self.log_every_steps, 1)
        at_least("eval_every_steps", self.eval_every_steps, 0)
        at_least("eval_episodes", self.eval_episodes, 1)
        at_least("final_eval_episodes", self.final_eval_episodes, 1)
        at_least("checkpoint_every_steps", self.checkpoint_every_steps, 0)
        at_least("checkpoint_keep_every_steps", self.checkpoint_keep_every_steps, 1)
        if self.name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", self.name):
            raise ConfigError(f"'{self.name}' cannot be part of a folder name", "name", "use letters, digits, . _ -")


def algo_module(name: str) -> types.ModuleType:
    """The module of an algorithm, imported only now because it brings torch or numba."""
    return importlib.import_module(ALGOS[name].__module__.removesuffix("_config"))


def resolve(config: RunConfig) -> RunConfig:
    """Fill in what null stands for and check every combination. Raises ConfigError or EnvironmentFailure."""
    _check_names(config)
    config = dataclasses.replace(config, env=dataclasses.replace(config.env, name=registry.folder_name(config.env)))
    algo = dataclasses.asdict(config.algo)
    for key in ("num_envs", "batch_size"):
        if getattr(config, key) is not None:
            if key not in algo:
                raise ConfigError(
                    f"{algo['name']} has no batch_size: it learns from a whole rollout at once",
                    key,
                    "use algo.num_steps and num_envs, or micro_batch_size for less memory",
                )
            algo[key] = getattr(config, key)
    algo = type(config.algo)(**algo)
    if algo.name == "a3c" and config.device not in ("auto", "cpu"):
        raise ConfigError("a3c learns on the processor's cores alone", "device", "use device=cpu, or algo=a2c")
    if algo.name == "a3c" or (isinstance(algo, TabularConfig) and config.device == "auto"):
        config = dataclasses.replace(config, device="cpu")
    frame_space, action_space = registry.spaces(config.env)
    if config.network.name == "auto":
        shape = pixel_shape(frame_space)
        name = "table" if isinstance(algo, TabularConfig) else network_config.choose(shape, config.device)
        config = dataclasses.replace(config, network=dataclasses.replace(config.network, name=name))
    _check_fits(config, frame_space, action_space)
    steps = config.total_steps
    resolved = dataclasses.replace(
        config,
        algo=algo,
        num_envs=algo.num_envs,
        batch_size=getattr(algo, "batch_size", None),
        log_every_steps=config.log_every_steps or max(1, steps // 100),
        eval_every_steps=max(1, steps // 10) if config.eval_every_steps is None else config.eval_every_steps,
        checkpoint_every_steps=memory_needs.checkpoint_every_steps(config, frame_space)
        if config.checkpoint_every_steps is None
        else config.checkpoint_every_steps,
    )
    _check_sizes(resolved)
    memory_needs.check(resolved, frame_space)
    check_device(resolved)
    return resolved


def check_device(config: RunConfig) -> None:
    """Raise ConfigError where the device is not there, or cannot do what is asked of it.

    Only where something is asked, as this imports torch.
    """
    wants_cuda = {"cuda_graphs": config.cuda_graphs == "true", "precision": config.precision == "tf32"}
    if config.device in ("auto", "cpu") and not config.compile and not any(wants_cuda.values()):
        return
    from rltrain.device import resolve_device

    device = resolve_device(config.device)
    for key, wanted in wants_cuda.items():
        if wanted and device.type != "cuda":
            raise ConfigError(f"{key}={getattr(config, key)} needs a CUDA device", f"{key}, device", f"use {key}=auto")
    unrecorded = isinstance(config.algo, TabularConfig) or config.algo.name in ("a3c", "pqn")
    if config.cuda_graphs == "true" and unrecorded:
        raise ConfigError(f"nothing of {config.algo.name} is recorded", "cuda_graphs", "use cuda_graphs=auto")
    if config.compile:
        if isinstance(config.algo, TabularConfig) or config.algo.name == "a3c":
            raise ConfigError(f"{config.algo.name} has nothing that is compiled", "compile", "use compile=false")
        from rltrain.compilation import require_compiler

        require_compiler(device)


def _check_names(config: RunConfig) -> None:
    """`algo.name=ppo` would run one algorithm with the settings of another: a choice is made by its group."""
    algo, env = config.algo, config.env
    if ALGOS.get(algo.name) is not type(algo):
        raise ConfigError(f"these settings are not those of '{algo.name}'", "algo.name", "choose with algo=...")
    family = registry.FAMILIES.get(env.family)
    if family is None or family.config is not type(env):
        raise ConfigError(f"these settings are not those of '{env.family}'", "env.family", "choose with env=...")


def _check_fits(config: RunConfig, frame_space: Any, action_space: Any) -> None:
    """Algorithm and network against the observation and action spaces."""
    algo, env, network = config.algo.name, config.env.name, config.network.name
    pixels = len(frame_space.shape or ()) == 3
    discrete_states = hasattr(frame_space, "n")
    tabular = isinstance(config.algo, TabularConfig)
    in_range("env.stack_num", config.env.stack_num, 1, 1 if discrete_states else 255)
    if tabular and not discrete_states:
        seen = "pixels" if pixels else "continuous observations"
        raise ConfigError(
            f"{algo} needs states that can be counted, and {env} has {seen}",
            "algo, env",
            "use algo=dqn, or env=taxi",
        )
    if hasattr(action_space, "nvec") and algo not in SEVERAL_ACTIONS:
        what = f"{algo} needs one discrete action, and those of {env} are several at once"
        raise ConfigError(what, "algo, env", "use algo=ppo, or an environment with one")
    if isinstance(config.algo, TabularConfig | DQNConfig | PQNConfig) and not hasattr(action_space, "n"):
        raise ConfigError(
            f"{algo} needs discrete actions, and those of {env} are continuous", "algo, env", "use algo=ppo"
        )
    network_config.check_fits(network, pixel_shape(frame_space), env)
    if network == "table" and not tabular:
        raise ConfigError(f"{algo} needs a network", "network", "use network=auto")
    if tabular and network != "table":
        raise ConfigError(f"{algo} keeps a table, not a network", "network", "use network=auto")


def _check_sizes(config: RunConfig) -> None:
    """Batch against replay, minibatch against rollout."""
    algo = config.algo
    if isinstance(algo, DQNConfig):
        needed = algo.num_envs * (algo.n_step + config.env.stack_num + 1) + algo.batch_size
        if algo.replay_capacity < needed:
            raise ConfigError(
                f"a replay of {algo.replay_capacity} frames cannot fill batches of {algo.batch_size}",
                "algo.replay_capacity",
                f"give at least {needed}",
            )
    if isinstance(algo, PPOConfig | PQNConfig):
        rollout = algo.num_envs * algo.num_steps
        if rollout % algo.batch_size:
            divisors = [size for size in range(1, rollout + 1) if rollout % size == 0]
            fitting = min(divisors, key=lambda size: abs(size - algo.batch_size))
            raise ConfigError(
                f"minibatches of {algo.batch_size} do not divide a rollout of {algo.num_envs} x {algo.num_steps}",
                "batch_size",
                f"use batch_size={fitting}, or another algo.num_steps",
            )
