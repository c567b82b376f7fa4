"""Hand-worked returns and advantages."""

import pytest
import torch

from rltrain.math.returns import discounted_returns, gae


def column(*rows: float) -> torch.Tensor:
    """[T, 1], float64."""
    return torch.tensor(rows, dtype=torch.float64)[:, None]


def test_returns_sum_what_follows_and_not_what_came_before():
    returns = discounted_returns(column(1, 2, 3), column(0.1, 0.1, 0.1))
    assert returns[:, 0].tolist() == pytest.approx([1.23, 2.3, 3])


def test_returns_stop_at_a_termination_and_use_the_last_value():
    returns = discounted_returns(column(1, 2, 3), column(0.1, 0, 0.1), torch.tensor([10.0], dtype=torch.float64))
    assert returns[:, 0].tolist() == pytest.approx([1.2, 2, 4])


def test_returns_keep_environments_apart():
    reward = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 5.0]])
    returns = discounted_returns(reward, torch.full((3, 2), 0.1))
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
    torch.testing.assert_close(advantage, discounted_returns(reward, discount, last) - value.detach())


def test_shapes_that_would_broadcast_are_refused():
    ones = torch.ones(3, 2)
    with pytest.raises(ValueError, match="shapes"):
        gae(ones, ones, ones, ones[:, :1], ones, 0.5)
    with pytest.raises(ValueError, match="shapes"):
        discounted_returns(ones, ones[:, :1])
