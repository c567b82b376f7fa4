"""The runs of `golden.py`.

All settings of an algorithm, its network and its run are on the command line. So a golden run does not depend on
defaults or on tuned files in `configs/hparams`. Settings of environments are given if a default or a tuned file is
likely to change.
"""

from dataclasses import dataclass
from typing import Any

Settings = dict[str, Any]

RUN: Settings = {
    "seed": 1,
    "device": "cpu",
    "precision": "fp32",
    "total_steps": 1000,
    "micro_batch_size": None,
    "oom": "fail",
    "log_every_steps": 100,
    "eval_every_steps": 500,
    "eval_episodes": 2,
    "final_eval_episodes": 2,
    "eval_greedy": True,
    "checkpoint_every_steps": 0,
    "checkpoint_keep_every_steps": None,
    "progress": False,
    "batch_size": None,
}

_TABULAR: Settings = {
    "network": "table",
    "network.hidden_sizes": [8],
    "network.activation": "tanh",
    "num_envs": 1,
    "batch_size": 1,
    "algo.learning_rate": 0.1,
    "algo.learning_rate_end": None,
    "algo.gamma": 0.99,
    "algo.epsilon_schedule": "linear",
    "algo.epsilon_start": 1.0,
    "algo.epsilon_end": 0.05,
    "algo.exploration_fraction": 0.5,
    "algo.epsilon_decay": 0.01,
    "algo.show_steps": 0,
}
_LEARNING: Settings = {
    "network": "mlp",
    "network.hidden_sizes": [32, 32],
    "network.activation": "tanh",
    "num_envs": 4,
    "algo.learning_rate": 1e-3,
    "algo.learning_rate_end": None,
    "algo.max_grad_norm": 0.5,
    "algo.gamma": 0.99,
    "algo.reward_scale": 1.0,
    "algo.reward_clip": None,
}
_DQN: Settings = _LEARNING | {
    "num_envs": 1,
    "batch_size": 16,
    "algo.max_grad_norm": 10.0,
    "algo.double": False,
    "algo.dueling": False,
    "algo.prioritized": False,
    "algo.n_step": 1,
    "algo.adam_eps": 1e-8,
    "algo.loss": "huber",
    "algo.train_every_steps": 4,
    "algo.updates_per_round": 1,
    "algo.target_period_updates": 50,
    "algo.learning_starts": 100,
    "algo.replay_capacity": 600,
    "algo.replay_device": "auto",
    "algo.epsilon_start": 1.0,
    "algo.epsilon_end": 0.05,
    "algo.exploration_fraction": 0.5,
    "algo.priority_alpha": 0.6,
    "algo.priority_beta_start": 0.4,
}
_ACTOR_CRITIC: Settings = _LEARNING | {
    "algo.num_steps": 5,
    "algo.gae_lambda": 1.0,
    "algo.optimizer": "rmsprop",
    "algo.optimizer_eps": 1e-5,
    "algo.value_weight": 0.5,
    "algo.entropy_weight": 0.01,
    "algo.normalize_advantage": False,
}

ALGOS: dict[str, Settings] = {
    "q_learning": _TABULAR,
    "sarsa": _TABULAR,
    "monte_carlo": _TABULAR | {"algo.first_visit": True},
    "dqn": _DQN,
    "double_dqn": _DQN | {"algo.double": True},
    "dueling_dqn": _DQN | {"algo.dueling": True},
    "per_dqn": _DQN | {"algo.prioritized": True},
    "d3qn_per": _DQN | {"algo.double": True, "algo.dueling": True, "algo.prioritized": True},
    "pqn": _LEARNING
    | {
        "batch_size": 32,
        "algo.num_steps": 16,
        "algo.num_epochs": 2,
        "algo.q_lambda": 0.65,
        "algo.layer_norm": True,
        "algo.epsilon_start": 1.0,
        "algo.epsilon_end": 0.05,
        "algo.exploration_fraction": 0.5,
    },
    "reinforce": _LEARNING
    | {
        "batch_size": 100,
        "algo.baseline": False,
        "algo.optimizer": "adam",
        "algo.optimizer_eps": 1e-8,
        "algo.value_weight": 0.5,
        "algo.entropy_weight": 0.0,
        "algo.normalize_advantage": True,
    },
    "a2c": _ACTOR_CRITIC,
    "a3c": _ACTOR_CRITIC | {"num_envs": 2, "algo.num_steps": 20, "algo.num_workers": 1},
    "impala": _LEARNING
    | {
        "algo.num_steps": 10,
        "algo.policy_lag": 2,
        "algo.rho_clip": 1.0,
        "algo.c_clip": 1.0,
        "algo.vtrace_lambda": 1.0,
        "algo.optimizer": "rmsprop",
        "algo.optimizer_eps": 1e-5,
        "algo.value_weight": 0.5,
        "algo.entropy_weight": 0.01,
    },
    "ppo": _LEARNING
    | {
        "batch_size": 32,
        "algo.num_steps": 32,
        "algo.num_epochs": 2,
        "algo.gae_lambda": 0.95,
        "algo.clip_range": 0.2,
        "algo.clip_range_end": None,
        "algo.clip_value_range": None,
        "algo.adam_eps": 1e-5,
        "algo.value_weight": 0.5,
        "algo.entropy_weight": 0.01,
        "algo.entropy_weight_end": None,
        "algo.normalize_advantage": True,
        "algo.normalize_reward": False,
    },
}

_GYM: Settings = {"env.stack_num": 1, "env.workers": 0}
_PIXELS: Settings = {"network": "small_cnn", "log_every_steps": 50, "eval_every_steps": 200, "eval_episodes": 1}
_DOOM: Settings = _PIXELS | {
    "total_steps": 400,
    "env.frame_skip": 4,
    "env.height": 60,
    "env.width": 80,
    "env.stack_num": 4,
    "env.gray": True,
    "env.action_set": "single",
    "env.noop": False,
    "env.render_resolution": "RES_160X120",
    "env.game_variables": [],
}
_ATARI: Settings = _PIXELS | {
    "total_steps": 400,
    "env.frame_skip": 4,
    "env.stack_num": 4,
    "env.size": 84,
    "env.sticky_actions": 0.0,
    "env.noop_max": 30,
    "env.fire_reset": True,
    "env.terminal_on_life_loss": False,
    "env.full_action_space": False,
    "env.max_episode_frames": 320,
}

ENVS: dict[str, Settings] = {
    "frozen_lake": _GYM | {"env.max_episode_steps": 100},
    "taxi": _GYM | {"env.max_episode_steps": 200},
    "maze": _GYM | {"env.max_episode_steps": 100},
    "cliff_walking": _GYM | {"env.max_episode_steps": 200},
    "cartpole": _GYM | {"env.max_episode_steps": 500},
    "pendulum": _GYM | {"env.max_episode_steps": 200},
    "mountain_car_continuous": _GYM | {"env.max_episode_steps": 200},
    "choices": _GYM | {"env": "gym", "env.id": "golden_envs:Choices-v0"},
    "doom_basic": _DOOM,
    "pong": _ATARI,
    "airstriker": _PIXELS
    | {"total_steps": 300, "env.frame_skip": 4, "env.stack_num": 4, "env.max_episode_frames": 320},
}


@dataclass(frozen=True)
class GoldenRun:
    """A training. With `resume_steps` it is then resumed and trained up to that step."""

    name: str
    settings: Settings
    quick: bool = False
    resume_steps: int | None = None

    def arguments(self) -> list[str]:
        """Return the command line of the training, without `run_dir`."""
        return [f"{key}={_text(value)}" for key, value in self.settings.items()]


def _text(value: Any) -> str:
    """Return a value as text for Hydra."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{_text(item)}' for key, item in value.items())}}}"
    return str(value)


def _run(
    algo: str, env: str, what: str = "", *, quick: bool = False, resume_steps: int | None = None, **changes: Any
) -> GoldenRun:
    """Return a run of `algo` on `env`. A double underscore in the name of a change stands for a dot."""
    settings = RUN | {"algo": algo, "env": env} | ALGOS[algo] | ENVS[env]
    settings |= {key.replace("__", "."): value for key, value in changes.items()}
    return GoldenRun("-".join(filter(None, (algo, env, what))), settings, quick, resume_steps)


RUNS: list[GoldenRun] = [
    # Tables.
    _run("q_learning", "taxi", quick=True),
    _run("q_learning", "maze", "schedules", algo__learning_rate_end=0.01, algo__epsilon_schedule="exponential"),
    _run("q_learning", "frozen_lake", "resumed", total_steps=600, resume_steps=1200),
    _run("sarsa", "cliff_walking", quick=True),
    _run("sarsa", "frozen_lake", "schedules", algo__learning_rate_end=0.0, algo__gamma=0.9),
    _run("sarsa", "maze"),
    _run("monte_carlo", "frozen_lake", quick=True),
    _run("monte_carlo", "taxi", "every_visit", algo__first_visit=False),
    _run("monte_carlo", "maze", "resumed", total_steps=600, resume_steps=1200),
    # DQN and its presets.
    _run("dqn", "cartpole", quick=True),
    _run("dqn", "frozen_lake", total_steps=600),
    _run("dqn", "cartpole", "micro_batch", total_steps=600, micro_batch_size=5, network__activation="relu"),
    _run(
        *("dqn", "cartpole", "n_step_3"),
        num_envs=4,
        algo__n_step=3,
        algo__loss="squared",
        algo__learning_rate_end=1e-5,
        algo__reward_scale=0.1,
        algo__updates_per_round=2,
    ),
    _run("dqn", "cartpole", "resumed", total_steps=600, resume_steps=1200),
    _run("dqn", "doom_basic", num_envs=4),
    _run("dqn", "doom_basic", "course_cnn", network="course_cnn", algo__reward_scale=0.01, algo__n_step=3),
    _run("dqn", "pong", network="nature_cnn", total_steps=300),
    _run("dqn", "pong", "bf16", precision="bf16", algo__reward_clip=1.0, num_envs=2),
    _run("dqn", "pong", "impala_cnn", network="impala_cnn", total_steps=200, batch_size=8, algo__train_every_steps=10),
    _run("double_dqn", "cartpole", quick=True),
    _run("double_dqn", "taxi", total_steps=600),
    _run("double_dqn", "pong", micro_batch_size=6),
    _run("dueling_dqn", "cartpole", quick=True, network__activation="relu"),
    _run("dueling_dqn", "maze", total_steps=600),
    _run("dueling_dqn", "doom_basic"),
    _run("per_dqn", "cartpole", quick=True),
    _run("per_dqn", "cartpole", "4_envs", num_envs=4, algo__n_step=3, algo__priority_alpha=0.4),
    _run("per_dqn", "doom_basic", num_envs=4, algo__n_step=3),
    _run("d3qn_per", "cartpole", quick=True, algo__n_step=3),
    _run("d3qn_per", "cartpole", "resumed", total_steps=600, resume_steps=1200, num_envs=2),
    _run("d3qn_per", "pong", network="nature_cnn", total_steps=300, num_envs=2, micro_batch_size=6),
    _run("d3qn_per", "doom_basic", "game_variables", env__game_variables=["HEALTH", "AMMO2"]),
    # PQN.
    _run("pqn", "cartpole", quick=True),
    _run("pqn", "taxi", total_steps=600),
    _run(
        "pqn", "cartpole", "micro_batch", micro_batch_size=12, network__activation="relu", algo__learning_rate_end=0.0
    ),
    _run("pqn", "cartpole", "no_layer_norm", algo__layer_norm=False, algo__q_lambda=0.9, num_envs=2),
    _run("pqn", "cartpole", "resumed", total_steps=640, resume_steps=1280),
    _run("pqn", "doom_basic", algo__reward_scale=0.01),
    _run("pqn", "pong", network="nature_cnn", algo__reward_clip=1.0),
    _run("pqn", "pong", "bf16", precision="bf16"),
    # REINFORCE, without and with a baseline.
    _run("reinforce", "cartpole", quick=True),
    _run("reinforce", "cartpole", "baseline", quick=True, algo__baseline=True, algo__optimizer="rmsprop"),
    _run("reinforce", "frozen_lake", "baseline", algo__baseline=True, algo__entropy_weight=0.01),
    _run("reinforce", "pendulum", algo__normalize_advantage=False, algo__reward_scale=0.01, num_envs=1),
    _run("reinforce", "cartpole", "micro_batch", micro_batch_size=30, algo__baseline=True),
    _run("reinforce", "cartpole", "resumed", total_steps=600, resume_steps=1200),
    _run("reinforce", "doom_basic", "baseline", algo__baseline=True, algo__reward_scale=0.01),
    _run("reinforce", "pong", num_envs=2),
    # A2C and A3C.
    _run("a2c", "cartpole", quick=True),
    _run(
        *("a2c", "taxi", "adam"),
        algo__optimizer="adam",
        algo__gae_lambda=0.9,
        algo__normalize_advantage=True,
        algo__learning_rate_end=0.0,
    ),
    _run("a2c", "pendulum", num_envs=1, network__activation="relu", algo__reward_scale=0.01),
    _run("a2c", "cartpole", "micro_batch", micro_batch_size=7),
    _run("a2c", "cartpole", "resumed", total_steps=600, resume_steps=1200),
    _run("a2c", "choices", total_steps=600),
    _run("a2c", "doom_basic", algo__reward_scale=0.01),
    _run("a2c", "pong", network="nature_cnn", algo__reward_clip=1.0),
    _run("a3c", "cartpole", quick=True),
    _run("a3c", "pendulum", "adam", algo__optimizer="adam", algo__normalize_advantage=True, algo__gae_lambda=0.9),
    _run("a3c", "taxi", algo__learning_rate_end=0.0),
    _run("a3c", "doom_basic", algo__reward_scale=0.01),
    # IMPALA.
    _run("impala", "cartpole", quick=True),
    _run("impala", "cartpole", "micro_batch", micro_batch_size=3, algo__rho_clip=1.2, algo__vtrace_lambda=0.9),
    _run("impala", "cartpole", "resumed", total_steps=600, resume_steps=1200),
    _run("impala", "pendulum", "adam", algo__optimizer="adam", algo__reward_scale=0.01, algo__learning_rate_end=0.0),
    _run("impala", "doom_basic", algo__reward_scale=0.01),
    _run("impala", "pong", algo__reward_clip=1.0, algo__policy_lag=4),
    # PPO.
    _run("ppo", "cartpole", quick=True, total_steps=1024),
    _run(
        *("ppo", "cartpole", "schedules"),
        total_steps=1024,
        algo__learning_rate_end=0.0,
        algo__clip_range_end=0.01,
        algo__clip_value_range=0.2,
        algo__gae_lambda=0.8,
        network__activation="relu",
    ),
    _run("ppo", "cartpole", "1_env", num_envs=1, total_steps=512, algo__reward_scale=0.1),
    _run("ppo", "cartpole", "micro_batch", total_steps=512, micro_batch_size=12),
    _run("ppo", "cartpole", "workers", total_steps=512, env__workers=2),
    _run("ppo", "cartpole", "resumed", quick=True, total_steps=640, resume_steps=1280),
    _run("ppo", "frozen_lake", total_steps=1024),
    _run("ppo", "pendulum", total_steps=1024, algo__normalize_advantage=False, algo__clip_value_range=0.2),
    _run("ppo", "mountain_car_continuous", total_steps=1024, env__stack_num=2),
    _run("ppo", "choices", total_steps=1024),
    _run("ppo", "doom_basic", quick=True, total_steps=384, algo__reward_scale=0.01),
    _run(
        *("ppo", "doom_basic", "game_variables"),
        total_steps=384,
        network="course_cnn",
        algo__reward_scale=0.01,
        env__game_variables=["HEALTH", "AMMO2"],
        env__shaping={"AMMO2_LOST": -0.5},
        env__action_set="combinations",
    ),
    _run("ppo", "doom_basic", "resumed", num_envs=2, total_steps=128, resume_steps=256),
    _run("ppo", "pong", network="nature_cnn", total_steps=384, algo__reward_clip=1.0),
    _run("ppo", "pong", "bf16", precision="bf16", total_steps=384, algo__clip_value_range=0.2),
    _run("ppo", "pong", "micro_batch", num_envs=2, micro_batch_size=12, total_steps=256),
    _run("ppo", "pong", "impala_cnn", network="impala_cnn", num_envs=2, total_steps=192, algo__num_epochs=1),
    _run("ppo", "pong", "resumed", num_envs=2, total_steps=128, resume_steps=256),
    _run("ppo", "airstriker", "buttons", num_envs=2, total_steps=192, env__action_set="buttons", env__actions=[]),
]
"""The golden runs. The `quick` ones show within two minutes if a change affects an algorithm at all."""
