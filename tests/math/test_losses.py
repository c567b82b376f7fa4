"""Hand-worked losses; each test names the mistake it catches."""

import math

import pytest
import torch

from rltrain.math import losses


def test_termination_stops_the_bootstrap_and_truncation_does_not():
    next_q = torch.tensor([[5.0, 7.0]] * 2)
    target = losses.q_learning_target(torch.ones(2), torch.tensor([0.0, 0.1]), next_q)
    assert target.tolist() == pytest.approx([1.0, 1.7])  # 1, and 1 + .1 * 7


def test_double_q_values_the_online_choice_with_the_target_network():
    online, target = torch.tensor([[1.0, 2.0], [4.0, 3.0]]), torch.tensor([[10.0, 5.0], [6.0, 8.0]])
    arguments = (torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.5]))
    double = losses.double_q_learning_target(*arguments, online, target)
    assert double.tolist() == pytest.approx([3.5, 5.0], abs=1e-6)  # 1 + .5 * 5, 2 + .5 * 6
    plain = losses.q_learning_target(*arguments, target)
    assert plain.tolist() == pytest.approx([6.0, 6.0], abs=1e-6)  # control: 1 + .5 * 10, 2 + .5 * 8


def test_gradients_flow_through_the_estimate_alone():
    q, online, next_q = (torch.rand(3, 2, requires_grad=True) for _ in range(3))
    action, ones = torch.tensor([0, 1, 0]), torch.ones(3)
    for target in (
        losses.double_q_learning_target(ones, ones, online, next_q),
        losses.q_learning_target(ones, ones, next_q),
        next_q[:, 0],
    ):
        q.grad = None
        loss, td_error = losses.td_loss(q, action, target)
        loss.backward()
        expected = torch.zeros(3, 2).scatter_(-1, action[:, None], -td_error[:, None] / 3)
        torch.testing.assert_close(q.grad, expected)
        assert online.grad is None and next_q.grad is None and not td_error.requires_grad


def test_a_column_of_rewards_is_refused_rather_than_broadcast():
    q, action, ones = torch.rand(3, 2), torch.tensor([0, 1, 0]), torch.ones(3)
    with pytest.raises(ValueError, match="shapes"):
        losses.q_learning_target(ones[:, None], ones, q)
    with pytest.raises(ValueError, match="shapes"):
        losses.double_q_learning_target(ones, ones[:, None], q, q)
    with pytest.raises(ValueError, match="shapes"):
        losses.td_loss(q, action, ones[:, None])
    with pytest.raises(ValueError, match="shapes"):
        losses.td_loss(q, action, ones, ones[:, None])


@pytest.mark.parametrize(
    ("delta", "losses_of", "gradient"),
    [
        (1.0, [2.5, 0.5, 0.125, 1.5], [-1, -1, 0.5, 1]),
        (2.0, [4.0, 0.5, 0.125, 2.0], [-2, -1, 0.5, 2]),
        (None, [4.5, 0.5, 0.125, 2.0], [-3, -1, 0.5, 2]),
    ],
)
def test_huber_is_quadratic_inside_and_linear_outside(delta, losses_of, gradient):
    error = [-3.0, -1.0, 0.5, 2.0]
    for value, loss_of, slope in zip(error, losses_of, gradient, strict=True):
        q = torch.tensor([[7.0, 0.0]], requires_grad=True)
        loss, td_error = losses.td_loss(q, torch.tensor([1]), torch.tensor([value]), huber_delta=delta)
        loss.backward()
        assert (loss.item(), td_error.item()) == pytest.approx((loss_of, value))
        assert q.grad.tolist() == [pytest.approx([0.0, -slope])]  # the td error is target minus value


@pytest.mark.parametrize("delta", [None, 1.0, 0.3])
def test_the_td_loss_is_that_of_torch_and_its_gradient_too(delta):
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(64, 5, generator=generator, requires_grad=True)
    action = torch.randint(5, (64,), generator=generator)
    target, weight = (torch.randn(64, generator=generator) for _ in range(2))
    chosen = q.gather(-1, action[:, None]).squeeze(-1)
    if delta is None:
        per_sample = torch.nn.functional.mse_loss(chosen, target, reduction="none") / 2
    else:
        per_sample = torch.nn.functional.huber_loss(chosen, target, reduction="none", delta=delta)
    expected = (weight * per_sample).mean()
    loss, _ = losses.td_loss(q, action, target, weight, delta)
    torch.testing.assert_close(loss, expected)
    ours, theirs = (torch.autograd.grad(3 * value, q)[0] for value in (loss, expected))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("delta", [None, 1.0])
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_an_error_that_is_no_number_has_no_gradient(bad, delta):
    """Huber's slope of an infinite error would be 1, and the optimizer would step by it."""
    q = torch.zeros(2, 2, requires_grad=True)
    loss, _ = losses.td_loss(q, torch.tensor([0, 1]), torch.tensor([1.0, bad]), torch.ones(2), delta)
    loss.backward()
    assert not q.grad[1, 1].isfinite()
    assert q.grad[0].tolist() == [-0.5, 0.0]


@pytest.mark.parametrize("delta", [None, 1.0])
def test_importance_weights_reach_the_loss(delta):
    q = torch.zeros(2, 1, requires_grad=True)
    total, td_error = losses.td_loss(
        q, torch.tensor([0, 0]), torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.25]), delta
    )
    assert total.item() == pytest.approx(0.3125)  # (.5 + .125) / 2: not divided by the sum of the weights
    assert td_error.tolist() == [1.0, 1.0]  # what the priorities are made of has no weight
    total.backward()
    assert q.grad.flatten().tolist() == pytest.approx([-0.5, -0.125])


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "gradient"),
    [(1.0, 3.0, -3, -3), (2.0, 1.0, -1.2, 0), (2.0, -1.0, 2, 2), (0.5, 1.0, -0.5, -0.5), (0.5, -1.0, 0.8, 0)],
)
def test_surrogate_stops_only_moves_that_go_too_far(ratio, advantage, expected, gradient):
    log_prob = torch.tensor([math.log(ratio) - 1], requires_grad=True)
    loss = losses.clipped_surrogate(log_prob, torch.tensor([-1.0]), torch.tensor([advantage]), 0.2)
    assert loss.tolist() == pytest.approx([expected], abs=1e-6)
    loss.sum().backward()
    assert log_prob.grad.tolist() == pytest.approx([gradient], abs=1e-6)


def test_clip_fraction_counts_both_sides():
    log_prob = torch.tensor([0.5, 1.0, 1.1, 2.0]).log()
    assert losses.clip_fraction(log_prob, torch.zeros(4), 0.2).item() == 0.5


def test_approx_kl_is_zero_for_the_same_policy_and_near_the_truth_for_another():
    old, new = torch.tensor([0.5, 0.5]), torch.tensor([0.6, 0.4])
    action = torch.tensor([0, 1] * 500)  # exactly the old policy's frequencies: the estimate is then exact
    assert losses.approx_kl(old.log()[action], old.log()[action]).item() == 0
    kl = losses.approx_kl(new.log()[action], old.log()[action]).item()
    assert kl == pytest.approx((old * (old / new).log()).sum().item(), rel=1e-4)


def test_clipped_value_loss_takes_the_larger_one():
    value, old, target = torch.tensor([2.0, 1.1, 2.0]), torch.ones(3), torch.tensor([2.0, 2.0, 0.0])
    assert losses.value_loss(value, target).tolist() == pytest.approx([0, 0.405, 2])
    clipped = losses.clipped_value_loss(value, old, target, 0.2)
    assert clipped.tolist() == pytest.approx([0.32, 0.405, 2])  # 2 is held at 1.2: .8^2 / 2


def test_explained_variance_of_perfect_constant_and_opposite_values():
    target = torch.tensor([1.0, 2.0, 3.0])
    assert losses.explained_variance(target, target).item() == pytest.approx(1)
    assert losses.explained_variance(torch.full((3,), 7.0), target).item() == pytest.approx(0)
    assert losses.explained_variance(-target, target).item() == pytest.approx(-3)
    assert math.isnan(losses.explained_variance(target, torch.ones(3)).item())


def test_normalize_covers_the_whole_tensor_and_survives_one_sample():
    normal = losses.normalize(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert normal.mean().item() == pytest.approx(0, abs=1e-6)
    assert normal.square().mean().item() == pytest.approx(1)
    assert losses.normalize(torch.tensor([5.0])).tolist() == [5], "as 0 it would teach nothing"
    assert losses.normalize(torch.tensor([[-3.0]])).tolist() == [[-3]]
    # The mean of these rounds to another number than theirs; that difference is no advantage.
    equal = torch.full((1000,), 100.1)
    assert equal.mean() != equal[0]
    assert losses.normalize(equal).abs().max() < 1e-3


@pytest.mark.parametrize("clip_value_range", [None, 0.2])
def test_ppos_whole_loss_and_its_gradients_are_those_of_its_parts(clip_value_range):
    """Bugs: a gradient where the ratio is clipped, or none where it is out of range and still too good to be true."""
    generator = torch.Generator().manual_seed(0)
    fixed = [torch.randn(200, generator=generator) for _ in range(4)]
    old_log_prob, old_value, advantage, value_target = fixed
    trained = [
        (torch.randn(200, generator=generator) * 0.5 + old).requires_grad_() for old in (old_log_prob, old_value)
    ]
    log_prob, value = trained
    entropy = torch.rand(200, generator=generator).requires_grad_()
    policy_loss = losses.clipped_surrogate(log_prob, old_log_prob, advantage, 0.1).mean()
    if clip_value_range is None:
        value_loss = losses.value_loss(value, value_target).mean()
    else:
        value_loss = losses.clipped_value_loss(value, old_value, value_target, clip_value_range).mean()
    whole = policy_loss + 0.5 * value_loss - 0.01 * entropy.mean()
    loss, *parts = losses.ppo_loss(
        log_prob, entropy, value, old_log_prob, old_value, advantage, value_target, 0.1, clip_value_range, 0.5, 0.01
    )
    for ours, wanted in zip([loss, *parts], [whole, policy_loss, value_loss, entropy.mean()], strict=True):
        torch.testing.assert_close(ours.detach(), wanted.detach())
    inputs = [log_prob, entropy, value]
    for ours, wanted in zip(torch.autograd.grad(3 * loss, inputs), torch.autograd.grad(3 * whole, inputs), strict=True):
        torch.testing.assert_close(ours, wanted)
        assert wanted.count_nonzero() > 50


def test_ppos_whole_loss_worked_by_hand():
    """Ratio 2 with A 1 is clipped to 1.5, and moves nothing; ratio 2 with A -1 is not. V 3 for R 1; H 1."""
    log_prob = torch.tensor([2.0, 2.0]).log().requires_grad_()
    value, entropy = torch.tensor([3.0, 3.0]).requires_grad_(), torch.ones(2).requires_grad_()
    zero, one = torch.zeros(2), torch.ones(2)
    loss, policy_loss, value_loss, _ = losses.ppo_loss(
        log_prob, entropy, value, zero, zero, torch.tensor([1.0, -1.0]), one, 0.5, None, 0.5, 0.1
    )
    loss.backward()
    assert policy_loss.item() == pytest.approx((-1.5 + 2) / 2) and value_loss.item() == pytest.approx(2.0)
    assert loss.item() == pytest.approx(0.25 + 0.5 * 2 - 0.1)
    assert log_prob.grad.tolist() == pytest.approx([0.0, 2 / 2])
    assert value.grad.tolist() == pytest.approx([0.5 * 2 / 2] * 2)
    assert entropy.grad.tolist() == pytest.approx([-0.05] * 2)
