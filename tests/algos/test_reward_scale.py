"""Rewards divided by the deviation of returns, against numbers worked by hand, and in a run that is resumed."""

import numpy as np
import pytest
import torch

from rltrain.algos.parts.reward_scale import RewardScale


def test_the_deviation_is_that_of_all_returns_since_the_beginning():
    """Bugs: returns that run on across an episode's end, or begin anew with each rollout; a variance without its mean;
    moments of two rollouts that are not merged."""
    scale = RewardScale(num_envs=2, gamma=0.5)
    # Environment 0: G = 1, 2 + .5 = 2.5 (the episode ends), 4. Environment 1: 0, 0, 8.
    first = scale(
        torch.tensor([[1.0, 0.0], [2.0, 0.0], [4.0, 8.0]]), torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    )
    seen = [1, 2.5, 4, 0, 0, 8]
    assert first[2].tolist() == pytest.approx([4 / np.std(seen), 8 / np.std(seen)])
    # They go on: G = 1 + .5 * 4 = 3, and -1 + .5 * 8 = 3.
    second = scale(torch.tensor([[1.0, -1.0]]), torch.ones(1, 2))
    assert second.tolist() == [pytest.approx([1 / np.std([*seen, 3, 3]), -1 / np.std([*seen, 3, 3])])]
    assert second.dtype == torch.float32


def test_without_any_reward_nothing_is_divided_by_zero():
    assert RewardScale(2, 0.99)(torch.zeros(3, 2), torch.ones(3, 2)).tolist() == [[0, 0]] * 3


def test_a_large_mean_costs_no_digits():
    """Bug: the variance as the difference of two large sums."""
    scale = RewardScale(1, 0.0)
    for _ in range(100):
        scaled = scale(torch.tensor([[1e6], [1e6 + 2]]), torch.ones(2, 1))
    assert (scaled[1] - scaled[0]).item() == pytest.approx(2, rel=0.05)  # two float32 of a million


def test_a_resumed_run_goes_on_with_the_same_scale():
    """Bug: a checkpoint without the unfinished returns."""
    whole, resumed = RewardScale(2, 0.9), RewardScale(2, 0.9)
    reward = torch.rand(6, 2, generator=torch.Generator().manual_seed(0))
    whole(reward[:3], torch.ones(3, 2))
    resumed.load_state_dict(whole.state_dict())
    assert torch.equal(whole(reward[3:], torch.ones(3, 2)), resumed(reward[3:], torch.ones(3, 2)))
    with pytest.raises(ValueError, match="a saved array is"):
        RewardScale(3, 0.9).load_state_dict(whole.state_dict())
