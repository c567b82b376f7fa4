"""Compare the measured time of a step with the time of its arithmetic and of its environment (a roofline).

    python benchmarks/roofline.py

The arithmetic is counted in MFLOP per step, layer by layer: forward passes, and for training the gradients of the
weights and of the inputs (but not of the first layer's inputs). The speed of matrix products and of the environments is
measured here. The measured steps/s come from benchmarks/results/.

"reached" is the time of the arithmetic alone, on all cores, divided by the measured time of a step. "with env" adds the
environment's time to it; the rest to 100% is what optimisation could still save. Prints a Markdown table.
"""

import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn
from works import WORKS

from rltrain.app import hydra_app, overrides
from rltrain.app.resolve import resolve
from rltrain.envs import registry
from rltrain.nn import device as devices
from rltrain.nn import networks

HERE = Path(__file__).resolve().parent


def gflops(dtype: torch.dtype, size: int = 1024) -> float:
    """Return the GFLOP/s of square matrix products on all cores: the best of 20 measurements."""
    a, b, best = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype), 0.0
    for _ in range(20):
        start_s = time.perf_counter()
        for _ in range(5):
            a @ b
        best = max(best, 5 * 2 * size**3 / (time.perf_counter() - start_s) / 1e9)
    return best


def mflop_of_layers(torso: networks.Torso, example: torch.Tensor) -> list[float]:
    """Return the MFLOP of a forward pass of one sample, for each layer with weights."""
    counts = []

    def count(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        weight = layer.weight
        places = output[0].numel() / weight.shape[0]
        counts.append(2 * weight.numel() * places / 1e6)

    hooks = [m.register_forward_hook(count) for m in torso.layers.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        torso.layers(example.float())
    for hook in hooks:
        hook.remove()
    return counts


def env_us(config) -> float:
    """Return the wall time of one agent step of the pool with random actions, in microseconds."""
    pool, random = registry.make_pool(config.env, config.num_envs), np.random.default_rng(0)
    try:
        pool.reset(0)
        actions = random.integers(pool.action_space.n, size=(300, config.num_envs))
        for action in actions[:20]:
            pool.step(action)
        start_s = time.perf_counter()
        for action in actions[20:]:
            pool.step(action)
        return (time.perf_counter() - start_s) / (len(actions) - 20) / config.num_envs * 1e6
    finally:
        pool.close()


def main() -> None:
    """Measure and print the table."""
    hydra_app.register_schemas()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    speed = {dtype: gflops(dtype) for dtype in (torch.float32, torch.bfloat16)}
    print(f"matrix products: {speed[torch.float32]:.0f} GFLOP/s in fp32, {speed[torch.bfloat16]:.0f} in bf16\n")
    print("| work | MFLOP a step | arithmetic alone, us | environment alone, us | measured, us | reached | with env |")
    print("|---|---|---|---|---|---|---|")
    for name, work in WORKS.items():
        result = HERE / "results" / f"{name}.json"
        if not result.exists():
            continue
        with initialize_config_dir(str(hydra_app.CONFIGS), version_base="1.3"):
            config = resolve(OmegaConf.to_object(compose("config", overrides.normalise(list(work.ours)))))
        frame_space, _ = registry.spaces(config.env)
        dtype = devices.resolve_precision(config.precision, torch.device("cpu"), len(frame_space.shape) == 3)
        torso = networks.Torso(frame_space, config.env.stack_num, config.network, dtype, init=False)
        layers = mflop_of_layers(torso, torch.zeros(1, *networks.obs_shape(frame_space, config.env.stack_num)))
        forward, learning = sum(layers), 3 * sum(layers) - layers[0]
        algo = config.algo
        if hasattr(algo, "train_every_steps"):  # DQN: acting, and learning with a pass of the target network
            updates_a_step = algo.updates_per_round / algo.train_every_steps
            mflop = forward + updates_a_step * algo.batch_size * (learning + forward)
        else:  # an actor and a critic: one torso for pixels, two for vectors
            towers = 1 if torso.pixels else 2
            mflop = towers * (forward + getattr(algo, "num_epochs", 1) * learning)
        arithmetic_us = mflop / speed[dtype] * 1e3
        env = env_us(config)
        measured_us = 1e6 / json.loads(result.read_text())["ours"]["steps_per_s"]
        print(
            f"| {name} | {mflop:.2f} | {arithmetic_us:.0f} | {env:.0f} | {measured_us:.0f} |"
            f" {arithmetic_us / measured_us:.0%} | {(arithmetic_us + env) / measured_us:.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
