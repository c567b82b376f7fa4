"""The tasks of paired benchmarks: the same work on both sides, and the steps of a block."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """One row of docs/performance.md."""

    peer: str
    """The file in this folder that runs the peer."""
    warm_up: int
    """Agent steps before the first block, enough for one update on both sides."""
    steps: int
    """Agent steps of a block, at least."""
    ours: tuple[str, ...]
    """rltrain's keys."""
    peer_args: tuple[str, ...] = ()
    """The peer's command-line arguments."""


PONG = ("env=pong", "network=nature_cnn")
ZOO_PPO = (
    "algo.num_envs=8", "algo.num_steps=32", "algo.batch_size=256", "algo.num_epochs=20", "algo.gae_lambda=0.8",
    "algo.gamma=0.98", "algo.entropy_weight=0", "algo.learning_rate=1e-3", "algo.learning_rate_end=0",
    "algo.clip_range=0.2", "algo.clip_range_end=0", "algo.max_grad_norm=0.5",
)  # fmt: skip

WORKS = {
    # All settings that define the work are given here, because a tuned file may use others.
    "ppo_pong": Work(
        "side_sb3.py",
        2048,
        2048,
        (
            "algo=ppo", *PONG, "total_steps=1e7", "algo.num_envs=8", "algo.num_steps=128", "algo.num_epochs=4",
            "algo.batch_size=256", "algo.learning_rate=2.5e-4", "algo.learning_rate_end=null", "algo.clip_range=0.1",
        ),
        ("ppo_pong",),
    ),
    "dqn_pong": Work(
        "side_sb3.py",
        1400,
        800,
        ("algo=dqn", *PONG, "total_steps=1e7", "algo.learning_starts=1000", "algo.replay_capacity=20000"),
        ("dqn_pong",),
    ),
    "a2c_pong": Work(
        "side_sb3.py",
        800,
        1600,
        (
            "algo=a2c", *PONG, "total_steps=1e7", "algo.num_envs=16", "algo.num_steps=5", "algo.optimizer=rmsprop",
            "algo.learning_rate=7e-4", "algo.value_weight=0.25", "algo.entropy_weight=0.01", "algo.reward_clip=1",
        ),
        ("a2c_pong",),
    ),
    "ppo_cartpole": Work(
        "side_sb3.py", 2048, 5120, ("algo=ppo", "env=cartpole", "total_steps=1e7", *ZOO_PPO), ("ppo_cartpole",)
    ),
    "dqn_cartpole": Work(
        "side_sb3.py", 2048, 2560, ("algo=dqn", "env=cartpole", "total_steps=1e7"), ("dqn_cartpole",)
    ),
    # CleanRL's settings, compared with the loops of plain.py, which stand in for CleanRL's scripts.
    "ppo_cartpole_cleanrl": Work(
        "plain.py",
        2048,
        4096,
        (
            "algo=ppo", "env=cartpole", "total_steps=1e7", "algo.num_envs=4", "algo.num_steps=128",
            "algo.num_epochs=4", "algo.batch_size=128", "algo.learning_rate=2.5e-4", "algo.learning_rate_end=0",
            "algo.clip_value_range=0.2", "algo.entropy_weight=0.01",
        ),
        ("ppo",),
    ),
    "dqn_cartpole_cleanrl": Work(
        "plain.py",
        2048,
        4096,
        (
            "algo=dqn", "env=cartpole", "total_steps=1e7", "network.hidden_sizes=[120,84]", "algo.learning_rate=2.5e-4",
            "algo.learning_rate_end=null", "algo.batch_size=128", "algo.replay_capacity=10000",
            "algo.learning_starts=1000", "algo.train_every_steps=10", "algo.updates_per_round=1",
            "algo.target_period_updates=50", "algo.exploration_fraction=0.5", "algo.epsilon_end=0.05",
            "algo.loss=squared",
        ),
        ("dqn",),
    ),
    "ppo_doom_basic": Work(
        "side_sample_factory.py",
        8192,
        4096,
        (
            "algo=ppo", "env=doom_basic", "network=nature_cnn", "total_steps=1e7", "env.height=84", "env.width=84",
            "algo.num_envs=32", "algo.num_steps=32", "algo.num_epochs=1", "algo.batch_size=1024",
        ),
    ),
}  # fmt: skip
