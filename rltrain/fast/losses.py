"""Losses as single autograd nodes. The plain functions create ten to twenty nodes each.

Each function is the twin of the function of the same name in `rltrain.math`, which documents it.
Legend: B batch, A actions.
"""

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction, FunctionCtx

from rltrain.math.losses import check_batch, check_shapes


def td_loss(
    q_BA: Tensor, action_B: Tensor, target_B: Tensor, weight_B: Tensor | None = None, huber_delta: float | None = None
) -> tuple[Tensor, Tensor]:
    """Twin of `math.losses.td_loss`."""
    check_batch(q_BA, action_B, target_B, *([] if weight_B is None else [weight_B]))
    loss, td_error_B = _TDLoss.apply(q_BA, action_B[:, None], target_B, weight_B, huber_delta)
    return loss, td_error_B


class _TDLoss(torch.autograd.Function):
    """The loss and its derivative in closed form.

    Let c be the td error e clipped to [-delta, delta], or e for the squared loss. Both losses are c * (e - c / 2), with
    derivative c with respect to e.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        q_BA: Tensor,
        action_B1: Tensor,
        target_B: Tensor,
        weight_B: Tensor | None,
        huber_delta: float | None,
    ) -> tuple[Tensor, Tensor]:
        td_error_B = target_B - q_BA.gather(-1, action_B1).squeeze(-1)
        clipped_B = td_error_B if huber_delta is None else td_error_B.clamp(-huber_delta, huber_delta)
        loss_B = clipped_B * torch.sub(td_error_B, clipped_B, alpha=0.5)
        # Adding 0 * e makes the slope NaN where e is infinite.
        slope_B = torch.add(clipped_B, td_error_B, alpha=0.0).mul_(-1.0 / len(clipped_B))
        if weight_B is not None:
            loss_B *= weight_B
            slope_B *= weight_B
        ctx.save_for_backward(action_B1, slope_B)
        ctx.num_actions = q_BA.shape[1]  # type: ignore[attr-defined]
        ctx.mark_non_differentiable(td_error_B)
        return loss_B.mean(), td_error_B

    @staticmethod
    def backward(ctx: BackwardCFunction, gradient: Tensor, *others: Tensor) -> tuple[Tensor | None, ...]:
        action_B1, slope_B = ctx.saved_tensors  # type: ignore[misc]
        gradient_BA = slope_B.new_zeros(len(slope_B), ctx.num_actions)  # type: ignore[attr-defined]
        return gradient_BA.scatter_(-1, action_B1, (gradient * slope_B)[:, None]), None, None, None, None


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
    """Twin of `math.losses.ppo_loss`."""
    check_shapes(log_prob_B, entropy_B, value_B, old_log_prob_B, old_value_B, advantage_B, return_B)
    constants = (old_log_prob_B, old_value_B, advantage_B, return_B)
    settings = (clip_range, clip_value_range, value_weight, entropy_weight)
    loss, actor_loss, critic_loss, entropy = _PPO.apply(log_prob_B, entropy_B, value_B, constants, settings)
    return loss, actor_loss, critic_loss, entropy


class _PPO(torch.autograd.Function):
    """The objective and its derivatives in closed form, each divided by the batch size.

    d / d log pi: -ratio A where the minimum is the unclipped term; 0 where it is the clipped term, a constant.
    d / dV: value_weight * (V - R); 0 where the maximum is the loss of a clipped V, half where both are
        equal, as autograd has it.
    d / dH: -entropy_weight.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        log_prob_B: Tensor,
        entropy_B: Tensor,
        value_B: Tensor,
        constants: tuple[Tensor, ...],
        settings: tuple[float | Tensor, float | None, float, float],
    ) -> tuple[Tensor, ...]:
        old_log_prob_B, old_value_B, advantage_B, return_B = constants
        clip_range, clip_value_range, value_weight, entropy_weight = settings
        share = 1.0 / len(log_prob_B)
        ratio_B = (log_prob_B - old_log_prob_B).exp_()
        surrogate_B = ratio_B * advantage_B
        low, high = 1.0 - clip_range, 1.0 + clip_range
        clipped_B = ratio_B.clamp_(low, high).mul_(advantage_B)  # type: ignore[arg-type]
        log_prob_gradient_B = (surrogate_B <= clipped_B) * surrogate_B
        actor_loss = torch.minimum(surrogate_B, clipped_B, out=clipped_B).mean().neg_()
        error_B = value_B - return_B
        square_B = error_B.square()
        if clip_value_range is not None:
            change_B = value_B - old_value_B
            clipped_change_B = change_B.clamp(-clip_value_range, clip_value_range)
            clipped_square_B = (old_value_B + clipped_change_B - return_B).square_()
            share_B = torch.heaviside(square_B - clipped_square_B, square_B.new_full((), 0.5))
            error_B = torch.where(clipped_change_B == change_B, error_B, error_B * share_B)
            square_B = torch.maximum(square_B, clipped_square_B)
        critic_loss, entropy = square_B.mean().mul_(0.5), entropy_B.mean()
        loss = actor_loss + value_weight * critic_loss - entropy_weight * entropy
        ctx.save_for_backward(log_prob_gradient_B.mul_(-share), error_B.mul_(value_weight * share))
        ctx.entropy_gradient = -entropy_weight * share  # type: ignore[attr-defined]
        ctx.mark_non_differentiable(actor_loss, critic_loss, entropy)
        return loss, actor_loss, critic_loss, entropy

    @staticmethod
    def backward(ctx: BackwardCFunction, gradient: Tensor, *others: Tensor) -> tuple[Tensor | None, ...]:
        log_prob_gradient_B, value_gradient_B = ctx.saved_tensors  # type: ignore[misc]
        entropy_gradient_B = (gradient * ctx.entropy_gradient).expand_as(value_gradient_B)  # type: ignore[attr-defined]
        return gradient * log_prob_gradient_B, entropy_gradient_B, gradient * value_gradient_B, None, None
