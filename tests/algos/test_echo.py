"""Every policy gradient on every kind of action: each learns to do what it sees within a few thousand steps."""

import pytest

from rltrain.run.evaluation import play_episodes

QUICK = {
    "reinforce": {"batch_size": 80, "num_envs": 4, "gamma": 0.0, "learning_rate": 1e-2},
    "a2c": {"num_envs": 8, "num_steps": 8, "gamma": 0.0, "optimizer": "adam", "learning_rate": 1e-2},
    "impala": {"num_envs": 8, "num_steps": 8, "gamma": 0.0, "optimizer": "adam", "learning_rate": 1e-2},
    "ppo": {"num_envs": 8, "num_steps": 16, "batch_size": 64, "gamma": 0.0, "learning_rate": 1e-2},
}


@pytest.mark.parametrize("algo", QUICK)
@pytest.mark.parametrize(("continuous", "learned"), [(False, 18.5), (True, 16.5)])
def test_doing_what_is_seen_is_learned(continuous, learned, algo, config, watched):
    run_config = config(
        algo, env="echo:Echo-v0", kwargs={"continuous": continuous}, steps=5000, entropy_weight=0.0, **QUICK[algo]
    )
    _, agent = watched(run_config)
    greedy, sampled = (play_episodes(run_config, agent, 8, 0, greedy)["mean_reward"] for greedy in (True, False))
    # Of 20: choices by chance earn 10, and always the middle, the best without looking, earns 13.3.
    assert greedy >= learned
    assert sampled < greedy, "sampling explores, which costs"
