"""Pong begins to be learned, and Airstriker is played better than at random."""

import pytest

pytestmark = [pytest.mark.learns, pytest.mark.slow]

RANDOM_AIRSTRIKER = 199.8
"""Upper end of the 95% interval of the random policy's mean return (docs/results.md)."""


def test_ppo_begins_to_play_pong(final):
    """Half of the tuned length, so with a step size that does not fall to 0 at its end."""
    assert final("algo=ppo", "env=pong", "total_steps=300000", "algo.learning_rate_end=null") > -19.5


@pytest.mark.parametrize(("algo", "steps"), [("a2c", 150_000), ("ppo", 60_000)])
def test_airstriker_is_played_better_than_at_random(algo, steps, final):
    assert final(f"algo={algo}", "env=airstriker", f"total_steps={steps}") > RANDOM_AIRSTRIKER
