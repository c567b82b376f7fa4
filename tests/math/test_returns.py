"""Hand-worked returns and advantages."""

import pytest
import torch

from rltrain.math.returns import discounted_returns, gae, lambda_returns, vtrace


def column(*rows: float) -> torch.Tensor:
    """[T, 1], float64."""
    return torch.tensor(rows, dtype=torch.float64)[:, None]


def returns_of(reward, discount, trace=(1, 1, 0), next_value=(0, 0, 0)):
    return discounted_returns(column(*reward), column(*discount), column(*trace), column(*next_value))[:, 0].tolist()


def test_returns_sum_what_follows_and_not_what_came_before():
    assert returns_of([1, 2, 3], [0.1, 0.1, 0.1]) == pytest.approx([1.23, 2.3, 3])


def test_returns_stop_at_a_termination():
    assert returns_of([1, 2, 3], [0.1, 0, 0.1], [1, 0, 0], [0, 7, 0]) == pytest.approx([1.2, 2, 3])


def test_returns_go_on_with_the_value_where_an_episode_was_cut_and_not_with_the_next_episode():
    assert returns_of([1, 2, 3], [0.1, 0.1, 0.1], [1, 0, 0], [0, 10, 20]) == pytest.approx([1.3, 3, 5])
    # The control: within an episode the value of the successor is not read.
    assert returns_of([1, 2, 3], [0.1, 0.1, 0.1], [1, 1, 0], [9, 9, 20]) == pytest.approx([1.25, 2.5, 5])


def test_returns_keep_environments_apart():
    reward, trace = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 5.0]]), torch.ones(3, 2)
    returns = discounted_returns(reward, torch.full((3, 2), 0.1), trace, torch.zeros(3, 2))
    assert returns.flatten().tolist() == pytest.approx([1.23, 0.05, 2.3, 0.5, 3, 5])


def test_gae_plain_matches_hand_numbers():
    gamma = column(0.9, 0.9, 0.9)
    advantage = gae(column(1, 1, 1), gamma, column(1, 1, 1), column(0.5, 0.5, 0.5), column(0.5, 0.5, 0.5), 0.8)
    assert advantage[:, 0].tolist() == pytest.approx([2.12648, 1.634, 0.95])


def test_gae_stops_at_a_termination():
    discount, trace = column(0.9, 0, 0.9), column(1, 0, 1)
    advantage = gae(column(1, 1, 1), discount, trace, column(0.5, 0.5, 0.5), column(0.5, 0.5, 0.5), 0.8)
    assert advantage[:, 0].tolist() == pytest.approx([1.31, 0.5, 0.95])


@pytest.mark.parametrize(
    ("discount_at_end", "final_value", "expected"),
    [(0.0, 4.0, [1.25, 1, 5]), (0.5, 4.0, [1.75, 3, 5]), (0.5, 0.0, [1.25, 1, 5])],
    ids=["terminated", "truncated", "control: truncated and worthless"],
)
def test_gae_bootstraps_a_truncation_from_its_final_state_and_never_leaks_across(
    discount_at_end, final_value, expected
):
    discount, trace = column(0.5, discount_at_end, 0.5), column(1, 0, 1)
    advantage = gae(column(1, 1, 1), discount, trace, column(0, 0, 0), column(0, final_value, 8), 0.5)
    assert advantage[:, 0].tolist() == pytest.approx(expected)


def test_control_a_trace_that_ignores_the_truncation_gives_other_numbers():
    half, zero = column(0.5, 0.5, 0.5), column(0, 0, 0)
    advantage = gae(column(1, 1, 1), half, column(1, 1, 1), zero, column(0, 4, 8), 0.5)
    assert advantage[:, 0].tolist() == pytest.approx([2.0625, 4.25, 5])  # 3 + .25 * 5, 1 + .25 * 4.25


def test_a_loop_is_worth_its_infinite_sum_only_if_truncations_bootstrap():
    # One state, reward 1, gamma .98, time limit 8: V = 50; treating the limit as an end caps V at 7.46.
    def evaluate(final_discount: float) -> torch.Tensor:
        discount = torch.full((8, 1), 0.98, dtype=torch.float64)
        discount[-1] = final_discount
        trace = torch.ones_like(discount)
        trace[-1] = 0
        value = torch.zeros_like(discount)
        for _ in range(400):
            advantage = gae(torch.ones_like(discount), discount, trace, value, value.roll(-1, 0), 0.95)
            value = value + advantage
        return value

    assert evaluate(0.98).min().item() == pytest.approx(50, rel=1e-3)
    assert evaluate(0.0).max().item() <= 7.47  # control: (1 - .98^8) / .02 = 7.462


def test_lambda_1_equals_returns_minus_values_and_carries_no_gradient():
    reward, value = torch.rand(20, 3), torch.rand(20, 3, requires_grad=True)
    discount, last = torch.full((20, 3), 0.9), torch.rand(3)
    next_value = torch.cat([value[1:], last[None]])
    advantage = gae(reward, discount, torch.ones(20, 3), value, next_value, 1.0)
    assert not advantage.requires_grad
    trace = torch.ones(20, 3)
    trace[-1] = 0
    returns = discounted_returns(reward, discount, trace, next_value.detach())
    torch.testing.assert_close(advantage, returns - value.detach())


def test_shapes_that_would_broadcast_are_refused():
    ones = torch.ones(3, 2)
    with pytest.raises(ValueError, match="shapes"):
        gae(ones, ones, ones, ones[:, :1], ones, 0.5)
    with pytest.raises(ValueError, match="shapes"):
        discounted_returns(ones, ones[:, :1], ones, ones)


@pytest.mark.parametrize(
    ("discount_at_1", "trace_at_1", "q_lambda", "expected"),
    [
        (0.5, 1, 0.5, [2.3125, 3.25, 5]),  # 1 + .5 (.5 * 4 + .5 * 5), 1 + .5 (.5 * 2 + .5 * 3.25)
        (0.0, 0, 0.5, [1.75, 1, 5]),  # terminated: 1 + .5 (.5 * 2 + .5 * 1)
        (0.5, 0, 0.5, [2.25, 3, 5]),  # truncated: 1 + .5 * 4, 1 + .5 (.5 * 2 + .5 * 3)
        (0.5, 1, 0.0, [2, 3, 5]),  # one step
        (0.5, 1, 1.0, [2.75, 3.5, 5]),  # to the end
    ],
)
def test_lambda_returns_match_hand_numbers(discount_at_1, trace_at_1, q_lambda, expected):
    discount, trace = column(0.5, discount_at_1, 0.5), column(1, trace_at_1, 1)
    returns = lambda_returns(column(1, 1, 1), discount, trace, column(2, 4, 8), q_lambda)
    assert returns[:, 0].tolist() == pytest.approx(expected)


def test_lambda_returns_are_advantages_plus_the_values_that_they_start_from():
    reward, value, last = torch.rand(20, 3), torch.rand(20, 3), torch.rand(3)
    discount, trace = torch.full((20, 3), 0.9), torch.ones(20, 3)
    discount[4, 0] = trace[4, 0] = trace[9, 1] = 0  # one terminated, one truncated
    next_value = torch.cat([value[1:], last[None]])
    next_value[9, 1] = 7.0
    expected = gae(reward, discount, trace, value, next_value, 0.8) + value
    torch.testing.assert_close(lambda_returns(reward, discount, trace, next_value, 0.8), expected)
    with pytest.raises(ValueError, match="shapes"):
        lambda_returns(reward, discount, trace, next_value[:, :1], 0.8)


def test_monte_carlo_and_td_on_the_returns_example():
    """V = 0 everywhere, learning rate .1, gamma 1; the rewards sum to 3 and the first of them is 1."""
    reward, zero = column(1, 0, 0, 1, 1, 0), column(0, 0, 0, 0, 0, 0)
    discount = column(1, 1, 1, 1, 1, 0)
    monte_carlo = 0.1 * (discounted_returns(reward, discount, discount, zero) - zero)
    assert monte_carlo[0].item() == pytest.approx(0.3)
    td = 0.1 * gae(reward, discount, discount, zero, zero, 0.0)  # lambda 0: the error of TD(0)
    assert td[0].item() == pytest.approx(0.1)
    torch.testing.assert_close(0.1 * gae(reward, discount, discount, zero, zero, 1.0), monte_carlo)


@pytest.mark.parametrize(
    ("ended", "clips", "target", "advantage"),
    [
        # Errors 1 + .9 * 1 - .5 and .5 (2 + .9 * 1.5 - 1); ratio 2 counts as 1.
        (False, (1.0, 1.0), [2.9575, 2.175], [2.4575, 1.175]),
        (True, (1.0, 1.0), [1.0, 2.175], [0.5, 1.175]),
        # The control: a ratio of 2 that is not clipped, in both places, in rho alone, in c alone.
        (False, (9.0, 9.0), [5.415, 2.175], [4.915, 1.175]),  # .5 + 2 * 1.4 + .9 * 2 * 1.175; 2 * 2.4575
        (False, (9.0, 1.0), [4.3575, 2.175], [4.915, 1.175]),
        (False, (9.0, 0.5), [3.82875, 2.175], [4.915, 1.175]),
    ],
)
def test_vtrace_matches_hand_numbers(ended, clips, target, advantage):
    discount, trace = column(0 if ended else 0.9, 0.9), column(0 if ended else 1, 1)
    got = vtrace(column(1, 2), discount, trace, column(0.5, 1), column(1, 1.5), column(2, 0.5), *clips)
    assert got[0][:, 0].tolist() == pytest.approx(target)
    assert got[1][:, 0].tolist() == pytest.approx(advantage)


def test_vtrace_bootstraps_a_truncation_from_its_final_state():
    """Bug: the value of the next episode's first state, 1, in place of that of the true successor, 3."""
    got = vtrace(column(1, 2), column(0.9, 0.9), column(0, 1), column(0.5, 1), column(3, 1.5), column(2, 0.5))
    assert got[0][:, 0].tolist() == pytest.approx([3.7, 2.175])  # 1 + .9 * 3
    assert got[1][:, 0].tolist() == pytest.approx([3.2, 1.175])


def off_policy(num_steps=30, num_envs=3):
    """Random steps with two ends by termination and two by truncation."""
    generator = torch.Generator().manual_seed(0)
    reward, value, final, log_ratio = torch.randn(4, num_steps, num_envs, generator=generator)
    discount, trace = torch.full_like(reward, 0.9), torch.ones_like(reward)
    discount[4, 0] = discount[-1, 1] = trace[4, 0] = trace[-1, 1] = 0
    trace[9, 1] = trace[9, 2] = 0
    next_value = torch.where(trace > 0, torch.cat([value[1:], final[:1]]), final)
    return reward, discount, trace, value, next_value, log_ratio.exp()


@pytest.mark.parametrize("c_lambda", [1.0, 0.8])
def test_on_policy_vtrace_is_gae(c_lambda):
    *steps, ratio = off_policy()
    target, advantage = vtrace(*steps, torch.ones_like(ratio), c_lambda=c_lambda)
    reward, discount, trace, value, next_value = steps
    torch.testing.assert_close(target, gae(*steps, c_lambda) + value, rtol=0, atol=1e-6)
    torch.testing.assert_close(target, lambda_returns(reward, discount, trace, next_value, c_lambda), rtol=0, atol=2e-6)
    if c_lambda == 1:
        torch.testing.assert_close(advantage, gae(*steps, 1.0), rtol=0, atol=1e-6)
    # The control: off policy it is not.
    assert (vtrace(*steps, ratio, c_lambda=c_lambda)[0] - target).abs().max() > 0.1


def test_vtrace_is_the_sum_of_equation_1():
    """Bug: a recursion that is not the paper's sum, where ratios are on either side of both clips."""
    steps = [tensor.double() for tensor in off_policy(num_envs=3)]
    reward, discount, trace, value, next_value, ratio = (tensor[:, 0] for tensor in steps)
    rho, c = ratio.clamp(max=1.5), 0.9 * ratio.clamp(max=1.1)
    expected = value.clone()
    for s in range(len(value)):
        factor = 1.0
        for t in range(s, len(value)):
            expected[s] += factor * rho[t] * (reward[t] + discount[t] * next_value[t] - value[t])
            factor *= discount[t] * trace[t] * c[t]
    target, advantage = vtrace(reward, discount, trace, value, next_value, ratio, 1.5, 1.1, 0.9)
    torch.testing.assert_close(target, expected)
    following = torch.where(trace > 0, torch.cat([target[1:], next_value[-1:]]), next_value)
    torch.testing.assert_close(advantage, rho * (reward + discount * following - value))


def test_vtrace_refuses_shapes_that_would_broadcast():
    *steps, ratio = off_policy()
    with pytest.raises(ValueError, match="shapes"):
        vtrace(*steps, ratio[:, :1])
