"""Action distributions as functions of a network's outputs. Legend: B batch, A actions or action dimensions."""

import math

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction, FunctionCtx


def categorical_log_prob_entropy(logits_BA: Tensor, action_B: Tensor) -> tuple[Tensor, Tensor]:
    """log pi(a|s) and the entropy -sum pi log pi of a softmax policy.

    logits_BA: [batch, actions], float. action_B: [batch], int64. Both results: [batch], float.
    """
    log_prob_B, entropy_B = _Categorical.apply(logits_BA, action_B)
    return log_prob_B, entropy_B


class _Categorical(torch.autograd.Function):
    """One node of the graph where autograd would make ten; l_i = log pi_i and H the entropy:
    d l_a / d z_i = [i = a] - pi_i,    d H / d z_i = -pi_i (l_i + H)."""

    @staticmethod
    def forward(ctx: FunctionCtx, logits_BA: Tensor, action_B: Tensor) -> tuple[Tensor, Tensor]:
        log_prob_BA = torch.log_softmax(logits_BA, dim=-1)
        prob_BA = log_prob_BA.exp()
        entropy_B = (prob_BA * log_prob_BA).sum(dim=-1).neg_()
        ctx.save_for_backward(log_prob_BA, prob_BA, entropy_B, action_B)
        return log_prob_BA.gather(-1, action_B[:, None]).squeeze(-1), entropy_B

    @staticmethod
    def backward(ctx: BackwardCFunction, *gradients: Tensor) -> tuple[Tensor, None]:
        log_prob_BA, prob_BA, entropy_B, action_B = ctx.saved_tensors  # type: ignore[misc]
        log_prob_gradient_B, entropy_gradient_B = gradients
        common_B = torch.addcmul(log_prob_gradient_B, entropy_gradient_B, entropy_B)
        both_BA = torch.addcmul(common_B[:, None], entropy_gradient_B[:, None], log_prob_BA)
        both_BA = both_BA.mul_(prob_BA).neg_()
        return both_BA.scatter_add_(-1, action_B[:, None], log_prob_gradient_B[:, None]), None


def gaussian_log_prob_entropy(mean_BA: Tensor, log_std_BA: Tensor, action_BA: Tensor) -> tuple[Tensor, Tensor]:
    """log density and entropy of independent normal distributions.

    mean_BA, log_std_BA, action_BA: [batch, dimensions], float. Both results: [batch], float.
    """
    scaled_BA = (action_BA - mean_BA) * (-log_std_BA).exp()
    log_prob_B = -(0.5 * scaled_BA.square() + log_std_BA + 0.5 * math.log(2 * math.pi)).sum(dim=-1)
    entropy_B = (log_std_BA + 0.5 * math.log(2 * math.pi * math.e)).sum(dim=-1)
    return log_prob_B, entropy_B
