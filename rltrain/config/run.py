"""The settings of a run. Nothing here imports torch, Hydra or an emulator."""

import re
from dataclasses import dataclass, field
from typing import Any

from rltrain.config.network import NetworkConfig
from rltrain.config.validate import at_least, in_range, one_of
from rltrain.errors import ConfigError


@dataclass
class RunConfig:
    """Everything that defines a run. `algo`, `env` and `network` hold the schema of the chosen option."""

    algo: Any = None
    env: Any = None
    network: NetworkConfig = field(default_factory=NetworkConfig)
    seed: int = 0
    """Source of every random number."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: str = "auto"
    """fp32, bf16 (torsos only; heads stay fp32), tf32 (fp32 of which CUDA multiplies 10 bits of the fraction), or auto:
    bf16 for convolutions where that is the quicker one, else fp32."""
    fast: bool = True
    """Compute with accelerated twins of the plain functions: the same results to rounding. false: the plain functions,
    to rule the fast ones out."""
    cuda_graphs: str = "auto"
    """Record the kernels of acting and of updates once and launch them together: true, false, or auto: on CUDA."""
    compile: bool = False
    """Let torch.compile make kernels of the network for its updates: half a minute or more at the start, then quicker
    updates; the metric time/compile_s says how long."""
    total_steps: int = 100_000
    """Agent decisions, over all environments."""
    num_envs: int | None = None
    """null: the algorithm's tuned value."""
    batch_size: int | None = None
    """null: the algorithm's tuned value."""
    micro_batch_size: int | None = None
    """Samples whose gradients are computed at once and then added up to the batch's: the same mathematics in less
    memory. null: whole batches."""
    oom: str = "fail"
    """Where an update runs out of memory: `fail` ends the run with code 6 and the micro_batch_size that fits; `split`
    takes it from then on and repeats the update."""
    log_every_s: float = 2.0
    """Seconds between refreshes of the progress line."""
    log_every_steps: int | None = None
    """Agent steps between lines of metrics.jsonl; null: a hundredth of total_steps. In steps, so that the same seed
    gives the same lines."""
    eval_every_steps: int | None = None
    """Agent steps between evaluations; null: a tenth of total_steps; 0: never."""
    eval_episodes: int = 10
    """Episodes of an evaluation during training."""
    final_eval_episodes: int = 20
    """Episodes of the evaluation after the last step."""
    eval_greedy: bool = True
    """Evaluate with the most probable action; false: sample as in training. `rltrain eval` and `play` do the same,
    unless they are given greedy=true or greedy=false."""
    checkpoint_every_steps: int | None = None
    """Agent steps between checkpoints; null: a fifth of total_steps, and at most an eighth of a replay of more than
    1 GB; 0: only at the end."""
    checkpoint_keep_every_steps: int | None = None
    """Agent steps between checkpoints that stay for good, beside the newest two and the best; null: none."""
    run_dir: str = "runs"
    """Folder that holds the run folders."""
    name: str | None = None
    """Appended to the run folder's name."""
    plugins: list[str] = field(default_factory=list)
    """Modules of yours that register algorithms, environments or networks: see rltrain/plugins.py. They are imported
    because of the command line alone, so `resume`, `eval` and the others want them named again."""
    dry_run: bool = False
    """Build everything, do one update in a temporary folder, print shapes and sizes."""
    progress: bool = True
    """Show the panel and the progress line."""

    def __post_init__(self) -> None:
        in_range("seed", self.seed, 0, 2**63 - 1)
        if not self.run_dir:
            raise ConfigError("the folder of the runs has no name", "run_dir", "leave it out, or give run_dir=DIR")
        one_of("oom", self.oom, ("fail", "split"))
        one_of("precision", self.precision, ("auto", "fp32", "tf32", "bf16"))
        self.cuda_graphs = self.cuda_graphs.lower()  # Hydra makes a truth value of `true` and text of that
        one_of("cuda_graphs", self.cuda_graphs, ("auto", "true", "false"))
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise ConfigError(f"unknown device '{self.device}'", "device", "use auto, cpu, cuda, cuda:1 or mps")
        at_least("total_steps", self.total_steps, 1)
        at_least("num_envs", self.num_envs, 1)
        at_least("batch_size", self.batch_size, 1)
        at_least("micro_batch_size", self.micro_batch_size, 1)
        at_least("log_every_s", self.log_every_s, 0.05)
        at_least("log_every_steps", self.log_every_steps, 1)
        at_least("eval_every_steps", self.eval_every_steps, 0)
        at_least("eval_episodes", self.eval_episodes, 1)
        at_least("final_eval_episodes", self.final_eval_episodes, 1)
        at_least("checkpoint_every_steps", self.checkpoint_every_steps, 0)
        at_least("checkpoint_keep_every_steps", self.checkpoint_keep_every_steps, 1)
        if self.name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", self.name):
            raise ConfigError(f"'{self.name}' cannot be part of a folder name", "name", "use letters, digits, . _ -")
