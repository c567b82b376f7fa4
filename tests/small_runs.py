"""Settings that make a run of any algorithm a matter of a second, for tests of what happens around learning."""

from rltrain.config.algorithms import ALGOS

QUICK = ["device=cpu", "progress=false", "eval_episodes=1", "final_eval_episodes=1"]
TABLE = ["algo=q_learning", "env=frozen_lake", "total_steps=400", "checkpoint_every_steps=150", "progress=false"]
"""A run of a table with several checkpoints."""
TABULAR = ("q_learning", "sarsa", "monte_carlo")
_DQN = [
    "algo.learning_starts=64",
    "algo.replay_capacity=300",
    "batch_size=16",
    "num_envs=3",
    "algo.train_every_steps=6",
]
_DQN += ["algo.updates_per_round=1", "algo.n_step=3", "algo.target_period_updates=7"]
_OF_SCHEMA = {
    "DQNConfig": _DQN,
    "PQNConfig": ["num_envs=4", "algo.num_steps=16", "batch_size=32"],
    "ReinforceConfig": ["num_envs=3", "batch_size=60", "algo.baseline=true"],
    "A2CConfig": ["num_envs=3"],
    "A3CConfig": ["num_envs=2", "algo.num_workers=2"],
    "IMPALAConfig": ["num_envs=3", "algo.num_steps=5"],
    "PPOConfig": ["num_envs=4", "algo.num_steps=16", "batch_size=32"],
}


def small(algo: str, env: str) -> list[str]:
    """Arguments of a quick run of `algo` on `env`; total_steps is left to the test."""
    args = [f"algo={algo}", f"env={env}", *QUICK]
    if algo not in TABULAR:
        args += ["network.hidden_sizes=[16]", *_OF_SCHEMA[ALGOS[algo].__name__]]
    return args
