"""On a real CUDA device, `pytest -m gpu`: what tests elsewhere check on a CPU that takes the ways of CUDA."""

import copy
import json

import numpy as np
import pytest
import torch
from exact import flat
from gymnasium import spaces
from small_runs import small

from rltrain.config.network import NetworkConfig
from rltrain.config.run import RunConfig
from rltrain.errors import NonFiniteError
from rltrain.fast import graphs as cuda_graphs
from rltrain.fast.accelerate import set_up
from rltrain.fast.graphs import WARM_UPS, Graphed
from rltrain.nn import device as devices
from rltrain.nn import networks, optimizers
from rltrain.nn.trained import Trained
from rltrain.run import checkpoint

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
CUDA = torch.device("cuda")


def torso(dtype):
    space = spaces.Box(0, 255, (1, 84, 84), np.uint8)
    return networks.build(0, lambda: networks.Torso(space, 4, NetworkConfig("nature_cnn"), dtype, init=True), CUDA)


def pixels(number, size=32):
    generator = torch.Generator().manual_seed(number)
    return torch.randint(256, (size, 4, 84, 84), dtype=torch.uint8, generator=generator).to(CUDA)


class Updates:
    """A torso, its optimizer, and an update of it, plain or recorded."""

    def __init__(self, dtype, graphs, optimizer="adam"):
        self.torso = torso(dtype)
        self.trained = Trained(self.torso)
        self.optimizer = optimizers.make(optimizer, self.trained, 1e-3, 1e-5)
        self.learn = Graphed(self._learn, CUDA, self.trained.tensors, required=True) if graphs else self._learn

    def _learn(self, obs, scale):
        self.optimizer.zero_grad()
        loss = (self.torso(obs).square() * scale).mean()
        loss.backward()
        norm = optimizers.clip_gradients(self.trained, 0.5)
        self.optimizer.step()
        return {"loss": loss.detach(), "norm": norm}

    def parameters(self):
        return torch.cat([parameter.detach().flatten() for parameter in self.torso.parameters()]).cpu()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_recorded_updates_are_the_plain_ones_also_with_annealing(dtype, optimizer):
    plain, graph = Updates(dtype, False, optimizer), Updates(dtype, True, optimizer)
    for number in range(WARM_UPS + 8):
        metrics = []
        for learner in (plain, graph):
            optimizers.set_learning_rate(learner.optimizer, 1e-3 / (1 + number))
            metrics.append(learner.learn(obs=pixels(number), scale=1.0 + number))
        torch.testing.assert_close(metrics[0], metrics[1], rtol=2e-2, atol=1e-4)
        with torch.no_grad():  # acting, with the weights that were converted for it
            outputs = [learner.torso(pixels(99)) for learner in (plain, graph)]
        torch.testing.assert_close(*outputs, rtol=2e-2, atol=2e-2)
    moved = (plain.parameters() - Updates(dtype, False).parameters()).abs().mean()
    apart = (plain.parameters() - graph.parameters()).abs().mean()
    assert apart < 0.05 * moved, f"moved by {moved}, apart by {apart}"
    optimizers.check_finite(graph.trained)


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_a_bad_gradient_moves_nothing_and_is_told(graphs, optimizer):
    learner = Updates(torch.float32, graphs, optimizer)
    for number in range(WARM_UPS + 2):
        learner.learn(obs=pixels(number), scale=1.0)
    before = learner.parameters()
    state = copy.deepcopy(optimizers.state_dict(learner.optimizer, learner.trained)["state"])
    learner.learn(obs=pixels(0), scale=float("nan"))
    learner.learn(obs=pixels(1), scale=1.0)
    assert torch.equal(learner.parameters(), before)
    torch.testing.assert_close(
        optimizers.state_dict(learner.optimizer, learner.trained)["state"], state, rtol=0, atol=0
    )
    with pytest.raises(NonFiniteError, match="is not finite"):
        optimizers.check_finite(learner.trained)


def test_an_update_waits_for_nothing():
    learner = Updates(torch.bfloat16, False)
    learner.learn(obs=pixels(0), scale=1.0)
    obs = pixels(1)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        learner.learn(obs=obs, scale=1.0)
        devices.to_device(np.zeros((32, 4, 84, 84), np.uint8), CUDA)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_acting_in_bf16_follows_what_recorded_updates_change():
    learner = Updates(torch.bfloat16, True)
    act = Graphed(learner.torso, CUDA, required=True)
    for number in range(2 * WARM_UPS + 4):
        with torch.inference_mode():
            ours, plain = act(obs=pixels(5, 8)), learner.torso(pixels(5, 8))
        torch.testing.assert_close(ours, plain, rtol=1e-2, atol=1e-2)
        learner.learn(obs=pixels(number), scale=1.0)


def test_the_torsos_compute_in_bf16():
    seen = []
    module = torso(torch.bfloat16)
    for layer in module.layers:
        layer.register_forward_hook(lambda layer, inputs, output: seen.append(output.dtype))
    module(pixels(0)).sum().backward()
    assert seen and set(seen) == {torch.bfloat16}
    assert all(parameter.grad.dtype == torch.float32 for parameter in module.parameters())


def test_tf32_is_what_precision_says():
    for precision, wanted in (("tf32", True), ("fp32", False)):
        set_up(RunConfig(precision=precision, device="cuda"))
        assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == wanted
        x = torch.randn(512, 512, device=CUDA)
        error = (x @ x - (x.double() @ x.double()).float()).abs().max()
        assert (error > 1e-3) == wanted


KEYS = {
    "dqn": ["algo.train_every_steps=6"],
    "d3qn_per": [],
    "a2c": [],
    "ppo": ["algo.clip_range_end=0.01", "algo.learning_rate_end=1e-5"],
    "reinforce": [],
    "pqn": [],
}


@pytest.mark.parametrize("algo", sorted(KEYS))
def test_every_algorithm_runs_and_resumes_with_graphs_and_without_a_warning(algo, command, monkeypatch):
    recorded = []
    record = Graphed._record
    monkeypatch.setattr(Graphed, "_record", lambda graph, inputs: (recorded.append(graph), record(graph, inputs))[1])
    args = [arg for arg in small(algo, "pong") if arg != "device=cpu"]
    args += [*KEYS[algo], "device=cuda", "network=nature_cnn", "total_steps=1200", "env.max_episode_frames=400"]
    outcome = command(*args, "eval_every_steps=500", "checkpoint_every_steps=500")
    assert outcome.code == 0, outcome.err
    assert "no CUDA graph" not in outcome.err
    assert recorded or algo == "pqn", "nothing of PQN is recorded"
    resumed = command("resume", outcome.folder, "total_steps=1800", "progress=false")
    assert resumed.code == 0 and "no CUDA graph" not in resumed.err, resumed.err
    state = checkpoint.read(checkpoint.find(outcome.folder))["agent"]
    tensors = [value for _, value in flat(state) if isinstance(value, torch.Tensor)]
    assert tensors and all(tensor.isfinite().all() for tensor in tensors)


@pytest.mark.parametrize("algo", ["dqn", "ppo"])
def test_a_run_that_loses_finiteness_ends_with_code_5(algo, command, monkeypatch):
    original, calls = cuda_graphs.devices.to_device, []

    def sick(array, device):
        tensor = original(array, device)
        if getattr(array, "dtype", None) == np.float32 and tensor.numel() > 8:
            calls.append(1)
            if len(calls) > 60:
                return torch.full_like(tensor, torch.nan)
        return tensor

    args = [arg for arg in small(algo, "cartpole") if arg != "device=cpu"]
    monkeypatch.setattr("rltrain.buffers.rollout.to_device", sick)
    monkeypatch.setattr("rltrain.buffers.device_frames.to_device", sick)
    outcome = command(*args, "device=cuda", "total_steps=6000", "eval_every_steps=0")
    assert outcome.code == 5, outcome.err
    assert json.loads((outcome.folder / "nonfinite.json").read_text())["tensor"]


def test_a_compiled_run_on_the_gpu(command):
    args = [arg for arg in small("ppo", "pong") if arg != "device=cpu"]
    args += ["device=cuda", "network=nature_cnn", "total_steps=600", "env.max_episode_frames=400", "compile=true"]
    outcome = command(*args, "eval_every_steps=0")
    assert outcome.code == 0, outcome.err
    assert "no CUDA graph" not in outcome.err and "time/compile_s" in (outcome.folder / "metrics.jsonl").read_text()
