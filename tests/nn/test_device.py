"""The device's memory in the metrics, and the precision that `auto` takes."""

import json
import os
import subprocess
import sys

import pytest
import torch
from small_runs import small

from rltrain.config.network import NetworkConfig
from rltrain.config.run import RunConfig
from rltrain.fast.accelerate import set_up
from rltrain.nn import device as devices
from rltrain.system import process


def test_the_memory_of_a_cuda_device_is_told_in_megabytes(monkeypatch):
    asked = []

    def tell(value):
        return lambda device: (asked.append(device), value)[1]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "memory_allocated", tell(3_000_000))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", tell(5_550_000))
    monkeypatch.setattr(torch.cuda, "mem_get_info", tell((70_000_000_000, 80_000_000_000)))
    tags = {"memory/cuda_allocated_mb": 3.0, "memory/cuda_peak_mb": 5.5, "memory/cuda_free_mb": 70_000.0}
    assert devices.memory_tags("cuda:1") == pytest.approx(tags, abs=0.051)
    assert set(asked) == {torch.device("cuda:1")}, "another device's memory"
    assert devices.memory_tags("cpu") == {}


@pytest.mark.parametrize("algo", ["ppo", "dqn", "reinforce"])
def test_it_is_in_the_metrics_where_there_is_such_a_device_and_only_there(algo, command, monkeypatch):
    tags = {"memory/cuda_allocated_mb": 1.0, "memory/cuda_peak_mb": 2.0, "memory/cuda_free_mb": 3.0}
    args = [arg for arg in small(algo, "cartpole") if arg != "device=cpu"]
    without = command(*args, "total_steps=128", "eval_every_steps=0")
    assert without.code == 0 and (torch.cuda.is_available() or "cuda" not in metrics(without))
    monkeypatch.setattr(devices, "memory_tags", lambda name: tags)
    outcome = command(*args, "total_steps=128", "eval_every_steps=0")
    logged = [json.loads(line) for line in metrics(outcome).splitlines()]
    assert [line for line in logged if line.items() >= tags.items()]


def metrics(outcome):
    return (outcome.folder / "metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("vendor", "flags", "quicker"),
    [
        ("AuthenticAMD", "avx2 avx512_bf16 sse", True),
        ("GenuineIntel", "avx2 avx512_bf16 sse", False),
        ("GenuineIntel", "avx512_bf16 amx_bf16 sse", True),
        ("AuthenticAMD", "avx2 avx512f", False),
    ],
)
def test_auto_takes_bf16_only_where_it_is_quicker(tmp_path, vendor, flags, quicker):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"vendor_id\t: {vendor}\nflags\t\t: fpu {flags}\n")
    assert devices._cpu_multiplies_bf16(cpuinfo) == quicker


def test_auto_takes_fp32_where_no_processor_is_told_of(tmp_path):
    assert not devices._cpu_multiplies_bf16(tmp_path / "none")


@pytest.mark.parametrize(("emulated", "dtype"), [(True, torch.float32), (False, torch.bfloat16)])
def test_auto_takes_no_bf16_that_a_gpu_only_emulates(emulated, dtype, monkeypatch):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation >= emulated
    )
    assert devices.resolve_precision("auto", torch.device("cuda"), pixels=True) == dtype


@pytest.mark.parametrize("algo", ["dqn", "pqn", "ppo"])
def test_numbers_that_slow_an_intel_processor_down_become_0(algo, command):
    tiny = torch.full((10,), 1e-37)
    torch.set_flush_denormal(False)
    assert (tiny * 0.01).all(), "a number below float32's normal range"
    assert command(*small(algo, "cartpole"), "total_steps=64", "eval_every_steps=0").code == 0
    assert not (tiny * 0.01).any()


AFTER_A_TRAINING = """
import sys, torch
from rltrain.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code
print("threads", torch.get_num_threads(), "left", int((torch.full((400_000,), 1e-37) * 0.01).count_nonzero()))
"""


@pytest.mark.parametrize(
    ("named", "threads"),
    [("1", 1), ("2", 2), ("3,1", 3), ("64", 4), ("0", 4), ("", 4), ("-1", 4), ("many", 4), (None, 4)],
)
def test_large_layers_take_the_threads_that_the_user_or_a_sweep_names(named, threads, monkeypatch):
    monkeypatch.setattr(process, "usable_cores", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if named is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", named)
    before = torch.get_num_threads()
    try:
        for network, wanted in (("nature_cnn", threads), ("small_cnn", 1), ("impala_cnn", threads), ("mlp", 1)):
            set_up(RunConfig(network=NetworkConfig(network), device="cpu"))
            assert torch.get_num_threads() == wanted, network
    finally:
        torch.set_num_threads(before)


def test_they_do_so_in_every_thread_of_a_training(tmp_path):
    keys = [*small("ppo", "pong"), "network=nature_cnn", "total_steps=128", "eval_every_steps=0", f"run_dir={tmp_path}"]
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    outcome = subprocess.run([sys.executable, "-c", AFTER_A_TRAINING, *keys], capture_output=True, text=True, env=env)
    told = outcome.stdout.split()
    assert told[-2:] == ["left", "0"], outcome.stdout + outcome.stderr
    assert told[-3] == str(process.usable_cores())  # of one thread alone this would say nothing
