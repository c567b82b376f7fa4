"""The optimizer step of all algorithms with a network."""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rltrain.config.run import RunConfig
from rltrain.errors import ConfigError, EnvironmentFailure, RltrainError
from rltrain.math.schedules import linear_or_constant
from rltrain.nn import optimizers
from rltrain.nn.device import batch_to_device
from rltrain.nn.micro_batches import MicroBatches
from rltrain.nn.recording import recorded
from rltrain.nn.trained import Trained
from rltrain.runtime.group import Alone, Group


class Samples(Protocol):
    """A dataclass of arrays or tensors with one row for each sample."""

    def __len__(self) -> int: ...

    def rows(self, rows: slice) -> Any:
        """Return a slice of the samples, as views."""
        ...


@dataclass
class Loss:
    """The loss of some samples."""

    value: Tensor
    """The mean loss over the samples, ()."""
    metrics: Callable[[], dict[str, Any]]
    """Returns further metrics by tag, each a mean over the samples. Called only when a log is due."""
    td_error: Tensor | None = None
    """The td errors for prioritized replay, [samples], float32, without gradient."""


class Learner:
    """An optimizer with all that an update needs: micro-batches, gradient clipping, the check for finite gradients."""

    def __init__(self, config: RunConfig, network: nn.Module, optimizer: str = "adam", eps: float = 1e-8) -> None:
        """The network must be on its device already and stay there. optimizer: a name of `optimizers.OPTIMIZERS`."""
        self._config, algo = config, config.algo
        self.device = next(network.parameters()).device
        self.trained = Trained(network)
        self._buffers = [name for name, _ in network.named_buffers()]
        self.optimizer = optimizers.make(optimizer, self.trained, algo.learning_rate, eps)
        self.micro_batches = MicroBatches(config)
        self.num_updates = 0
        """Optimizer steps so far."""
        self._update = recorded(self._update_once, config, self.device, self.trained.tensors)
        self.group: Group = Alone()
        """The processes whose gradients are averaged."""
        self._weight = 1.0
        self._metrics: list[tuple[float, Callable[[], dict[str, Any]]]] = []
        self._grad_norm: Tensor | None = None
        self._compile_s = 0.0

    def join(self, group: Group, weight: float) -> None:
        """Average the gradients of every following step over the processes of a group.

        weight: the fraction of the rows of each batch that this process has. The batches of `step` are then this
        process' rows, and its metrics those of these rows. Updates of a group are not recorded as CUDA graphs, because
        the average lies between the gradients and the optimizer step. Raises ConfigError for a network with buffers.
        """
        self.group, self._weight = group, weight
        if not group.is_alone:
            self.refuse_buffers("runtime", "use runtime=local")
            self._update = self._update_once

    def refuse_buffers(self, key: str, fix: str) -> None:
        """Raise ConfigError if the network has buffers, which no process shares: each would go on with its own."""
        if self._buffers:
            what = (
                f"updates may change the network's buffers ({', '.join(self._buffers[:3])}), and in each process alone"
            )
            raise ConfigError(what, f"network, {key}", f"{fix}, or make them parameters")

    def anneal_learning_rate(self, step: int) -> None:
        """Set the learning rate that the schedule has at agent step `step`."""
        algo = self._config.algo
        self.set_learning_rate(
            linear_or_constant(step, algo.learning_rate, algo.learning_rate_end, self._config.total_steps)
        )

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next update."""
        return float(self.optimizer.param_groups[0]["lr"])

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the learning rate of the following updates."""
        optimizers.set_learning_rate(self.optimizer, learning_rate)

    def step(self, loss_of: Callable[..., Loss], batch: Samples, **numbers: float) -> Tensor | None:
        """Take one optimizer step on the mean loss of a batch. Return the td errors [samples] if the loss has them.

        loss_of: `loss_of(samples, **numbers)` returns the loss of samples on the device. It gets the whole batch or
        some of its rows, and may be called more than once for the same rows. numbers: its keyword arguments, such as a
        clip range that a schedule changes.
        Raises OutOfMemory. Raises NonFiniteError before the optimizer steps.
        """
        # `_update_once`, on a GPU replayed as a CUDA graph.
        td_error, self._grad_norm, self._metrics = self._update(loss_of=loss_of, batch=batch, **numbers)
        self.num_updates += 1
        every = getattr(self._config.runtime, "check_every_updates", 0)
        if every and self.num_updates % every == 0 and self.group.size > 1:
            self._check_equal()
        return td_error

    def _check_equal(self) -> None:
        """Raise RltrainError if the parameters differ from those of the other processes."""
        digest = hashlib.sha256()
        for tensor in self.trained.tensors:
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        digests = self.group.gather(digest.hexdigest())
        if len(set(digests)) > 1:
            different = [str(rank) for rank, each in enumerate(digests) if each != digests[0]]
            raise RltrainError(
                f"after {self.num_updates:,} updates rank {', '.join(different)} has other parameters than rank 0",
                "runtime.check_every_updates",
                "check that all machines have the same processors and packages; go on with `rltrain resume`",
            )

    def _update_once(self, loss_of: Callable[..., Loss], batch: Samples, **numbers: Any) -> tuple[Any, Tensor, Any]:
        """Compute gradients, clip them and step the optimizer. On a GPU this is recorded as a CUDA graph."""
        td_error, metrics = self._backward(loss_of, batch, numbers)
        if self.group.size > 1:
            gradients = [tensor.grad for tensor in self.trained.tensors if tensor.grad is not None]
            self.group.mean_gradients(gradients, self._weight)
        grad_norm = optimizers.clip_gradients(self.trained, self._config.algo.max_grad_norm)
        self.optimizer.step()
        return td_error, grad_norm, metrics

    def _backward(self, loss_of: Callable[..., Loss], batch: Samples, numbers: dict[str, Any]) -> tuple[Any, Any]:
        """Replace the gradients by those of the mean loss of the batch. Return td errors and metrics."""
        self._metrics = []  # frees the memory of the last update
        if torch.is_inference_mode_enabled():  # what was computed since then can have no gradients
            what = "an environment or a plugin left torch.inference_mode() switched on, so nothing can be learned"
            raise EnvironmentFailure(what, "env.id, plugins", "use it in a `with` statement")

        def attempt(size: int) -> tuple[list[Tensor], list[tuple[float, Callable[[], dict[str, Any]]]]]:
            for tensor in self.trained.tensors:  # not optimizer.zero_grad(): in A3C the optimizer has shared tensors
                tensor.grad = None
            td_errors: list[Tensor] = []
            metrics: list[tuple[float, Callable[[], dict[str, Any]]]] = []
            for part, share in self._parts(batch, size):
                with torch.enable_grad():  # an environment may have switched gradients off
                    loss = loss_of(part, **numbers)
                (loss.value if share == 1.0 else share * loss.value).backward()
                if loss.td_error is not None:
                    td_errors.append(loss.td_error)
                values = partial(_with_loss, loss.value.detach(), loss.metrics)
                # The metrics of a micro-batch are computed now, so that its memory is free for the next one.
                metrics.append((share, values if share == 1.0 else partial(dict, values())))
            return td_errors, metrics

        start_s = time.perf_counter()
        td_errors, metrics = self.micro_batches.until_it_fits(len(batch), attempt)
        # torch compiles during the first forward and backward pass.
        self._compile_s = self._compile_s or time.perf_counter() - start_s
        td_error = (td_errors[0] if len(td_errors) == 1 else torch.cat(td_errors)) if td_errors else None
        return td_error, metrics

    def compute_gradients(self, loss_of: Callable[..., Loss], batch: Samples, **numbers: float) -> Tensor | None:
        """Compute and clip the gradients as in `step`, but do not step the optimizer. Return the td errors, if any."""
        td_error, self._metrics = self._backward(loss_of, batch, numbers)
        self._grad_norm = optimizers.clip_gradients(self.trained, self._config.algo.max_grad_norm)
        return td_error

    def infer(self, values_of: Callable[[Any], Tensor], batch: Samples) -> Tensor:
        """Return `values_of(batch)`, [samples, ...], without gradients, in micro-batches. Raises OutOfMemory."""

        def attempt(size: int) -> Tensor:
            with torch.inference_mode():
                return torch.cat([values_of(part) for part, _ in self._parts(batch, size)])

        return self.micro_batches.until_it_fits(len(batch), attempt)

    def metrics(self) -> dict[str, Any]:
        """Return the metrics of the last update by tag. Empty before the first update.

        Raises NonFiniteError on a device where updates are asynchronous, if a gradient was not finite.
        """
        if self._grad_norm is None:
            return {}
        optimizers.check_finite(self.trained)
        values: dict[str, Any] = {}
        for share, metrics in self._metrics:
            for tag, value in metrics().items():
                values[tag] = value if share == 1.0 else values.get(tag, 0) + share * value
        values["train/grad_norm"] = self._grad_norm
        values["train/n_updates"] = self.num_updates
        values["train/learning_rate"] = self.learning_rate
        return values | ({"time/compile_s": self._compile_s} if self._config.compile else {})

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state and the number of updates. The agent saves the network itself."""
        return {"optimizer": optimizers.state_dict(self.optimizer, self.trained), "num_updates": self.num_updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        optimizers.load_state_dict(self.optimizer, self.trained, state["optimizer"])
        self.num_updates = int(state["num_updates"])

    def _parts(self, batch: Samples, size: int) -> Iterator[tuple[Any, float]]:
        """Yield (part, share): micro-batches of at most `size` samples on the device, and their share of the batch."""
        num_samples = len(batch)
        if size >= num_samples:
            yield batch_to_device(batch, self.device), 1.0
            return
        for start in range(0, num_samples, size):
            rows = slice(start, min(start + size, num_samples))
            yield batch_to_device(batch.rows(rows), self.device), (rows.stop - rows.start) / num_samples


def _with_loss(value: Tensor, metrics: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return {"train/loss": value, **metrics()}
