"""`rltrain doctor`: check what works on this machine, what is missing, and how to fix it."""

import contextlib
import importlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import psutil

from rltrain.commands.arguments import split
from rltrain.system import process, terminal
from rltrain.watching import screens

USAGE = "rltrain doctor"

_TIMEOUT_S = 120
_COLOURS = {"ok": "green", "missing": "red", "note": "yellow"}
"""Colours of the states of a finding."""
_PACKAGES = ("rltrain", "torch", "numpy", "gymnasium", "hydra-core", "tensorboard", "numba", "safetensors", "rich")
_EXTRAS = {
    "plot": ("matplotlib",),
    "video": ("imageio_ffmpeg",),
    "export": ("onnx", "onnxscript"),
    "sweep": ("hydra_plugins.hydra_joblib_launcher",),
    "retro": ("stable_retro",),
    "ray": ("ray",),
}
_RETRO_GAMES = (
    "Airstriker-Genesis-v0",
    "SonicTheHedgehog-Genesis-v0",
    "SonicTheHedgehog2-Genesis-v0",
    "SonicTheHedgehog3-Genesis-v0",
)


class Finding(NamedTuple):
    """One line of the report."""

    state: str
    """ok, missing, or note (for information)."""
    what: str
    fix: str = ""


def main(argv: list[str]) -> int:
    """Print one line for each finding. Always returns 0: only the user knows which parts are needed."""
    split(argv, set(), USAGE, min_words=0, max_words=0)
    checks: list[tuple[str, Callable[[], list[Finding]]]] = [
        ("versions", _versions),
        ("machine", _machine),
        ("disk", _disk),
        ("torch", _torch),
        ("torchrun", _torchrun),
        *((name, lambda name=name: _in_process(name)) for name in EMULATORS),
        ("video", _video),
        ("display", _display),
        ("extras", _extras),
    ]
    pool = ThreadPoolExecutor()  # several checks start a process and wait for it
    try:
        reports = list(pool.map(lambda check: _safe(check[1]), checks))
    except KeyboardInterrupt:
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    missing = 0
    for (name, _), findings in zip(checks, reports, strict=True):
        for state, what, fix in findings:
            missing += state == "missing"
            line = f"{state:<8} {name:<9} {what}" + (f"; {fix}" if fix else "")
            line = terminal.wrapped(line, sys.stdout, indent=19)
            print(terminal.styled(line[:8], _COLOURS[state], sys.stdout) + line[8:])
    print(f"{missing} missing" if missing else "everything works")
    return 0


def _safe(check: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return check()
    except Exception as error:
        return [Finding("missing", f"the check failed: {type(error).__name__}: {error}")]


def _versions() -> list[Finding]:
    versions = []
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(f"{package} {metadata.version(package)}")
    return [Finding("ok", f"Python {platform.python_version()}, {', '.join(versions)}")]


def _machine() -> list[Finding]:
    memory = psutil.virtual_memory()
    free = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB memory free"
    return [Finding("ok", f"{platform.system()} {platform.machine()}, {process.usable_cores()} cores usable, {free}")]


def _disk() -> list[Finding]:
    findings = []
    for place, needed_gb, use in ((Path(), 1.0, "runs"), (Path(tempfile.gettempdir()), 0.2, "temporary files")):
        free_gb = shutil.disk_usage(place).free / 1e9
        state, fix = ("ok", "") if free_gb >= needed_gb else ("missing", "free some space")
        findings.append(Finding(state, f"{free_gb:.1f} GB free for {use} in {place.resolve()}", fix))
        if not os.access(place, os.W_OK):
            findings.append(Finding("missing", f"{place.resolve()} cannot be written", "use another folder"))
    if Path("/dev/shm").is_dir():
        free_gb = shutil.disk_usage("/dev/shm").free / 1e9
        state, fix = ("ok", "") if free_gb >= 0.1 else ("missing", "Doom needs it: docker run --shm-size=1g")
        findings.append(Finding(state, f"{free_gb:.1f} GB shared memory free", fix))
    return findings


def _torch() -> list[Finding]:
    import torch

    from rltrain.nn.device import resolve_device, resolve_precision

    findings = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        findings.append(Finding("ok", f"cuda:{index} {name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free"))
    if not findings and shutil.which("nvidia-smi"):
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
        what = f"torch cannot use the GPU (torch was built for {built})"
        findings.append(Finding("missing", what, "install another torch: see pytorch.org/get-started"))
    if not findings and torch.backends.mps.is_available():
        findings.append(Finding("ok", "mps"))
    findings = findings or [Finding("note", "no GPU; training runs on the CPU")]
    precision = str(resolve_precision("auto", resolve_device("auto"), pixels=True)).removeprefix("torch.")
    return [*findings, Finding("ok", f"device=auto is {resolve_device('auto')}; precision=auto is {precision}")]


def _torchrun() -> list[Finding]:
    import torch

    if not torch.distributed.is_available():
        return [Finding("missing", "this torch has no torch.distributed", "install another torch for runtime=torchrun")]
    nccl = "NCCL between GPUs" if torch.distributed.is_nccl_available() else "no NCCL: processes with GPUs need it"
    return [Finding("ok", f"runtime=torchrun: gloo between processes, {nccl}")]


def _video() -> list[Finding]:
    program = screens.ffmpeg()
    if program is None:
        return [Finding("missing", "no ffmpeg, so videos are GIFs", "pip install 'rltrain[video]'")]
    done = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=_TIMEOUT_S)
    return [Finding("ok", " ".join(done.stdout.split()[:3]))]


def _display() -> list[Finding]:
    if screens.has_display():
        return [Finding("ok", "`rltrain play` opens a window")]
    return [Finding("note", "no display; `rltrain play` writes a video file")]


def _extras() -> list[Finding]:
    findings = []
    for extra, modules in _EXTRAS.items():
        absent = [module for module in modules if importlib.util.find_spec(module.split(".")[0]) is None]
        if absent:
            findings.append(Finding("note", f"{extra}: no {', '.join(absent)}", f"pip install 'rltrain[{extra}]'"))
        else:
            findings.append(Finding("ok", f"{extra}: {', '.join(modules)}"))
    return findings


def _in_process(name: str) -> list[Finding]:
    """Check an emulator in a process of its own, so that a crash or hang does not end the report."""
    program = [*process.python("from rltrain.commands import doctor; doctor.check_emulator(sys.argv[1])"), name]
    try:
        encoded = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        done = subprocess.run(program, capture_output=True, encoding="utf-8", timeout=_TIMEOUT_S, env=encoded)
    except subprocess.TimeoutExpired:
        return [Finding("missing", f"no answer within {_TIMEOUT_S} s", "reinstall its package")]
    findings = [Finding(*line.split("\t")) for line in done.stdout.splitlines() if line.count("\t") == 2]
    if findings:
        return findings
    reason = (done.stderr.strip().splitlines() or ["without a message"])[-1]
    return [Finding("missing", f"the check ended with code {done.returncode}: {reason}", "reinstall its package")]


def _doom() -> list[Finding]:
    from rltrain.config.environments import DoomConfig
    from rltrain.envs.doom.scenario import scenarios

    _step(DoomConfig("doctor"))
    return [Finding("ok", f"ViZDoom {metadata.version('vizdoom')} plays; {len(scenarios())} scenarios")]


def _atari() -> list[Finding]:
    from rltrain.config.environments import AtariConfig
    from rltrain.envs.atari.pool import games

    _step(AtariConfig("doctor", game="pong"))
    return [Finding("ok", f"ale-py {metadata.version('ale-py')} plays; {len(games())} games")]


def _box2d() -> list[Finding]:
    from rltrain.config.environments import GymConfig

    _step(GymConfig("doctor", id="LunarLander-v3"))
    return [Finding("ok", "LunarLander plays")]


def _retro() -> list[Finding]:
    try:
        import stable_retro
    except ImportError:
        return [Finding("note", "no stable-retro, so no console games", "pip install 'rltrain[retro]'")]
    findings = []
    for game in _RETRO_GAMES:
        try:
            stable_retro.data.get_romfile_path(game, stable_retro.data.Integrations.ALL)
            findings.append(Finding("ok", f"{game}: ROM found"))
        except FileNotFoundError:
            findings.append(Finding("note", f"{game}: no ROM", "python -m stable_retro.import FOLDER_WITH_YOUR_ROM"))
    return findings


def _step(config: object) -> None:
    """Make one step in one environment."""
    import numpy as np

    from rltrain.envs import registry

    with contextlib.closing(registry.make_pool(config, 1)) as pool:
        pool.reset(0)
        pool.step(np.array([0]))


EMULATORS: dict[str, Callable[[], list[Finding]]] = {
    "doom": _doom,
    "atari": _atari,
    "box2d": _box2d,
    "retro": _retro,
}


def check_emulator(name: str) -> None:
    """Print the findings of one emulator: the main function of a process of its own."""
    for finding in _safe(EMULATORS[name]):
        print("\t".join(" ".join(part.split()) for part in finding))
