"""`rltrain export RUN`: write the network of a run's agent in a format for use without rltrain."""

import contextlib
import dataclasses
import importlib.util
import io
import logging
import os
import shlex
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box, MultiDiscrete

from rltrain.algos.registry import load_agent
from rltrain.commands.arguments import RUN_KEYS, open_run, split
from rltrain.config.run import RunConfig
from rltrain.config.validate import one_of
from rltrain.envs import registry
from rltrain.errors import CheckpointError, ConfigError, DiskError, EnvironmentFailure, printable
from rltrain.run import folder as run_folder
from rltrain.run.evaluation import network_of
from rltrain.system import atomic, inside, plain_json

USAGE = (
    "rltrain export RUN [format=onnx|torchscript|pt2] [checkpoint=last|best|STEP] [out=FILE] [env.id=...]"
    " [env.cfg=FILE]"
)

_ENDINGS = {"onnx": ".onnx", "torchscript": ".pt", "pt2": ".pt2"}


def main(argv: list[str]) -> int:
    """Write the network, and a JSON file that describes its inputs and outputs.

    Returns the exit code. Raises RltrainError.
    """
    words, values = split(argv, {"format", "checkpoint", "out", *RUN_KEYS}, USAGE)
    kind = values.get("format", "onnx")
    one_of("format", kind, _ENDINGS)
    folder, config, path = open_run(words[0], values)
    if kind == "onnx" and not config.algo.is_tabular:
        _look_for_onnx()
    # Other machines use the file: export plain layers in fp32 on the CPU, however the run was trained.
    config = dataclasses.replace(config, precision="fp32", device="cpu", fast=False)
    agent = load_agent(config, path)
    network = network_of(agent)
    if not config.algo.is_tabular and not hasattr(network, "parameters"):
        fix = "let its agent have its torch module as `network`"
        raise ConfigError(f"the agent of {config.algo.name} has no network to export", "algo, plugins", fix)
    if network is None:
        table = path / "q_table.npy"
        fix = f"read {table} with numpy, or q_table.csv in the run folder"
        raise ConfigError(f"{config.algo.name} has a table and no network to export as {kind}", "format", fix)
    out = Path(values["out"]) if "out" in values else None
    if out is not None:
        _refuse_to_overwrite(out)
    example = example_obs(config)
    network.eval()
    try:
        if out is None:
            out = inside.make_folder(folder / "export") / (path.name + _ENDINGS[kind])
            if out.is_symlink() or not out.is_file():  # a file stays until the new one is whole
                inside.remove(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.exists() and not out.is_file():  # a folder, or a device, which a rename would replace
            raise DiskError("the file cannot be written: it is no regular file", str(out), "give another out=FILE")
        facts = describe(config, network, example) | {"format": kind, "checkpoint": path.name}
        if kind == "onnx":
            content = _onnx(network, example, facts)
        else:
            content = {"torchscript": _torchscript, "pt2": _pt2}[kind](network, example)
        # Not by torch, whose own writer ends the process on a full disk.
        atomic.write_parts(out, [content])
        facts |= {"run": str(folder)}  # a path of this machine, which stays out of a file to be passed on
        atomic.write_json(_description_of(out), facts)
    except OSError as error:
        where = str(out or folder / "export")
        raise DiskError(f"the file cannot be written: {error.strerror}", where, "give another out=FILE") from error
    print(printable(str(run_folder.from_here(out))))
    return 0


def _description_of(out: Path) -> Path:
    return Path(f"{out}.json")


def _refuse_to_overwrite(out: Path) -> None:
    """Raise ConfigError for a file among those of a run, or one whose description would overwrite somebody's file."""
    for path in (out, _description_of(out)):
        place = Path(os.path.realpath(path))
        run = run_folder.holding(place)
        if run is not None and not place.is_relative_to(run / "export"):
            fix = f"give out={shlex.quote(str(run_folder.from_here(run / 'export' / out.name)))}, or another folder"
            raise ConfigError(f"'{out}' lies among the files of a run", "out", fix)
    described = _description_of(out)
    if os.path.lexists(described) and not _is_ours(described):
        what = f"the description would overwrite {run_folder.from_here(described)}, which `export` did not write"
        raise ConfigError(what, "out", "give another out=FILE")


def _is_ours(path: Path) -> bool:
    """Return True for a description of an exported network."""
    with contextlib.suppress(OSError, CheckpointError):
        return {"checkpoint", "format", "outputs"} <= inside.read_json(path).keys()
    return False


def example_obs(config: RunConfig) -> Any:
    """Return a batch of two zero observations, [2, *obs_shape], with the dtype of the environment."""
    import torch

    from rltrain.nn.networks import obs_shape

    frame_space, _ = registry.spaces(config.env)
    return torch.from_numpy(np.zeros((2, *obs_shape(frame_space, config.env.stack_num)), frame_space.dtype))


def describe(config: RunConfig, network: Any, example: Any) -> dict[str, Any]:
    """Return the JSON description of an exported network: shapes, dtypes, actions and the environment's settings."""
    import torch

    with torch.inference_mode():
        outputs = network(example)
    names = output_names(outputs, config.algo.name)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    env = dataclasses.asdict(config.env)
    frame_space, action_space = registry.spaces(config.env)
    action_names = registry.action_names(config.env)
    named = len(action_names) == getattr(action_space, "n", None)
    about = "give observations as the environment returns them"
    if len(frame_space.shape or ()) == 3:
        about = "give pixels unscaled, 0 to 255: the network scales them"
    if config.env.stack_num > 1:
        about += "; stack frames with the oldest first"
    actions = {"space": str(action_space), "names": action_names if named else None}
    if isinstance(action_space, MultiDiscrete) and "policy" in names:
        actions["choices"] = choices = action_space.nvec.tolist()
        about += f"; the policy has {choices} logits, one choice after another: take the largest of each"
    if isinstance(action_space, Box) and "policy" in names:
        about += "; the policy has the means of the actions, then the logarithms of their standard deviations"
    if env.get("scale_actions"):
        about += "; actions from -1 to 1 stand for the finite bounds of the environment's action space"
    first_state, first_action = registry.counted_from(config.env)
    if first_state:
        about += f"; subtract {first_state} from the environment's states, which the network counts from 0"
    if np.any(first_action):
        about += f"; add {first_action} to the network's actions, which it counts from 0"
    return {
        "algo": config.algo.name,
        "env": env,
        "input": {"name": "obs", "shape": ["batch", *example.shape[1:]], "dtype": str(example.dtype)[6:]},
        "outputs": [
            {"name": name, "shape": ["batch", *output.shape[1:]], "dtype": str(output.dtype)[6:]}
            for name, output in zip(names, outputs, strict=True)
        ],
        "actions": actions,
        "about": about,
    }


def output_names(outputs: Any, algo: str) -> list[str]:
    """Return the names of the outputs: policy and value of an actor-critic, or the Q-values.

    Raises ConfigError if the network of a plugin returns what no format can hold.
    """
    parts = outputs if isinstance(outputs, tuple) else (outputs,)
    if wrong := [type(part).__name__ for part in parts if not hasattr(part, "untyped_storage")]:
        fix = "let its forward return a tensor or a tuple of tensors"
        raise ConfigError(f"the network of {algo} returns a {wrong[0]}, which is not exported", "algo, plugins", fix)
    if len(parts) > 2:
        return [f"output_{number}" for number in range(len(parts))]
    return ["policy", "value"][: len(parts)] if isinstance(outputs, tuple) else ["q_values"]


def _torchscript(network: Any, example: Any) -> bytes:
    """Return TorchScript, which C++ and mobile runtimes can load. torch deprecates its tracer but still has it."""
    import torch

    if os.environ.get("PYTORCH_JIT") == "0":
        raise ConfigError("PYTORCH_JIT=0 switches TorchScript off", "PYTORCH_JIT", "unset it, or use format=pt2")
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(network, example), buffer)
    return buffer.getvalue()


def _pt2(network: Any, example: Any) -> bytes:
    import torch

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor found in the group")  # of views of one tensor
        torch.export.save(_exported(network, example), buffer)
    return buffer.getvalue()


def _look_for_onnx() -> None:
    """Raise EnvironmentFailure if a package that torch needs for ONNX is missing, before torch is imported."""
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise _missing(package)


def _missing(package: str | None) -> EnvironmentFailure:
    fix = "pip install 'rltrain[export]', or use format=torchscript"
    return EnvironmentFailure(f"a package is missing: {package}", "format=onnx", fix)


def _onnx(network: Any, example: Any, facts: dict[str, Any]) -> bytes:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:  # a package is installed, but one of its own dependencies is missing
        raise _missing(error.name) from error
    import torch

    # The exporter warns about every optional package that is not installed.
    logging.getLogger("torch.onnx._internal.exporter").setLevel(logging.ERROR)
    with torch.inference_mode():
        names = output_names(network(example), facts["algo"])
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _exported(network, example), (), input_names=["obs"], output_names=names, dynamo=True, verbose=False
        )
    assert program is not None  # as dynamo=True
    model = program.model_proto
    _annotate(model, facts)
    return bytes(model.SerializeToString())


def _annotate(model: Any, facts: dict[str, Any]) -> None:
    """Name the batch axis of an ONNX model, and add facts as its metadata: texts as they are, others as JSON."""
    import onnx

    graph = model.graph
    symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if symbol and dim.dim_param == symbol:
                dim.dim_param = "batch"
    texts = {key: fact if isinstance(fact, str) else plain_json.dumps(fact) for key, fact in facts.items()}
    onnx.helper.set_model_props(model, texts)


def _exported(network: Any, example: Any) -> Any:
    """Return the network in torch's export format, for batches of any size."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
