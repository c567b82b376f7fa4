"""Log-probabilities, entropies and their gradients, which are written out by hand."""

import math

import pytest
import torch

from rltrain.math.policies import categorical_log_prob_entropy


def test_numbers_worked_by_hand():
    """Logits 0 and ln 3 are probabilities 1/4 and 3/4: d l_1 = (-1/4, 1/4), d H = -p (l + H)."""
    logits = torch.tensor([[0.0, math.log(3)]], dtype=torch.float64, requires_grad=True)
    log_prob, entropy = categorical_log_prob_entropy(logits, torch.tensor([1]))
    h = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert log_prob.tolist() == pytest.approx([math.log(0.75)])
    assert entropy.tolist() == pytest.approx([h])
    (gradient,) = torch.autograd.grad(log_prob.sum(), logits, retain_graph=True)
    assert gradient[0].tolist() == pytest.approx([-0.25, 0.25])
    (gradient,) = torch.autograd.grad(entropy.sum(), logits)
    assert gradient[0].tolist() == pytest.approx([-0.25 * (math.log(0.25) + h), -0.75 * (math.log(0.75) + h)])


def test_gradients_agree_with_finite_differences():
    logits = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    action = torch.randint(5, (7,))
    assert torch.autograd.gradcheck(lambda logits: categorical_log_prob_entropy(logits, action), logits)
