"""Losses, and the diagnostics logged with them: pure functions of tensors. Legend: B batch, A actions.

`@accelerable`: with fast=true the twin in fast/losses.py runs.
"""

import torch
from torch import Tensor

from rltrain.system.accelerable import accelerable


def q_learning_target(reward_B: Tensor, discount_B: Tensor, next_q_BA: Tensor) -> Tensor:
    """Return the Q-learning target r + discount * max_a Q(s', a) (Watkins 1989; Sutton & Barto 2018, eq. 6.8).

    With a target network it is the target of DQN (Mnih et al. 2015).

    reward_B: [batch], float. discount_B: gamma^n, or 0 if the episode terminated (a truncation keeps gamma^n), [batch],
    float. next_q_BA: action values of the next state, [batch, actions], float. Returns [batch], float.
    """
    check_batch(next_q_BA, reward_B, discount_B)
    return reward_B + discount_B * next_q_BA.amax(dim=-1)


def double_q_learning_target(
    reward_B: Tensor, discount_B: Tensor, next_online_q_BA: Tensor, next_target_q_BA: Tensor
) -> Tensor:
    """Return the target of double DQN (van Hasselt, Guez & Silver 2016, eq. 4).

    The online network selects the next action; the target network evaluates it. Shapes as in `q_learning_target`.
    """
    check_shapes(next_online_q_BA, next_target_q_BA)
    check_batch(next_target_q_BA, reward_B, discount_B)
    next_action_B = next_online_q_BA.argmax(dim=-1, keepdim=True)
    return reward_B + discount_B * next_target_q_BA.gather(-1, next_action_B).squeeze(-1)


@accelerable  # twin: fast/losses.py
def td_loss(
    q_BA: Tensor, action_B: Tensor, target_B: Tensor, weight_B: Tensor | None = None, huber_delta: float | None = None
) -> tuple[Tensor, Tensor]:
    """Return the mean of weight * loss(e), and the td errors e = target - Q(s, a).

    q_BA: action values, [batch, actions], float. action_B: the action taken, [batch], int64. target_B: [batch], float.
    weight_B: importance weights (Schaul et al. 2016, algorithm 1, line 13), [batch], float; None means 1. The mean
    divides by the batch size, not by the sum of the weights, which would undo their scale.
    huber_delta: None gives e^2 / 2. A number gives the Huber loss (Huber 1964): e^2 / 2 for |e| <= delta, else
    delta * (|e| - delta / 2). With delta = 1 its gradient is e clipped to [-1, 1] (Mnih et al. 2015, methods).

    Returns the loss, (), and the td errors, [batch], without gradient. Gradients flow only through q_BA. An infinite td
    error gives a gradient that is not finite under both losses, so the check of the gradients finds it before the
    optimizer steps.
    """
    check_batch(q_BA, action_B, target_B, *([] if weight_B is None else [weight_B]))
    td_error_B = target_B.detach() - q_BA.gather(-1, action_B[:, None]).squeeze(-1)
    loss_B = 0.5 * td_error_B.square()
    if huber_delta is not None:
        linear_B = huber_delta * (td_error_B.abs() - 0.5 * huber_delta)
        # For an infinite error the gradient must be NaN, not delta. It is: the other branch adds 0 * inf = NaN.
        loss_B = torch.where(td_error_B.abs() <= huber_delta, loss_B, linear_B)
    if weight_B is not None:
        loss_B = loss_B * weight_B
    return loss_B.mean(), td_error_B.detach()


def policy_gradient_loss(log_prob_B: Tensor, advantage_B: Tensor) -> Tensor:
    """Return -log pi(a|s) * A, whose gradient is minus the policy gradient (Sutton et al. 2000; Williams 1992).

    log_prob_B: log-probability of the action taken, [batch], float. advantage_B: the return, or the return minus a
    baseline, [batch], float, without gradient. Returns the loss of each sample, [batch], float.
    """
    check_shapes(log_prob_B, advantage_B)
    return -log_prob_B * advantage_B


def clipped_surrogate(
    log_prob_B: Tensor, old_log_prob_B: Tensor, advantage_B: Tensor, clip_range: float | Tensor
) -> Tensor:
    """Return PPO's policy loss -min(ratio * A, clip(ratio, 1 - eps, 1 + eps) * A) (Schulman et al. 2017, eq. 7).

    log_prob_B, old_log_prob_B: log-probability of the action taken under the new and the old policy, [batch], float.
    advantage_B: [batch], float. clip_range: eps. Returns the loss of each sample, to be minimised, [batch], float.
    """
    check_shapes(log_prob_B, old_log_prob_B, advantage_B)
    ratio_B = (log_prob_B - old_log_prob_B).exp()
    clipped_B = ratio_B.clamp(1.0 - clip_range, 1.0 + clip_range)  # type: ignore[arg-type]
    return -torch.minimum(ratio_B * advantage_B, clipped_B * advantage_B)


@torch.no_grad()
def clip_fraction(log_prob_B: Tensor, old_log_prob_B: Tensor, clip_range: float | Tensor) -> Tensor:
    """Return the share of samples with a ratio outside [1 - eps, 1 + eps]. Inputs [batch], float; result (), float."""
    check_shapes(log_prob_B, old_log_prob_B)
    ratio_B = (log_prob_B - old_log_prob_B).exp()
    return ((ratio_B - 1.0).abs() > clip_range).float().mean()


@torch.no_grad()
def approx_kl(log_prob_B: Tensor, old_log_prob_B: Tensor) -> Tensor:
    """Return an estimate of KL(old || new) from samples of old: mean of (ratio - 1) - log ratio (Schulman 2020, k3).

    The estimate is unbiased and never negative, and has a lower variance than the mean of -log ratio.
    Inputs [batch], float; result (), float.
    """
    check_shapes(log_prob_B, old_log_prob_B)
    log_ratio_B = log_prob_B - old_log_prob_B
    # log_ratio is near 0 after a small update. There exp(x) - 1 loses precision, and expm1(x) does not.
    return (log_ratio_B.expm1() - log_ratio_B).mean()


def value_loss(value_B: Tensor, return_B: Tensor) -> Tensor:
    """Return half the squared error of the value, (V - R)^2 / 2, for each sample. All [batch], float."""
    check_shapes(value_B, return_B)
    return 0.5 * (value_B - return_B).square()


def clipped_value_loss(value_B: Tensor, old_value_B: Tensor, return_B: Tensor, clip_range: float) -> Tensor:
    """Return the larger of two value losses: of V, and of V clipped to within clip_range of the old V.

    This is the value loss of OpenAI baselines' PPO2.

    value_B, old_value_B, return_B: [batch], float. Returns the loss of each sample, [batch], float.
    """
    check_shapes(value_B, old_value_B, return_B)
    clipped_B = old_value_B + (value_B - old_value_B).clamp(-clip_range, clip_range)
    return torch.maximum(value_loss(value_B, return_B), value_loss(clipped_B, return_B))


@accelerable  # twin: fast/losses.py
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
    """Return PPO's objective with its sign reversed (Schulman et al. 2017, eq. 9), and its three terms.

    loss = mean of (`clipped_surrogate` + value_weight * `value_loss` - entropy_weight * entropy)

    With a clip_value_range, `clipped_value_loss` replaces `value_loss`.

    clip_range: a float, or a tensor () while a CUDA graph is recorded. Tensors ending in _B: [batch], float; gradients
    flow through the first three. Returns (loss, policy loss, value loss, entropy), each a mean, (), float; only the
    loss has a gradient.
    """
    check_shapes(log_prob_B, entropy_B, value_B, old_log_prob_B, old_value_B, advantage_B, return_B)
    actor_loss = clipped_surrogate(log_prob_B, old_log_prob_B, advantage_B, clip_range).mean()
    if clip_value_range is None:
        critic_loss = value_loss(value_B, return_B).mean()
    else:
        critic_loss = clipped_value_loss(value_B, old_value_B, return_B, clip_value_range).mean()
    entropy = entropy_B.mean()
    loss = actor_loss + value_weight * critic_loss - entropy_weight * entropy
    return loss, actor_loss.detach(), critic_loss.detach(), entropy.detach()


@torch.no_grad()
def explained_variance(value_B: Tensor, return_B: Tensor) -> Tensor:
    """Return 1 - Var(return - value) / Var(return): 1 is a perfect value, 0 is no better than a constant.

    NaN if all returns are equal. Inputs [batch], float; result (), float.
    """
    check_shapes(value_B, return_B)
    variance = return_B.var(correction=0)
    ratio = (return_B - value_B).var(correction=0) / variance
    return torch.where(variance > 0, 1.0 - ratio, torch.nan)


def normalize(advantage_B: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Return the tensor shifted to mean 0 and scaled to standard deviation 1. Any shape, float.

    The standard deviation divides by N, not by N - 1. A single sample is returned as it is: there is nothing to compare
    it with, and as 0 it would teach nothing.
    """
    if advantage_B.numel() == 1:
        return advantage_B
    centred_B = advantage_B - advantage_B.mean()
    # Centre twice: for equal numbers the rounding error of the first mean would be scaled up to a deviation of 1.
    centred_B = centred_B - centred_B.mean()
    return centred_B / (centred_B.square().mean().sqrt() + epsilon)


def check_batch(q_BA: Tensor, *tensors_B: Tensor) -> None:
    """Raise ValueError unless each of `tensors_B` has one number for each row of q_BA."""
    if any(tensor_B.shape != q_BA.shape[:1] for tensor_B in tensors_B):
        raise ValueError(f"shapes must be {tuple(q_BA.shape[:1])}, got {[tuple(each.shape) for each in tensors_B]}")


def check_shapes(*tensors: Tensor) -> None:
    """Raise ValueError unless all shapes are equal. Without it torch would broadcast [B, 1] and [B] to [B, B]."""
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"shapes must be equal, got {shapes}")
