"""Tell of an environment that keeps something from episode to episode, which each evaluation begins without.

A wrapper may learn a mean to normalise observations or rewards, or an environment a level. A training then goes on with
what it has by then, while an evaluation, a resumed run or a worker in place of a lost one begins anew.
"""

import numpy as np

from rltrain.config.environments import GymConfig
from rltrain.envs.gym.make import tells_of_statistics
from rltrain.envs.patience import StandsStill, is_stopping, within
from rltrain.envs.pool import Pool, TimeStep
from rltrain.errors import RltrainError
from rltrain.system import notices

_TOLERANCE = 0.01
"""By which numbers may differ, as a share of the largest. A physics engine keeps a little: in BipedalWalker, a reset
with the same seed leads to first rewards that differ by 0.003. Its observations after a step differ by more."""


_LONGEST_S = 10.0
"""The longest reset or step of this look, in seconds."""


def tell_if_kept(
    config: GymConfig, pool: Pool, seed: int, frame: np.ndarray, action: np.ndarray, first: TimeStep
) -> None:
    """Warn once if environments that have been played begin otherwise than they did when they were new.

    They are reset with the same seed and stepped once. frame, action, first: the first observations, the first actions
    and what these led to. An environment that fails or hangs by that is left alone.
    """
    key = f"{config.id} {config.kwargs}"
    if key in _looked_at or tells_of_statistics(config.id) or is_stopping():
        return
    _looked_at.add(key)
    try:
        with within(_LONGEST_S):
            now = pool.reset(seed)
            step = pool.step(action)
    except (RltrainError, StandsStill):
        return
    if is_stopping():  # what fails then is left out, and its numbers are zeros
        return
    if differ := [
        name
        for name, old, new in (
            ("first observation", frame, now),
            ("reward of the first action", first.reward, step.reward),
        )
        if not _alike(old, new)
    ]:
        what = f"after some episodes environment '{config.id}' has another {differ[0]} for the same seed"
        why = "it keeps something between episodes, such as a mean or a level, or draws without its seed"
        notices.warn_once(f"{what}: {why}; evaluations and resumed runs begin without what was kept")


_looked_at: set[str] = set()
"""The environments that were looked at in this process."""


def _alike(old: np.ndarray, new: np.ndarray) -> bool:
    old, new = old.astype(np.float64), new.astype(np.float64)
    return np.allclose(old, new, rtol=_TOLERANCE, atol=_TOLERANCE * np.abs(old).max(initial=0.0), equal_nan=True)
