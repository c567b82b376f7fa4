"""What the tests of the whole program share: the command line, called in this process."""

import importlib.util
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    # Test processes share the cores: threads that wait for a core hold up all others. Torch reads this at its import.
    share = len(psutil.Process().cpu_affinity()) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ["OMP_NUM_THREADS"] = str(max(1, share))

import torch
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra

from rltrain import cli, plugins
from rltrain.algos.registry import PLUGIN_MODULES
from rltrain.config import network, plugin_modules
from rltrain.config.algorithms import ALGOS
from rltrain.config.environments import ENVIRONMENTS
from rltrain.envs.registry import MODULES
from rltrain.fast.accelerate import accelerate
from rltrain.run.run import Run
from rltrain.system import notices

LONG = Path(__file__).with_name("long.txt")
"""The tests that `pytest` leaves out, as they alone would take more than half of its time."""
_REGISTRIES = (plugins.OPTIONS, ALGOS, PLUGIN_MODULES, ENVIRONMENTS, MODULES, network.OWN, network.SMALLEST_FRAME)
"""What a plugin adds to."""


def pytest_addoption(parser):
    """Here, as pytest reads the options of this file alone before it collects."""
    parser.addoption("--long", action="store_true", help="ten times as many tries of every fault")
    if importlib.util.find_spec("xdist") is None:  # a bare machine with a GPU: one process, the same command
        parser.addoption("--numprocesses", help="needs pytest-xdist")
        parser.addoption("--dist", help="needs pytest-xdist")


@pytest.hookimpl(tryfirst=True)  # before those that are marked slow are taken out
def pytest_collection_modifyitems(items):
    """Mark what long.txt lists as slow."""
    long = set(LONG.read_text().splitlines())
    for item in items:
        if item.nodeid.removeprefix("tests/") in long:
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def _nothing_told(monkeypatch):
    """Let each test see what is told once in a process."""
    monkeypatch.setattr(notices, "_told", set())


@dataclass
class Outcome:
    """What a call of the command line left behind."""

    code: int
    out: str
    err: str
    run_dir: Path

    @property
    def last_line(self) -> str:
        """The last line on stderr."""
        return (self.err.strip().splitlines() or [""])[-1]

    @property
    def folder(self) -> Path:
        """The newest run folder."""
        return (self.run_dir / "latest").resolve()

    def json(self, name: str):
        """A JSON file of the newest run folder."""
        return json.loads((self.folder / name).read_text())


@pytest.fixture(autouse=True)
def process_settings():
    """Every test begins with the twins, threads, tiny numbers and plugins of a fresh process.

    A run in this process changes all of them. Hypothesis draws tiny numbers and does not take them for 0.
    """
    num_threads = torch.get_num_threads()
    accelerate(True)
    loaded, named = list(plugin_modules.LOADED), set(plugin_modules.NAMED)
    before = [dict(registry) for registry in _REGISTRIES]
    yield
    # A worker process of a later test would import what an earlier one had loaded, and a list would show its options.
    plugin_modules.LOADED[:] = loaded
    plugin_modules.NAMED.intersection_update(named)
    for registry, entries in zip(_REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(entries)
    torch.set_num_threads(num_threads)
    torch.set_flush_denormal(False)


@pytest.fixture
def command(tmp_path, monkeypatch, capfd):
    """Call `rltrain ARGS` in an empty working directory; what it makes goes to runs/ there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rltrain"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    # Hydra composes every command line twice: once only to see whether `hydra.mode` asks for a sweep, which no test of
    # this fixture does.
    monkeypatch.setattr(Hydra, "get_mode", lambda self, config_name, overrides: None)

    def call(*args: object) -> Outcome:
        argv = [str(arg) for arg in args]
        sys.argv = ["rltrain", *argv]
        GlobalHydra.instance().clear()
        capfd.readouterr()
        code = cli.run(argv)
        assert not GlobalHydra.instance().is_initialized(), "Hydra's global state outlives the call"
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err, tmp_path / "runs")

    return call


@pytest.fixture
def stop_at(monkeypatch):
    """Send this process a signal as soon as the run has done so many steps."""

    def arm(step, number=signal.SIGTERM):
        original = Run.advance

        def advance(self, num_steps, episodes):
            original(self, num_steps, episodes)
            if self.step - num_steps < step <= self.step:
                os.kill(os.getpid(), number)

        monkeypatch.setattr(Run, "advance", advance)

    yield arm
    monkeypatch.undo()
