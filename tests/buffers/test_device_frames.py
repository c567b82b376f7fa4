"""Frames in torch's memory against NumPy's: the same samples, states and files to the last bit, here on the CPU."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from exact import differences, lines
from hypothesis import given, settings
from naive import Feeder, build, loaded
from small_runs import small
from test_replay import CASES

from rltrain.buffers import device_frames, pieces
from rltrain.buffers.device_frames import DeviceFrames
from rltrain.buffers.frames import HostFrames
from rltrain.buffers.prioritized import PrioritizedReplay
from rltrain.errors import OutOfMemory
from rltrain.nn import device as devices
from rltrain.run import checkpoint

ON_DEVICE = functools.partial(DeviceFrames, device=torch.device("cpu"))


def equal(one, other):
    assert isinstance(other.obs, torch.Tensor) and isinstance(one.obs, np.ndarray), "not two kinds of memory"
    for name in ("obs", "action", "reward", "discount", "next_obs", "weight", "index"):
        np.testing.assert_array_equal(getattr(one, name), np.asarray(getattr(other, name)), err_msg=name)


@settings(max_examples=200, deadline=None)
@given(**CASES)
def test_equals_the_naive_replay_under_random_ends(num_envs, stack_num, n_step, spare, end_rate, num_steps, seed):
    slots = stack_num + n_step + spare
    feeder = Feeder(build(num_envs, slots, stack_num, n_step, make_frames=ON_DEVICE), stack_num, n_step, 0.9, seed)
    for step in range(num_steps):
        feeder.step(end_rate)
        if step % 7 == 6:
            feeder.check()
        if step % 19 == 18:
            feeder.end_episodes()
    feeder.check()


@pytest.mark.parametrize("prioritized", [False, True])
@pytest.mark.parametrize("waiting", [1, 3, 64])
def test_samples_are_those_of_frames_in_numpys_memory(prioritized, waiting, monkeypatch):
    """Bugs: a slot that was written twice before it was sent gets the older frame; a sample misses what waits."""
    monkeypatch.setattr(device_frames, "WAITING", waiting)
    feeders = []
    for make_frames in (HostFrames, ON_DEVICE):
        replay = build(3, 12, 3, 2, seed=5, make_frames=make_frames)
        feeders.append(Feeder(PrioritizedReplay(replay) if prioritized else replay, 3, 2, 0.9, 4))
    for step in range(150):  # round the ring many times, up to fifty steps between two samples
        for feeder in feeders:
            feeder.step(0.2)
        if step > 5 and (step % 5 == 0 or step > 100):
            one, other = (feeder.replay.sample(16) for feeder in feeders)
            equal(one, other)
            for feeder in feeders:
                feeder.replay.update_priorities(one.index, torch.from_numpy(one.reward))


def test_a_frame_that_its_owner_changes_afterwards_is_kept_as_it_was():
    frames = ON_DEVICE(4, 2, np.uint8)
    frame = np.array([1, 2], np.uint8)
    frames.write(3, frame)
    frame[:] = 9
    assert frames.stacks(np.array([[3]]), np.array([[False]])).tolist() == [[1, 2]]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.int64])
def test_the_type_of_the_frames_is_kept(dtype):
    host, device = HostFrames(6, 3, dtype), ON_DEVICE(6, 3, dtype)
    for slot, frame in enumerate(np.random.default_rng(0).integers(0, 200, (6, 3))):
        host.write(slot, frame)
        device.write(slot, frame)
    slot, blank = np.array([[0, 5], [2, 2]]), np.array([[True, False], [False, False]])
    one, other = host.stacks(slot, blank), device.stacks(slot, blank).numpy()
    assert one.dtype == other.dtype == dtype and host.nbytes == device.nbytes
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("steps", [10, 200])
def test_a_state_of_either_memory_is_taken_up_by_the_other(steps, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 100)
    for saver, taker in ((HostFrames, ON_DEVICE), (ON_DEVICE, HostFrames)):
        feeder = Feeder(build(3, 40, 4, 3, seed=5, make_frames=saver), 4, 3, 0.9, 4)
        for _ in range(steps):
            feeder.step(0.2)
        other = build(3, 40, 4, 3, seed=6, make_frames=taker)
        other.load_state_dict(loaded(feeder.replay.state_dict()))
        samples = [feeder.replay.sample(16), other.sample(16)]
        equal(*(samples if saver is HostFrames else samples[::-1]))
        feeder.replay = feeder.inner = other
        feeder.end_episodes()
        for _ in range(60):
            feeder.step(0.2)
            feeder.check()


def test_a_piece_of_another_type_is_refused():
    feeder = Feeder(build(1, 40, 2, 1, make_frames=ON_DEVICE), 2, 1, 0.9, 4)
    for _ in range(10):
        feeder.step(0.2)
    broken = loaded(feeder.replay.state_dict())
    broken["frame"]["0-0"] = broken["frame"]["0-0"].astype(np.float32)
    with pytest.raises(ValueError, match="a saved piece is float32"):
        build(1, 40, 2, 1, make_frames=ON_DEVICE).load_state_dict(broken)


def test_only_the_pieces_that_are_written_are_fetched(tmp_path, monkeypatch):
    """Bug: every checkpoint copies the whole replay from the device, although most of its pieces are links."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", 4 * 8)
    fetched = []
    array = pieces.Piece.array
    monkeypatch.setattr(pieces.Piece, "array", lambda piece: (fetched.append(piece), array(piece))[1])
    feeder = Feeder(build(1, 400, 2, 1, make_frames=ON_DEVICE), 2, 1, 0.9, 4)
    previous, counts = None, []
    for number in range(1, 5):
        for _ in range(500 if number == 1 else 8):
            feeder.step(0.2)
        fetched.clear()
        checkpoint.save(tmp_path, number, {"replay": feeder.replay.state_dict()}, previous=previous)
        previous = number
        counts.append(len(fetched))
    assert counts[0] == 100 and max(counts[2:]) < 20, counts


@pytest.mark.parametrize("algo", ["dqn", "d3qn_per"])
def test_a_run_and_its_resume_are_the_same_to_the_last_bit(algo, command, stop_at, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 200)
    args = [*small(algo, "cartpole"), "total_steps=500", "eval_every_steps=0", "log_every_steps=100"]
    host = command(*args, "algo.replay_device=cpu").folder
    device = command(*args, "algo.replay_device=device").folder
    assert differences(host, device) == []
    with monkeypatch.context():
        stop_at(300)
        stopped = command(*args, "algo.replay_device=device")
    monkeypatch.undo()
    assert stopped.code == 143, stopped.err
    assert command("resume", stopped.folder, "progress=false").code == 0
    assert differences(host, stopped.folder) == []
    assert lines(host) == lines(stopped.folder)


def test_auto_takes_the_device_where_there_is_room(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert devices.takes_replay("auto", cuda, 700) and not devices.takes_replay("auto", cuda, 701)
    assert not devices.takes_replay("auto", cpu, 1) and not devices.takes_replay("cpu", cuda, 1)
    assert devices.takes_replay("device", cpu, 10**15) and devices.takes_replay("device", cuda, 1000)
    with pytest.raises(OutOfMemory, match=r"algo\.replay_device=cpu"):
        devices.takes_replay("device", cuda, 1001)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_samples_on_a_gpu_are_those_of_the_host():
    cuda = functools.partial(DeviceFrames, device=torch.device("cuda"))
    host, device = (Feeder(build(3, 60, 4, 3, seed=5, make_frames=make), 4, 3, 0.9, 4) for make in (HostFrames, cuda))
    for step in range(300):
        host.step(0.1), device.step(0.1)
        if step > 10 and step % 3 == 0:
            one, other = host.replay.sample(32), device.replay.sample(32)
            assert other.obs.is_cuda
            equal(one, dataclasses.replace(other, obs=other.obs.cpu(), next_obs=other.next_obs.cpu()))
