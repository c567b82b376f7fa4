"""The rollout's storage and its shuffled epochs."""

import numpy as np
import torch

from rltrain.buffers.rollout import Rollout


def test_an_epoch_sees_every_sample_once_in_a_new_order():
    rollout, generator = Rollout(5, 4, (3,), torch.float32, (), torch.int64), np.random.default_rng(0)
    epochs = [list(rollout.shuffled(8, generator)) for _ in range(2)]
    for epoch in epochs:
        assert [len(index) for index in epoch] == [8, 8, 4]
        assert sorted(torch.cat(epoch).tolist()) == list(range(20))
    assert torch.cat(epochs[0]).tolist() != torch.cat(epochs[1]).tolist()
    again = torch.cat(list(rollout.shuffled(8, np.random.default_rng(0))))
    assert again.tolist() == torch.cat(epochs[0]).tolist()


def test_flat_fields_keep_step_and_environment_together():
    rollout = Rollout(3, 2, (1, 2, 2), torch.uint8, (), torch.int64)
    for t in range(3):
        rollout.obs[t] = torch.tensor([10 * t, 10 * t + 1], dtype=torch.uint8)[:, None, None, None]
        rollout.value[t] = torch.tensor([10.0 * t, 10.0 * t + 1])
    assert rollout.obs.dtype == torch.uint8  # pixels are not widened in storage
    assert rollout.flat("obs")[:, 0, 0, 0].tolist() == rollout.flat("value").tolist() == [0, 1, 10, 11, 20, 21]


def test_pixels_lie_channels_last_and_read_as_they_were_written():
    rollout = Rollout(3, 2, (4, 5, 7), torch.uint8, (), torch.int64)
    obs = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 5, 7), dtype=np.uint8)
    for t in range(3):
        assert torch.equal(rollout.put_obs(t, obs[t]), torch.from_numpy(obs[t]))
    flat = torch.from_numpy(obs).flatten(0, 1)
    assert torch.equal(rollout.flat("obs"), flat)
    index = torch.tensor([5, 0, 0, 2])
    for batch in (rollout.obs_at(index), rollout.flat("obs")[1:4]):
        assert batch.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(rollout.obs_at(index), flat[index])


def test_a_minibatch_keeps_what_belongs_to_a_step_together():
    rollout = Rollout(3, 2, (1,), torch.float32, (), torch.int64)
    number = torch.arange(6).view(3, 2)
    rollout.obs[..., 0], rollout.action[:], rollout.log_prob[:], rollout.value[:] = number, number, -number, 10 * number
    index = torch.tensor([5, 0, 3])
    batches = {
        (5, 0, 3): rollout.minibatch(index, 100 * number, 1000 * number),
        (3, 4): rollout.whole(100 * number, 1000 * number).rows(slice(3, 5)),
    }
    for steps, batch in batches.items():
        assert len(batch) == len(steps)
        for name, factor in (("action", 1), ("log_prob", -1), ("value", 10), ("advantage", 100), ("returns", 1000)):
            assert getattr(batch, name).tolist() == [factor * step for step in steps], name
        assert batch.obs.flatten().tolist() == list(steps)
