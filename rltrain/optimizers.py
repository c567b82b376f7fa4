"""Optimizer state as plain nested dicts, for checkpoints without pickle."""

from typing import Any

import torch


def state_dict(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Tensors and JSON values, keys as text."""
    state = optimizer.state_dict()
    return {
        "state": {str(index): values for index, values in state["state"].items()},
        "param_groups": state["param_groups"],
    }


def load_state_dict(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take back what `state_dict` gave."""
    by_index = {int(index): values for index, values in state["state"].items()}
    optimizer.load_state_dict({"state": by_index, "param_groups": state["param_groups"]})
