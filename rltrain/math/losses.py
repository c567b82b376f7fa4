"""Losses and the numbers logged next to them: pure functions of tensors. Legend: B batch, A actions."""

import torch
from torch import Tensor

from rltrain.system.accelerable import accelerable


def q_learning_target(reward_B: Tensor, discount_B: Tensor, next_q_BA: Tensor) -> Tensor:
    """Target of Q-learning (Watkins 1989; Sutton & Barto 2018, eq. 6.8; with a target network Mnih et al. 2015).

    reward_B: [batch], float. discount_B: gamma^n, or 0 where the episode terminated (a truncated one keeps it),
    [batch], float. next_q_BA: values of every action in the state that followed, [batch, actions], float.
    Returns [batch], float; `td_loss` lets no gradient into it.
    """
    check_batch(next_q_BA, reward_B, discount_B)
    return reward_B + discount_B * next_q_BA.amax(dim=-1)


def double_q_learning_target(
    reward_B: Tensor, discount_B: Tensor, next_online_q_BA: Tensor, next_target_q_BA: Tensor
) -> Tensor:
    """Target of double Q-learning (van Hasselt, Guez & Silver 2016, eq. 4).

    The online network chooses the next action, the target network says what it is worth. Shapes as in
    `q_learning_target`.
    """
    check_shapes(next_online_q_BA, next_target_q_BA)
    check_batch(next_target_q_BA, reward_B, discount_B)
    next_action_B = next_online_q_BA.argmax(dim=-1, keepdim=True)
    return reward_B + discount_B * next_target_q_BA.gather(-1, next_action_B).squeeze(-1)


@accelerable
def td_loss(
    q_BA: Tensor, action_B: Tensor, target_B: Tensor, weight_B: Tensor | None = None, huber_delta: float | None = None
) -> tuple[Tensor, Tensor]:
    """Mean of weight * loss(td error); the td error is target - Q(s, a).

    q_BA: values of every action, [batch, actions], float. action_B: the action taken, [batch], int64.
    target_B: [batch], float.
    weight_B: importance weights (Schaul et al. 2016, algorithm 1, line 13), [batch], float; None: all 1. The sum is
    divided by the batch size and not by that of the weights, which would undo their scale.
    huber_delta: None takes e^2 / 2, a number Huber's loss (Huber 1964), which is that up to delta and
    delta * (|e| - delta / 2) beyond: at 1 its gradient is the td error clipped to [-1, 1] (Mnih et al. 2015, methods).
    Returns the loss, (), and without gradient the td errors, [batch]; gradients flow through q_BA alone. The gradient
    of an infinite td error is not finite under both losses, so that it is found before the optimizer steps.
    """
    check_batch(q_BA, action_B, target_B, *([] if weight_B is None else [weight_B]))
    td_error_B = target_B.detach() - q_BA.gather(-1, action_B[:, None]).squeeze(-1)
    loss_B = 0.5 * td_error_B.square()
    if huber_delta is not None:
        linear_B = huber_delta * (td_error_B.abs() - 0.5 * huber_delta)
        # Where the error is infinite, the branch not taken makes the gradient NaN (0 * inf): it must not become delta.
        loss_B = torch.where(td_error_B.abs() <= huber_delta, loss_B, linear_B)
    if weight_B is not None:
        loss_B = loss_B * weight_B
    return loss_B.mean(), td_error_B.detach()


def policy_gradient_loss(log_prob_B: Tensor, advantage_B: Tensor) -> Tensor:
    """-log pi(a|s) * A, whose gradient is minus the policy gradient (Sutton et al. 2000; Williams 1992).

    log_prob_B: of the action taken, [batch], float. advantage_B: the return, or what it is above a baseline, [batch],
    float, without gradient. Returns per sample, [batch], float.
    """
    check_shapes(log_prob_B, advantage_B)
    return -log_prob_B * advantage_B


def clipped_surrogate(
    log_prob_B: Tensor, old_log_prob_B: Tensor, advantage_B: Tensor, clip_range: float | Tensor
) -> Tensor:
    """PPO's policy loss -min(ratio * A, clip(ratio, 1 - c, 1 + c) * A) (Schulman et al. 2017, eq. 7).

    log_prob_B, old_log_prob_B: log-probability of the action taken under the new and the old policy, [batch], float.
    advantage_B: [batch], float. Returns the loss to minimise, per sample, [batch], float; gradients flow through
    log_prob_B alone if the other two carry none.
    """
    check_shapes(log_prob_B, old_log_prob_B, advantage_B)
    ratio_B = (log_prob_B - old_log_prob_B).exp()
    clipped_B = ratio_B.clamp(1.0 - clip_range, 1.0 + clip_range)  # type: ignore[arg-type]
    return -torch.minimum(ratio_B * advantage_B, clipped_B * advantage_B)


@torch.no_grad()
def clip_fraction(log_prob_B: Tensor, old_log_prob_B: Tensor, clip_range: float | Tensor) -> Tensor:
    """Share of samples whose ratio lies outside [1 - c, 1 + c]. Inputs [batch], float; returns (), float."""
    check_shapes(log_prob_B, old_log_prob_B)
    ratio_B = (log_prob_B - old_log_prob_B).exp()
    return ((ratio_B - 1.0).abs() > clip_range).float().mean()


@torch.no_grad()
def approx_kl(log_prob_B: Tensor, old_log_prob_B: Tensor) -> Tensor:
    """Estimate of KL(old || new) from samples of old: mean of (ratio - 1) - log ratio (Schulman 2020, k3).

    Unbiased, never negative and of low variance, which -log ratio is not. Inputs [batch], float; returns (), float.
    """
    check_shapes(log_prob_B, old_log_prob_B)
    log_ratio_B = log_prob_B - old_log_prob_B
    # expm1 keeps the digits that exp(x) - 1 loses near x = 0, where the policy is after every small update.
    return (log_ratio_B.expm1() - log_ratio_B).mean()


def value_loss(value_B: Tensor, return_B: Tensor) -> Tensor:
    """Half the squared error of the value, (V - R)^2 / 2. Both [batch], float; per sample, [batch], float."""
    check_shapes(value_B, return_B)
    return 0.5 * (value_B - return_B).square()


def clipped_value_loss(value_B: Tensor, old_value_B: Tensor, return_B: Tensor, clip_range: float) -> Tensor:
    """The larger of `value_loss` at V and at V kept within clip_range of the old V (OpenAI baselines' PPO2).

    value_B, old_value_B, return_B: [batch], float. Returns per sample, [batch], float.
    """
    check_shapes(value_B, old_value_B, return_B)
    kept_B = old_value_B + (value_B - old_value_B).clamp(-clip_range, clip_range)
    return torch.maximum(value_loss(value_B, return_B), value_loss(kept_B, return_B))


@accelerable
def ppo_loss(
    log_prob_B: Tensor,
    entropy_B: Tensor,
    value_B: Tensor,
    old_log_prob_B: Tensor,
    old_value_B: Tensor,
    advantage_B: Tensor,
    return_B: Tensor,
    clip_range: float | Tensor,
    clip_value_range: float | None,
    value_weight: float,
    entropy_weight: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """PPO's whole objective (Schulman et al. 2017, eq. 9), to be minimised:

    mean of  `clipped_surrogate` + value_weight * `value_loss` - entropy_weight * entropy

    with `clipped_value_loss` in place of `value_loss` where there is a clip_value_range.
    clip_range: a float, or () while a graph of kernels is recorded. All others: [batch], float; gradients flow through
    the first three. Returns (), float, each: the loss, and without gradient the means of its three parts.
    """
    check_shapes(log_prob_B, entropy_B, value_B, old_log_prob_B, old_value_B, advantage_B, return_B)
    policy_loss = clipped_surrogate(log_prob_B, old_log_prob_B, advantage_B, clip_range).mean()
    if clip_value_range is None:
        values_loss = value_loss(value_B, return_B).mean()
    else:
        values_loss = clipped_value_loss(value_B, old_value_B, return_B, clip_value_range).mean()
    entropy = entropy_B.mean()
    loss = policy_loss + value_weight * values_loss - entropy_weight * entropy
    return loss, policy_loss.detach(), values_loss.detach(), entropy.detach()


@torch.no_grad()
def explained_variance(value_B: Tensor, return_B: Tensor) -> Tensor:
    """1 - Var(return - value) / Var(return): 1 is perfect, 0 no better than a constant. Inputs [batch]; returns ().

    NaN where the returns do not vary, as there is nothing to explain.
    """
    check_shapes(value_B, return_B)
    variance = return_B.var(correction=0)
    ratio = (return_B - value_B).var(correction=0) / variance
    return torch.where(variance > 0, 1.0 - ratio, torch.nan)


def normalize(advantage_B: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Shift to mean 0 and scale to standard deviation 1 over the whole tensor, any shape, float.

    The population deviation is used, so that a single sample gives 0 and not NaN.
    """
    centred_B = advantage_B - advantage_B.mean()
    # Again, or the rounding error of the mean of equal numbers would be scaled up to a deviation of 1.
    centred_B = centred_B - centred_B.mean()
    return centred_B / (centred_B.square().mean().sqrt() + epsilon)


def check_batch(q_BA: Tensor, *tensors_B: Tensor) -> None:
    """One number in each for every row of q_BA."""
    if any(tensor_B.shape != q_BA.shape[:1] for tensor_B in tensors_B):
        raise ValueError(f"shapes must be {tuple(q_BA.shape[:1])}, got {[tuple(each.shape) for each in tensors_B]}")


def check_shapes(*tensors: Tensor) -> None:
    """Broadcasting [B, 1] against [B] gives [B, B], which trains on nonsense without an error."""
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"shapes must be equal, got {shapes}")
