"""The check of what an algorithm of a plugin hands over: its agent and parts, actions, states, metrics and scores.

What is wrong is code 4 with the algorithm's name. Algorithms of rltrain are tested instead.
"""

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np

from rltrain.config import plugin_modules
from rltrain.config.algorithms import AlgorithmConfig
from rltrain.config.run import RunConfig
from rltrain.envs.pool import Pool, TimeStep
from rltrain.errors import EnvironmentFailure
from rltrain.run import checkpoint_files
from rltrain.system import restored

_STATE = {"state_dict": "", "load_state_dict": "state"}
_AGENT = {"policy": "obs, greedy, generator", **_STATE}
"""The methods of a part and of an agent, with their arguments."""

_OWN_PARTS = ("generators", "run")
"""What a checkpoint holds beside the agent and the parts that the algorithm names."""

_OWN_TAGS = {
    "time": ("total_timesteps", "fps", "env_fraction", "learn_fraction", "eval_fraction"),
    "rollout": ("ep_rew_mean", "ep_len_mean"),
    "memory": ("rss_mb", "cuda_allocated_mb", "cuda_peak_mb", "cuda_free_mb"),
    "env": ("restarts",),
    "eval": ("mean_reward", "std_reward", "mean_ep_length", "env_restarts"),
    "final": ("mean_reward",),
    "best": ("mean_reward",),
}
OWN_TAGS = frozenset({"step", "time_s"} | {f"{group}/{name}" for group, names in _OWN_TAGS.items() for name in names})
"""The names in metrics.jsonl and TensorBoard under which rltrain writes its own values."""

_LARGEST = float(np.finfo(np.float32).max)


def is_of_plugin(config: RunConfig) -> bool:
    """Return True if the algorithm is one of a plugin."""
    return not type(config.algo).__module__.startswith("rltrain.")


def fault(config: RunConfig, what: str, fix: str) -> EnvironmentFailure:
    """Return the error of something that an algorithm of a plugin did."""
    return EnvironmentFailure(f"algorithm '{config.algo.name}': {what}", "plugins", fix)


def answer(algo: AlgorithmConfig, method: str, kind: Any, *given: Any) -> Any:
    """Return what a method of an algorithm's settings returns. Raises EnvironmentFailure for something of no `kind`."""
    found = getattr(algo, method)(*given)
    if not isinstance(found, kind):
        what = f"algorithm '{algo.name}': {method} of its settings returned a {type(found).__name__}"
        fix = "return what `AlgorithmConfig` of rltrain/config/algorithms.py describes"
        raise EnvironmentFailure(what, "plugins", fix)
    return found


def check_part(config: RunConfig, name: str, part: Any, origin: str = "that it gives to run.begin") -> None:
    """Raise EnvironmentFailure if no checkpoint can save a part, or nobody can evaluate it as an agent."""
    if name in _OWN_PARTS:
        raise fault(config, f"a part {origin} has the name '{name}', which rltrain uses itself", "give it another name")
    if _is_ours(part):
        return
    methods = _AGENT if name == "agent" else _STATE
    if missing := plugin_modules.missing(part, methods):
        what = f"the {name} {origin} ({type(part).__name__}) has no {', '.join(missing)}"
        raise fault(config, what, "add what `Agent` of rltrain/run/evaluation.py describes")
    check_state(config, name, part.state_dict())


def check_state(config: RunConfig, name: str, state: Any) -> None:
    """Raise EnvironmentFailure for a state that no checkpoint can hold."""
    if wrong := checkpoint_files.unsaveable(state):
        what = f"state_dict of its {name} returned {wrong}, which no checkpoint can hold"
        raise fault(config, what, "return nested dicts of tensors, arrays and JSON values")


def check_restored(config: RunConfig, name: str, part: Any, state: Mapping[str, Any], whole: bool = True) -> None:
    """Raise EnvironmentFailure if `load_state_dict` of a part has not restored the state that it was given.

    whole: what `state_dict` now leaves out counts, too. An agent that is only evaluated may have less.
    """
    if _is_ours(part):
        return
    own = part.state_dict()
    check_state(config, name, own)
    if key := restored.forgotten(own, part.state_dict, state, whole):
        what = f"load_state_dict of its {name} has not restored '{key}', which state_dict returned for the checkpoint"
        raise fault(config, what, "restore there all that state_dict returns")


def check_tags(config: RunConfig, metrics: Mapping[str, Any]) -> None:
    """Raise EnvironmentFailure for metrics with names that are no texts, or rltrain's own."""
    for tag in metrics:
        if not isinstance(tag, str):
            raise fault(config, f"it records a metric with the name {tag!r:.60}", "use a text, such as train/mine")
        if tag in OWN_TAGS:
            what = f"it records a metric '{tag}', under which rltrain writes a value of its own"
            raise fault(config, what, f"give it another name, such as train/{tag.rpartition('/')[2]}")


def numbers_of(config: RunConfig, metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return metrics as floats by tag. Tensors are read. Raises EnvironmentFailure for what is no number."""
    values = {}
    for tag, value in metrics.items():
        try:
            values[tag] = float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            what = f"the metric '{tag}' that it records is a {type(value).__name__}, which is no number"
            raise fault(config, what, "record single numbers or tensors of one") from error
    return values


def called(config: RunConfig, metrics: Callable[[], Any]) -> dict[str, Any]:
    """Return what a function of metrics returns. Raises EnvironmentFailure for something else than a dict of tags."""
    found = metrics()
    if not isinstance(found, dict):
        what = f"the function that it gives to run.record returned a {type(found).__name__}"
        raise fault(config, what, "return a dict of metrics by name")
    if is_of_plugin(config):
        check_tags(config, found)
    return found


def scores(config: RunConfig, found: Any) -> dict[str, Any]:
    """Return the numbers of an evaluation as Python's. Raises EnvironmentFailure if they are not what is needed."""
    kinds: dict[str, Any] = {"mean_reward": float, "std_reward": float, "episodes": int}
    fix = "return a dict with the numbers mean_reward, std_reward and episodes"
    if not isinstance(found, dict) or (missing := [key for key in kinds if key not in found]):
        lacks = f" without {missing[0]}" if isinstance(found, dict) else ""
        raise fault(config, f"evaluate returned a {type(found).__name__}{lacks}", fix)
    kinds |= {"mean_ep_length": float, "env_restarts": int}
    for key, value in found.items():
        wanted = numbers.Integral if kinds.get(key) is int else numbers.Real
        if key in kinds and not isinstance(value, wanted):
            what = f"the {key} that evaluate returned is {value!r:.60}, a {type(value).__name__}"
            raise fault(config, what, fix)
    return {key: kind(found[key]) for key, kind in kinds.items() if key in found}


class CheckedActions:
    """A pool that takes from an algorithm of a plugin only actions that exist. Some pools would play another one."""

    def __init__(self, config: RunConfig, pool: Pool) -> None:
        self._pool, self._refuse = pool, action_check(config, pool, "train gave its pool")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def send(self, action: np.ndarray) -> None:
        """Start one step. Raises EnvironmentFailure."""
        self._refuse(action)
        self._pool.send(action)

    def step(self, action: np.ndarray) -> TimeStep:
        """Take one step. Raises EnvironmentFailure."""
        self._refuse(action)
        return self._pool.step(action)


def action_check(config: RunConfig, pool: Pool, what: str) -> Callable[[Any], None]:
    """Return the function that raises EnvironmentFailure for an action that no pool can step.

    Whether an action exists is checked for an algorithm of a plugin alone. what: words before what was found.
    """
    space: Any = pool.action_space
    shape = (pool.num_envs, *(space.shape or ()))
    is_box = isinstance(space, gymnasium.spaces.Box)
    kinds, dtype = ("biuf", "float32") if is_box else ("biu", "int64")
    least, most = _ends(space)
    looks, use = is_of_plugin(config), f"within {space}" if is_box else f"of {space}, counted from 0"

    def refuse(action: Any) -> None:
        is_array = isinstance(action, np.ndarray)
        if not is_array or action.shape != shape or action.dtype.kind not in kinds:
            found = f"an array of shape {action.shape} and dtype {action.dtype}" if is_array else type(action).__name__
            fix = f"use an array of shape {shape} and dtype {dtype}"
        elif looks and not (exists := (action >= least) & (action <= most)).all():  # NaN is neither
            found, fix = f"the actions {action[~exists].tolist()!s:.60}", f"use actions {use}"
        else:
            return
        raise fault(config, f"{what} {found}", fix)

    return refuse


def _ends(space: Any) -> tuple[Any, Any]:
    """Return the least and the largest action that exists. Those of a Box leave room for the rounding of float32."""
    if not isinstance(space, gymnasium.spaces.Box):
        return 0, getattr(space, "nvec", getattr(space, "n", math.inf)) - 1
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    room = 1e-6 * np.maximum(*(np.where(np.abs(bound) < _LARGEST, np.abs(bound), 0) for bound in (low, high)))
    return np.maximum(low - room, -_LARGEST), np.minimum(high + room, _LARGEST)


def _is_ours(part: Any) -> bool:
    return type(part).__module__.split(".")[0] == "rltrain"
