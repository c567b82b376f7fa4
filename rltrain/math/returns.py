"""Returns and advantages, computed backwards over time. Legend: T time, B environments.

All functions take two masks. `discount` = gamma * (1 - terminated) multiplies the value of the next state.
`trace` = 1 - (terminated | truncated), the "not done" mask, is 1 if the next row belongs to the same episode. (It is
a mask, not an eligibility trace.)
"""

import torch
from torch import Tensor

from rltrain.system.accelerable import accelerable


@torch.no_grad()
def discounted_returns(reward_TB: Tensor, discount_TB: Tensor, trace_TB: Tensor, next_value_TB: Tensor) -> Tensor:
    """Return the discounted return of each step, G_t = r_t + discount_t * G_{t+1} (Sutton & Barto 2018, eq. 3.9).

    In the last row of a truncated episode, V(s'_t) replaces G_{t+1}. The last row of each episode must be present.

    reward_TB: [time, environments] or [time], float. discount_TB: gamma * (1 - terminated), same shape, float.
    trace_TB: 1 - (terminated | truncated), same shape, float.
    next_value_TB: V of the true successor, used only where trace is 0, same shape, float. With 0 the return ends there.
    Returns G, same shape, float, without gradient.
    """
    _check_shapes(reward_TB, discount_TB, trace_TB, next_value_TB)
    bootstrap_TB = discount_TB * (1 - trace_TB) * next_value_TB
    return _accumulate_backwards(reward_TB + bootstrap_TB, discount_TB * trace_TB, torch.zeros_like(reward_TB[0]))


@accelerable  # twin: fast/graphs.py
@torch.no_grad()
def gae(
    reward_TB: Tensor,
    discount_TB: Tensor,
    trace_TB: Tensor,
    value_TB: Tensor,
    next_value_TB: Tensor,
    gae_lambda: float,
) -> Tensor:
    """Return generalised advantage estimates (Schulman et al. 2016, eq. 16), truncated at the last row (Schulman et al.
    2017, eq. 11 and 12).

    delta_t = r_t + discount_t * V(s'_t) - V(s_t)
    A_t = delta_t + discount_t * trace_t * lambda * A_{t+1}, with A = 0 after the last row; its delta contains V(s'_t)

    reward_TB: [time, environments] or [time], float. discount_TB: gamma * (1 - terminated), same shape, float.
    trace_TB: 1 - (terminated | truncated), same shape, float. value_TB: V(s_t), same shape, float.
    next_value_TB: V of the true successor (not of the observation after a reset), same shape, float.
    Returns A, same shape, float, without gradient. The target of the value is A + V.
    """
    _check_shapes(reward_TB, discount_TB, trace_TB, value_TB, next_value_TB)
    delta_TB = torch.addcmul(reward_TB, discount_TB, next_value_TB) - value_TB
    decay_TB = discount_TB * trace_TB * gae_lambda
    return _accumulate_backwards(delta_TB, decay_TB, torch.zeros_like(delta_TB[0]))


@torch.no_grad()
def lambda_returns(
    reward_TB: Tensor, discount_TB: Tensor, trace_TB: Tensor, next_value_TB: Tensor, q_lambda: float
) -> Tensor:
    """Return Q(lambda) returns (Peng & Williams 1996; Gallici et al. 2024, section 4.1).

    G_t = r_t + discount_t * ((1 - lambda) * V(s'_t) + lambda * G_{t+1})

    In the last row of a truncated episode and in the last row of all, V(s'_t) replaces G_{t+1}.

    reward_TB: [time, environments] or [time], float. discount_TB: gamma * (1 - terminated), same shape, float.
    trace_TB: 1 - (terminated | truncated), same shape, float.
    next_value_TB: max_a Q of the true successor (not of the observation after a reset), same shape, float.
    Returns G, same shape, float, without gradient.
    """
    _check_shapes(reward_TB, discount_TB, trace_TB, next_value_TB)
    weight_TB = q_lambda * trace_TB
    one_step_TB = reward_TB + discount_TB * (1 - weight_TB) * next_value_TB
    return _accumulate_backwards(one_step_TB, discount_TB * weight_TB, next_value_TB[-1])


@torch.no_grad()
def vtrace(
    reward_TB: Tensor,
    discount_TB: Tensor,
    trace_TB: Tensor,
    value_TB: Tensor,
    next_value_TB: Tensor,
    ratio_TB: Tensor,
    rho_clip: float = 1.0,
    c_clip: float = 1.0,
    c_lambda: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Return V-trace targets v and the advantages of the actions (Espeholt et al. 2018, eq. 1 and section 4.2).

    rho_t = min(rho_clip, ratio_t),  c_t = lambda * min(c_clip, ratio_t)
    delta_t = rho_t * (r_t + discount_t * V(s'_t) - V(s_t))
    v_t = V(s_t) + delta_t + discount_t * trace_t * c_t * (v_{t+1} - V(s_{t+1}))           (eq. 1, as in remark 1)
    A_t = rho_t * (r_t + discount_t * v_{t+1} - V(s_t))

    V(s'_t) replaces v_{t+1} in the last row of all and in that of each episode. If both policies are the same, v is the
    n-step return (eq. 2) for lambda = 1, and for any lambda V + `gae`.

    ratio_TB: pi(a|s) / mu(a|s), the probability of the action under the policy that learns over that under the policy
    that acted, [time, environments] or [time], float. The others as in `gae`, of the same shape; the values are those
    of the network that learns, and next_value_TB is value_TB of the next row wherever trace_TB is 1.
    Returns v and A, same shape, float, without gradient.
    """
    _check_shapes(reward_TB, discount_TB, trace_TB, value_TB, next_value_TB, ratio_TB)
    rho_TB, c_TB = ratio_TB.clamp(max=rho_clip), c_lambda * ratio_TB.clamp(max=c_clip)
    delta_TB = rho_TB * (torch.addcmul(reward_TB, discount_TB, next_value_TB) - value_TB)
    zero_B = torch.zeros_like(delta_TB[0])
    excess_TB = _accumulate_backwards(delta_TB, discount_TB * trace_TB * c_TB, zero_B)  # v - V
    next_excess_TB = trace_TB * torch.cat([excess_TB[1:], zero_B[None]])
    advantage_TB = rho_TB * (torch.addcmul(reward_TB, discount_TB, next_value_TB + next_excess_TB) - value_TB)
    return value_TB + excess_TB, advantage_TB


def _accumulate_backwards(term_TB: Tensor, decay_TB: Tensor, running_B: Tensor) -> Tensor:
    """Return x_t = term_t + decay_t * x_{t+1}, [T, B], float. running_B: x after the last row, [B], float."""
    rows = []
    # Unbind the rows once: indexing a tensor in the loop takes longer than the arithmetic.
    for term_B, decay_B in zip(reversed(term_TB.unbind()), reversed(decay_TB.unbind()), strict=True):
        running_B = torch.addcmul(term_B, decay_B, running_B)
        rows.append(running_B)
    return torch.stack(rows[::-1])


def _check_shapes(*tensors: Tensor) -> None:
    """Raise ValueError unless all shapes are equal. Without it torch would broadcast [T, 1] to [T, B]."""
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"shapes must be equal, got {shapes}")
