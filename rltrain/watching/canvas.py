"""Compose the picture of a played game: the game, next to it the network's observation, below them the score."""

import cv2
import numpy as np

_HEIGHT, _WIDTH = 420, 1280
"""Small games are enlarged to about this height in pixels, unless they become wider than this width."""
_WIDEST = 8 * _WIDTH
"""Larger pictures of an environment lose rows and columns: no film or GIF has so many."""
_CAPTION_HEIGHT = 30
_GAP = 6
_DARK, _LIGHT = (24, 26, 32), (232, 234, 240)


def compose(picture: np.ndarray, obs: np.ndarray | None, num_channels: int, caption: str) -> np.ndarray:
    """Return one picture for a screen, [H, W, 3] uint8. H and W are even, because video codecs need that.

    picture: the game, [H, W, 3] uint8. obs: the observation from which the network chose its action, [stack *
    num_channels, H, W] uint8, shown with the oldest frame at the top; None if it has no pixels.
    """
    step = -(-max(picture.shape) // _WIDEST)
    picture = picture[::step, ::step]
    scale = max(1, min(round(_HEIGHT / len(picture)), _WIDTH // picture.shape[1]))
    game = picture.repeat(scale, axis=0).repeat(scale, axis=1)
    parts = [game]
    if obs is not None:
        parts += [_block(len(game), _GAP), _column(obs, num_channels, len(game))]
    row = np.concatenate(parts, axis=1)
    canvas = np.concatenate([row, _caption(caption, row.shape[1])])
    return np.pad(canvas, ((0, len(canvas) % 2), (0, canvas.shape[1] % 2), (0, 0)))


def _column(obs: np.ndarray, num_channels: int, height: int) -> np.ndarray:
    """Return the frames of an observation below each other, scaled to `height` pixels in total."""
    frames = obs.reshape(-1, num_channels, *obs.shape[1:])
    gap = _GAP if len(frames) > 1 else 0
    tile_height = max(1, (height - gap * (len(frames) - 1)) // len(frames))
    tile_height = max(1, min(tile_height, _WIDTH * obs.shape[1] // obs.shape[2]))  # such as a scan of one row
    tile_width = max(1, min(_WIDTH, round(tile_height * obs.shape[2] / obs.shape[1])))
    rows: list[np.ndarray] = []
    for frame in frames:
        colour = np.moveaxis(frame, 0, -1) if num_channels == 3 else frame[0]
        shrinks = tile_height < obs.shape[1] or tile_width < obs.shape[2]
        method = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
        tile = cv2.resize(np.ascontiguousarray(colour), (tile_width, tile_height), interpolation=method)
        rows += [tile if tile.ndim == 3 else np.repeat(tile[:, :, None], 3, axis=2), _block(gap, tile_width)]
    column = np.concatenate(rows)[:height]
    return np.concatenate([column, _block(height - len(column), tile_width)])


def _caption(text: str, width: int) -> np.ndarray:
    strip = _block(_CAPTION_HEIGHT, width)
    size = 0.5
    (text_width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    size *= min(1.0, (width - 16) / max(text_width, 1))
    cv2.putText(strip, text, (8, _CAPTION_HEIGHT - 10), cv2.FONT_HERSHEY_SIMPLEX, size, _LIGHT, 1, cv2.LINE_AA)
    return strip


def _block(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), _DARK, np.uint8)
