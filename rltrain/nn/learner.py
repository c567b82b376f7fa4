"""The one optimizer step that every algorithm takes."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rltrain.config.run import RunConfig
from rltrain.math.schedules import linear_or_constant
from rltrain.nn import optimizers
from rltrain.nn.device import batch_to_device
from rltrain.nn.micro_batches import MicroBatches
from rltrain.nn.recording import recorded
from rltrain.nn.trained import Trained


class Samples(Protocol):
    """A dataclass of arrays or tensors with one row for each sample."""

    def __len__(self) -> int: ...

    def rows(self, rows: slice) -> Any:
        """Return some of the samples, as views."""
        ...


@dataclass
class Loss:
    """What an algorithm minimises, of some samples."""

    value: Tensor
    """The mean over the samples, ()."""
    metrics: Callable[[], dict[str, Any]]
    """Returns metrics by tag, means over the samples, beside `train/loss`; called only when a log is due."""
    td_error: Tensor | None = None
    """Without gradient, [samples], float32: for priorities."""


class Learner:
    """A network and its optimizer: gradients whole or in micro-batches, clipped, checked, stepped, counted."""

    def __init__(self, config: RunConfig, network: nn.Module, optimizer: str = "adam", eps: float = 1e-8) -> None:
        """The network must be on its device, and stay there. The algorithm's settings give the rest."""
        self._config, algo = config, config.algo
        self.device = next(network.parameters()).device
        self.trained = Trained(network)
        self.optimizer = optimizers.make(optimizer, self.trained, algo.learning_rate, eps)
        self.micro_batches = MicroBatches(config)
        self.num_updates = 0
        """Optimizer steps so far."""
        self._update = recorded(self._update_once, config, self.device, self.trained.tensors)
        self._metrics: list[tuple[float, Callable[[], dict[str, Any]]]] = []
        self._grad_norm: Tensor | None = None
        self._compile_s = 0.0

    def anneal(self, step: int) -> None:
        """Set the step size for the updates that follow on agent step `step`."""
        algo = self._config.algo
        self.set_learning_rate(
            linear_or_constant(step, algo.learning_rate, algo.learning_rate_end, self._config.total_steps)
        )

    @property
    def learning_rate(self) -> float:
        """The step size of the next update."""
        return float(self.optimizer.param_groups[0]["lr"])

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the step size of the updates that follow."""
        optimizers.set_learning_rate(self.optimizer, learning_rate)

    def step(self, loss_of: Callable[..., Loss], batch: Samples, **numbers: float) -> Tensor | None:
        """Take one optimizer step on the mean loss of a batch; returns the td errors [samples], if the loss has them.

        `loss_of(samples, **numbers)` gives the loss of a batch on the device, or of some rows of one; it may be called
        again for the same rows. numbers: what changes from update to update.
        Raises OutOfMemory, and NonFiniteError before the optimizer steps.
        """
        td_error, self._grad_norm, self._metrics = self._update(loss_of=loss_of, batch=batch, **numbers)
        self.num_updates += 1
        return td_error

    def compute_gradients(self, loss_of: Callable[..., Loss], batch: Samples, **numbers: float) -> Tensor | None:
        """As `step`, but leave the clipped gradients on the trained tensors and step nothing."""
        td_error, self._metrics = self._backward(loss_of, batch, numbers)
        self._grad_norm = optimizers.clip_gradients(self.trained, self._config.algo.max_grad_norm)
        return td_error

    def infer(self, values_of: Callable[[Any], Tensor], batch: Samples) -> Tensor:
        """Return `values_of(samples)`, [samples, ...], without gradients, in micro-batches. Raises OutOfMemory."""

        def attempt(size: int) -> Tensor:
            with torch.inference_mode():
                return torch.cat([values_of(part) for part, _ in self._parts(batch, size)])

        return self.micro_batches.until_it_fits(len(batch), attempt)

    def metrics(self) -> dict[str, Any]:
        """Return the metrics of the last update by tag; nothing before the first one.

        Raises NonFiniteError where the device tells only now that a gradient was not finite.
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
        """The optimizer's statistics and the count of updates; the network's owner saves the network."""
        return {"optimizer": optimizers.state_dict(self.optimizer, self.trained), "num_updates": self.num_updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        optimizers.load_state_dict(self.optimizer, self.trained, state["optimizer"])
        self.num_updates = int(state["num_updates"])

    def _update_once(self, loss_of: Callable[..., Loss], batch: Samples, **numbers: Any) -> tuple[Any, Tensor, Any]:
        """What can be recorded of `step`."""
        td_error, metrics = self._backward(loss_of, batch, numbers)
        grad_norm = optimizers.clip_gradients(self.trained, self._config.algo.max_grad_norm)
        self.optimizer.step()
        return td_error, grad_norm, metrics

    def _backward(self, loss_of: Callable[..., Loss], batch: Samples, numbers: dict[str, Any]) -> tuple[Any, Any]:
        """Put the gradient of the mean loss in place of the last gradients; returns td errors and metrics."""
        self._metrics = []  # they may hold memory of the last update

        def attempt(size: int) -> tuple[list[Tensor], list[tuple[float, Callable[[], dict[str, Any]]]]]:
            for tensor in self.trained.tensors:  # not the optimizer's: A3C's steps the shared ones
                tensor.grad = None
            td_errors: list[Tensor] = []
            metrics: list[tuple[float, Callable[[], dict[str, Any]]]] = []
            for part, share in self._parts(batch, size):
                loss = loss_of(part, **numbers)
                (loss.value if share == 1.0 else share * loss.value).backward()
                if loss.td_error is not None:
                    td_errors.append(loss.td_error)
                values = partial(_with_loss, loss.value.detach(), loss.metrics)
                # Of a part they are read now, so that its memory is free for the next.
                metrics.append((share, values if share == 1.0 else partial(dict, values())))
            return td_errors, metrics

        start_s = time.perf_counter()
        td_errors, metrics = self.micro_batches.until_it_fits(len(batch), attempt)
        # The first gradient is where torch compiles, forwards and backwards.
        self._compile_s = self._compile_s or time.perf_counter() - start_s
        td_error = (td_errors[0] if len(td_errors) == 1 else torch.cat(td_errors)) if td_errors else None
        return td_error, metrics

    def _parts(self, batch: Samples, size: int) -> Iterator[tuple[Any, float]]:
        """Yield the batch in parts of at most `size` samples, on the device, each with its share of all."""
        num_samples = len(batch)
        if size >= num_samples:
            yield batch_to_device(batch, self.device), 1.0
            return
        for start in range(0, num_samples, size):
            rows = slice(start, min(start + size, num_samples))
            yield batch_to_device(batch.rows(rows), self.device), (rows.stop - rows.start) / num_samples


def _with_loss(value: Tensor, metrics: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return {"train/loss": value, **metrics()}
