"""Distributions over actions against numbers worked by hand."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rltrain.nn import distributions

# Two choices at once: one of two with probabilities 1/4, 3/4; one of three with 1/2, 1/4, 1/4.
LOGITS = torch.log(torch.tensor([[1.0, 3.0, 2.0, 1.0, 1.0]]))


def test_several_choices_multiply_their_probabilities_and_add_their_entropies():
    both = distributions.of(spaces.MultiDiscrete([2, 3]))
    assert (both.num_outputs, both.action_shape) == (5, (2,))
    log_prob, entropy = both.log_prob_entropy(LOGITS.repeat(2, 1), torch.tensor([[1, 0], [0, 2]]))
    assert log_prob.exp().tolist() == pytest.approx([3 / 8, 1 / 16])
    of_two = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    of_three = 1.5 * math.log(2)
    assert entropy.tolist() == pytest.approx([of_two + of_three] * 2)
    assert both.mode(LOGITS).tolist() == [[1, 0]]


def test_several_choices_are_sampled_independently_each_by_its_own_probabilities():
    both = distributions.of(spaces.MultiDiscrete([2, 3]))
    drawn = both.sample(LOGITS.repeat(40_000, 1), np.random.default_rng(0))
    joint = np.zeros((2, 3))
    np.add.at(joint, tuple(drawn.numpy().T), 1 / len(drawn))
    wanted = np.outer([1 / 4, 3 / 4], [1 / 2, 1 / 4, 1 / 4])
    error = np.sqrt(wanted * (1 - wanted) / len(drawn))
    assert (np.abs(joint - wanted) < 4 * error).all()


def test_a_single_choice_among_several_is_the_plain_one():
    plain, single = distributions.of(spaces.Discrete(4)), distributions.of(spaces.MultiDiscrete([4]))
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    actions = [kind.sample(logits, np.random.default_rng(1)) for kind in (plain, single)]
    assert torch.equal(actions[0], actions[1][:, 0])
    assert torch.equal(plain.mode(logits), single.mode(logits)[:, 0])
    for left, right in zip(
        plain.log_prob_entropy(logits, actions[0]), single.log_prob_entropy(logits, actions[1]), strict=True
    ):
        assert torch.equal(left, right)


def test_densities_and_entropies_of_normal_distributions():
    space = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 10.0], np.float32))
    normal = distributions.of(space)
    outputs = torch.tensor([[0.5, -1.0, 0.0, math.log(2.0)]])  # means, then log deviations
    log_prob, entropy = normal.log_prob_entropy(outputs, torch.tensor([[1.5, 3.0]]))
    # One deviation above the first mean, two above the second: .24197 and .05399 / 2.
    assert log_prob.exp().item() == pytest.approx(0.2419707 * 0.0539910 / 2, rel=1e-5)
    # 1.4189385 is the entropy at deviation 1; twice the deviation adds log 2.
    assert entropy.item() == pytest.approx(2 * 1.4189385 + math.log(2), rel=1e-6)
    assert normal.mode(outputs).tolist() == [[0.5, -1.0]]
    drawn = normal.sample(outputs.repeat(40_000, 1), np.random.default_rng(0))
    assert drawn.mean(0).tolist() == pytest.approx([0.5, -1.0], abs=0.04)
    assert drawn.std(0).tolist() == pytest.approx([1.0, 2.0], rel=0.02)
    assert normal.for_env(np.array([[1.5, -3.0]], np.float32)).tolist() == [[1.0, 0.0]]
