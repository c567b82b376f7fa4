"""What the arithmetic of each work needs, what this machine gives, what the environment costs, and what is reached.

    python benchmarks/roofline.py

MFLOP a step are counted layer by layer: a forward pass, and for learning the weights' and the inputs' gradients (but
for the inputs of the first layer). Matrix products and environments are measured here; steps/s are those of
benchmarks/results/. Reached is the time that arithmetic alone would take on all cores, over the time that a step takes;
with the environment's own time added it says how much is left to win. Prints a Markdown table.
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

from rltrain.app import hydra_app
from rltrain.app.resolve import resolve
from rltrain.envs import registry
from rltrain.nn import device as devices
from rltrain.nn import networks

HERE = Path(__file__).resolve().parent


def gflops(dtype: torch.dtype, size: int = 1024) -> float:
    """GFLOP/s of square matrix products on all cores, the best of several."""
    a, b, best = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype), 0.0
    for _ in range(20):
        start_s = time.perf_counter()
        for _ in range(5):
            a @ b
        best = max(best, 5 * 2 * size**3 / (time.perf_counter() - start_s) / 1e9)
    return best


def mflop_of_layers(torso: networks.Torso, example: torch.Tensor) -> list[float]:
    """MFLOP of a forward pass of one sample through each layer with weights."""
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
    """Microseconds of the clock for one agent step of the pool, random actions."""
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
    """Print the table."""
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
            config = resolve(OmegaConf.to_object(compose("config", hydra_app.normalise(list(work.ours)))))
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
