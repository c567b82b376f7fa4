"""Action distributions as functions of a network's outputs. Legend: B batch, A actions or action dimensions."""

import math

import torch
from torch import Tensor


def categorical_log_prob_entropy(logits_BA: Tensor, action_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return log pi(a|s) and the entropy -sum_a pi log pi of a softmax policy.

    logits_BA: [batch, actions], float. action_B: [batch], int64. Both results: [batch], float.
    """
    log_prob_BA = torch.log_softmax(logits_BA, dim=-1)
    entropy_B = -(log_prob_BA.exp() * log_prob_BA).sum(dim=-1)
    return log_prob_BA.gather(-1, action_B[:, None]).squeeze(-1), entropy_B


def gaussian_log_prob_entropy(mean_BA: Tensor, log_std_BA: Tensor, action_BA: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log density and the entropy of independent normal distributions.

    mean_BA, log_std_BA, action_BA: [batch, dimensions], float. Both results: [batch], float.
    """
    scaled_BA = (action_BA - mean_BA) * (-log_std_BA).exp()
    log_prob_B = -(0.5 * scaled_BA.square() + log_std_BA + 0.5 * math.log(2 * math.pi)).sum(dim=-1)
    entropy_B = (log_std_BA + 0.5 * math.log(2 * math.pi * math.e)).sum(dim=-1)
    return log_prob_B, entropy_B
