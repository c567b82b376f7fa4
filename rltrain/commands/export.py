"""`rltrain export RUN`: write the network of a run's agent in a format for use without rltrain."""

import contextlib
import dataclasses
import importlib.util
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from rltrain.algos.registry import load_agent
from rltrain.commands.arguments import RUN_KEYS, open_run, split
from rltrain.config.run import RunConfig
from rltrain.config.validate import one_of
from rltrain.envs import registry
from rltrain.errors import ConfigError, DiskError, EnvironmentFailure
from rltrain.run.evaluation import Agent
from rltrain.system import atomic, inside

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
    if network is None:
        table = path / "q_table.npy"
        fix = f"read {table} with numpy, or q_table.csv in the run folder"
        raise ConfigError(f"{config.algo.name} has a table and no network to export as {kind}", "format", fix)
    out = Path(values["out"]) if "out" in values else None
    example = example_obs(config)
    network.eval()
    try:
        if out is None:
            out = inside.make_folder(folder / "export") / (path.name + _ENDINGS[kind])
            inside.remove(out)  # it may be a link
        out.parent.mkdir(parents=True, exist_ok=True)
        {"onnx": _onnx, "torchscript": _torchscript, "pt2": _pt2}[kind](network, example, out)
        facts = describe(config, network, example) | {"format": kind, "checkpoint": path.name, "run": str(folder)}
        atomic.write_json(out.with_name(out.name + ".json"), facts)
    except OSError as error:
        where = str(out or folder / "export")
        raise DiskError(f"the file cannot be written: {error.strerror}", where, "give another out=FILE") from error
    print(out)
    return 0


def network_of(agent: Agent) -> Any:
    """Return the agent's torch module, or None for a tabular agent."""
    return getattr(agent, "network", None)


def example_obs(config: RunConfig) -> Any:
    """Return a batch of two zero observations, [2, *obs_shape], with the dtype of the environment."""
    import torch

    from rltrain.nn.networks import obs_shape

    frame_space, _ = registry.spaces(config.env)
    return torch.from_numpy(np.zeros((2, *obs_shape(frame_space, config.env.stack_num)), frame_space.dtype))


def describe(config: RunConfig, network: Any, example: Any) -> dict[str, Any]:
    """Return the JSON description of an exported network: shapes, dtypes and the settings of the environment."""
    import torch

    with torch.inference_mode():
        outputs = network(example)
    names = output_names(outputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    env = dataclasses.asdict(config.env)
    about = "give pixels unscaled, 0 to 255: the network scales them; stack frames with the oldest first"
    if env.get("scale_actions"):
        about += "; actions from -1 to 1 stand for the finite bounds of the environment's action space"
    return {
        "algo": config.algo.name,
        "env": env,
        "input": {"name": "obs", "shape": ["batch", *example.shape[1:]], "dtype": str(example.dtype)[6:]},
        "outputs": [
            {"name": name, "shape": ["batch", *output.shape[1:]], "dtype": str(output.dtype)[6:]}
            for name, output in zip(names, outputs, strict=True)
        ],
        "about": about,
    }


def output_names(outputs: Any) -> list[str]:
    """Return the names of the outputs: policy and value of an actor-critic, or the Q-values."""
    return ["policy", "value"] if isinstance(outputs, tuple) else ["q_values"]


def _torchscript(network: Any, example: Any, out: Path) -> None:
    """Write TorchScript, which C++ and mobile runtimes can load. torch deprecates its tracer but still has it."""
    import torch

    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, example).save(str(out))


def _pt2(network: Any, example: Any, out: Path) -> None:
    import torch

    torch.export.save(_exported(network, example), out)


def _look_for_onnx() -> None:
    """Raise EnvironmentFailure if a package that torch needs for ONNX is missing, before torch is imported."""
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise _missing(package)


def _missing(package: str | None) -> EnvironmentFailure:
    fix = "pip install 'rltrain[export]', or use format=torchscript"
    return EnvironmentFailure(f"a package is missing: {package}", "format=onnx", fix)


def _onnx(network: Any, example: Any, out: Path) -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:  # a package is installed, but one of its own dependencies is missing
        raise _missing(error.name) from error
    import torch

    # The exporter warns about every optional package that is not installed.
    logging.getLogger("torch.onnx._internal.exporter").setLevel(logging.ERROR)
    with torch.inference_mode():
        names = output_names(network(example))
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _exported(network, example),
            (),
            str(out),
            input_names=["obs"],
            output_names=names,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _exported(network: Any, example: Any) -> Any:
    """Return the network in torch's export format, for batches of any size."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
