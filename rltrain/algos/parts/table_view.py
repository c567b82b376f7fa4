"""Show a table of action values: after each step, as a policy on the environment's grid, and as CSV."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rltrain.config.environments import GymConfig
from rltrain.config.user_code import describe
from rltrain.envs.tabular import toy_text
from rltrain.errors import DiskError, RltrainError, printable
from rltrain.system import csv_files, notices


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Tell an error in one line, because the training does not depend on what is shown. A DiskError stays an error."""
    try:
        yield
    except DiskError:
        raise
    except Exception as error:
        why = error.what if isinstance(error, RltrainError) else describe(error)
        notices.warn(f"{what}: {why}")


@_told("the step is not shown")
def show_step(env: GymConfig, step: int, before: Any, q: np.ndarray) -> None:
    """Print the last action, and the rows of q [S, A] that are not all 0.

    before: the walk's CURRENT record before the step.
    """
    names, actions = toy_text.state_names(env, len(q)), toy_text.action_names(env, q.shape[1])
    width = max(map(len, names))
    lines = [f"step {step}: {actions[before['action']]} in {names[before['state']]}"]
    lines.append(" " * width + "".join(f"{action:>9}" for action in actions))
    for state in np.flatnonzero(q.any(axis=1)):
        lines.append(f"{names[state]:<{width}}" + "".join(f"{value:9.4f}" for value in q[state]))
    print("\n".join(map(printable, lines)), file=sys.stderr)


@_told("the policy is not drawn")
def show_policy(env: GymConfig, q: np.ndarray) -> None:
    """Print the greedy policy of q [S, A] on the environment's grid, if the environment has one."""
    picture = toy_text.policy_picture(env, q.argmax(axis=1))
    try:
        picture.encode(getattr(sys.stderr, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        picture = picture.translate(str.maketrans("←→↑↓", "<>^v"))
    if picture:
        print("\n".join(["the greedy policy", *map(printable, picture.split("\n"))]), file=sys.stderr)


@_told("q_table.csv is not written")
def write_csv(env: GymConfig, q: np.ndarray, path: Path) -> None:
    """Write q [S, A] as CSV: one line for each state, one column for each action. Raises DiskError.

    Without names, states and actions have the numbers that the environment has for them.
    """
    header = ["state", *toy_text.action_names(env, q.shape[1])]
    states = toy_text.state_numbers(env, len(q))
    rows = ([state, *values] for state, values in zip(states, q.tolist(), strict=True))
    csv_files.write(path, [header, *rows])
