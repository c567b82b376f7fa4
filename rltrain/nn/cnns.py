"""Convolutional layers by name, for frames of [C, H, W]."""

import math
from collections.abc import Callable

from torch import Tensor, nn

Activation = Callable[[], nn.Module]


def nature_cnn(shape: tuple[int, ...]) -> list[nn.Module]:
    """The network of Mnih et al. 2015, methods, model architecture. Frames must have at least 36 x 36 pixels."""
    return _cnn(shape, [(32, 8, 4), (64, 4, 2), (64, 3, 1)], 512, lambda: nn.ReLU(inplace=True))


def small_cnn(shape: tuple[int, ...]) -> list[nn.Module]:
    """The network of Mnih et al. 2013, which needs a quarter of nature_cnn's arithmetic. Made for CPUs."""
    return _cnn(shape, [(16, 8, 4), (32, 4, 2)], 256, lambda: nn.ReLU(inplace=True))


def course_cnn(shape: tuple[int, ...]) -> list[nn.Module]:
    """The Doom network of the Deep Reinforcement Learning Course (Simonini 2018), without its batch normalisation.

    Batch normalisation would make a value depend on the other samples of its batch, and differ between acting and
    training.
    """
    return _cnn(shape, [(32, 8, 4), (64, 4, 2), (128, 4, 2)], 512, lambda: nn.ELU(inplace=True))


def impala_cnn(shape: tuple[int, ...]) -> list[nn.Module]:
    """The residual network of Espeholt et al. 2018, figure 3 right, without its LSTM. Frames may have any size."""
    layers: list[nn.Module] = []
    channels, *sides = shape
    for out_channels in (16, 32, 32):
        layers += [nn.Conv2d(channels, out_channels, 3, padding=1), nn.MaxPool2d(3, 2, padding=1)]
        layers += [Residual(out_channels), Residual(out_channels)]
        channels, sides = out_channels, [(side + 1) // 2 for side in sides]
    num_inputs = channels * math.prod(sides)
    return [*layers, nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(num_inputs, 256), nn.ReLU(inplace=True)]


class Residual(nn.Module):
    """A residual block, x + conv(relu(conv(relu(x)))). Input and output are [B, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum. Does not change x."""
        return x + self.second(nn.functional.relu(self.first(nn.functional.relu(x))))


def _cnn(
    shape: tuple[int, ...], convolutions: list[tuple[int, int, int]], width: int, activation: Activation
) -> list[nn.Module]:
    """Return convolutions, given as (channels, kernel, stride), and one fully connected layer of `width` units."""
    layers: list[nn.Module] = []
    channels, height, columns = shape
    for out_channels, kernel, stride in convolutions:
        layers += [nn.Conv2d(channels, out_channels, kernel, stride), activation()]
        channels = out_channels
        height, columns = ((side - kernel) // stride + 1 for side in (height, columns))
    return [*layers, nn.Flatten(), nn.Linear(channels * height * columns, width), activation()]


CNNS = {"nature_cnn": nature_cnn, "small_cnn": small_cnn, "impala_cnn": impala_cnn, "course_cnn": course_cnn}
