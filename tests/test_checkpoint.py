"""Checkpoints: what goes in comes out, a damaged or half-written one is never used, old ones go."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rltrain import checkpoint
from rltrain.errors import CheckpointError, DiskError

STATE = {
    "agent": {
        "online": {"layer.0.weight": torch.arange(6.0).reshape(2, 3).T, "layer.0.bias": torch.zeros(0)},
        "half": torch.ones(2, dtype=torch.bfloat16),
        "count": torch.tensor(3),
        "q_table": np.arange(6.0).reshape(3, 2),
        "num_updates": 7,
        "param_groups": [{"lr": 0.1, "betas": [0.9, 0.999]}],
    },
    "replay": {"frame": np.arange(4, dtype=np.uint8), "valid": np.array([True, False]), "head": np.int64(3).item()},
    "generators": {"exploration": np.random.default_rng(1).bit_generator.state},
    "run": {"best": {}, "recent": [[1.5, 3]], "none": None},
}


def same(left, right):
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        return all(same(left[key], right[key]) for key in left)
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, np.ndarray):
        return isinstance(right, np.ndarray) and left.dtype == right.dtype and np.array_equal(left, right)
    return left == right


def tiny(value):
    return {"agent": {"q_table": np.full((2, 2), float(value)), "weight": torch.full((3,), float(value))}}


def names(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_nested_state_comes_back_with_kinds_and_dtypes(tmp_path):
    checkpoint.save(tmp_path, 12, STATE)
    step, state = checkpoint.load(tmp_path)
    assert step == 12
    assert same(STATE, state)
    generator = np.random.default_rng()
    generator.bit_generator.state = state["generators"]["exploration"]
    assert generator.random() == np.random.default_rng(1).random()


def test_a_table_lies_open_as_q_table_npy(tmp_path):
    folder = checkpoint.save(tmp_path, 12, STATE)
    assert np.load(folder / "q_table.npy", allow_pickle=False).shape == (3, 2)


def test_tensors_that_share_memory_can_be_saved(tmp_path):
    tensor = torch.arange(4.0)
    checkpoint.save(tmp_path, 1, {"agent": {"left": tensor, "right": tensor, "part": tensor[:2]}})
    agent = checkpoint.load(tmp_path)[1]["agent"]
    assert agent["left"].tolist() == agent["right"].tolist() == tensor.tolist()
    assert agent["part"].tolist() == [0, 1]


def truncate(path: Path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("member", ["q_table.npy", "tensors.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
def test_a_damaged_member_gives_way_to_the_older_checkpoint(member, damage, tmp_path, capsys):
    checkpoint.save(tmp_path, 1, tiny(1))
    newest = checkpoint.save(tmp_path, 2, tiny(2))
    assert checkpoint.load(tmp_path)[0] == 2
    damage(newest / member)
    step, state = checkpoint.load(tmp_path)
    assert step == 1
    assert state["agent"]["q_table"][0, 0] == 1
    assert "rltrain: warning: checkpoint" in capsys.readouterr().err
    with pytest.raises(CheckpointError):
        checkpoint.read(newest)


def test_no_usable_checkpoint_is_an_error(tmp_path):
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path)
    for step in (1, 2):
        truncate(checkpoint.save(tmp_path, step, tiny(step)) / "q_table.npy")
    with pytest.raises(CheckpointError, match="no usable checkpoint is left"):
        checkpoint.load(tmp_path)


def test_a_checkpoint_that_was_asked_for_by_name_is_not_replaced_by_another(tmp_path):
    checkpoint.save(tmp_path, 1, tiny(1))
    truncate(checkpoint.save(tmp_path, 2, tiny(2)) / "q_table.npy")
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path, "2")
    assert checkpoint.load(tmp_path, "1")[0] == 1


def test_a_half_written_folder_is_never_read(tmp_path):
    whole = checkpoint.save(tmp_path, 1, tiny(1))
    for name in (".partial-000000002-77", ".replaced-000000001-77"):
        whole.parent.joinpath(name).mkdir()
        for path in whole.iterdir():
            whole.parent.joinpath(name, path.name).write_bytes(path.read_bytes())
    (whole.parent / "last").unlink()
    assert checkpoint.load(tmp_path)[0] == 1
    for which in (".partial-000000002-77", "../checkpoints/step_000000001", "2"):
        with pytest.raises(CheckpointError):
            checkpoint.find(tmp_path, which)


def test_a_save_that_fails_leaves_the_older_ones_as_they_were(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, tiny(1))
    before = names(tmp_path)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    for step in (1, 2):
        with pytest.raises(DiskError, match="No space left"):
            checkpoint.save(tmp_path, step, tiny(9))
    monkeypatch.undo()
    assert names(tmp_path) == before
    assert checkpoint.load(tmp_path)[1]["agent"]["q_table"][0, 0] == 1


def test_the_two_newest_and_the_best_stay(tmp_path):
    for step in range(1, 7):
        saved = checkpoint.save(tmp_path, step, tiny(step))
        if step == 2:
            checkpoint.point(tmp_path, "best", saved)
    assert names(tmp_path) == ["best", "last", "step_000000002", "step_000000005", "step_000000006"]
    assert checkpoint.find(tmp_path, "best").name == "step_000000002"
    assert checkpoint.find(tmp_path, "last").name == "step_000000006"
    checkpoint.point(tmp_path, "best", checkpoint.find(tmp_path, "5"))
    checkpoint.save(tmp_path, 7, tiny(7))
    assert names(tmp_path) == ["best", "last", "step_000000005", "step_000000006", "step_000000007"]


def test_a_best_one_without_the_training_state_is_no_place_to_go_on_from(tmp_path):
    checkpoint.save(tmp_path, 1, tiny(1))
    checkpoint.point(tmp_path, "best", checkpoint.save(tmp_path, 2, tiny(2), complete=False))
    assert checkpoint.load(tmp_path)[0] == 1
    (tmp_path / "checkpoints" / "last").unlink()
    assert checkpoint.load(tmp_path)[0] == 1
    assert checkpoint.load(tmp_path, "best")[0] == 2


def test_saving_a_step_again_keeps_the_fuller_one(tmp_path):
    checkpoint.point(tmp_path, "best", checkpoint.save(tmp_path, 3, tiny(3), complete=False))
    checkpoint.save(tmp_path, 3, tiny(3) | {"replay": {"size": 5}})
    assert checkpoint.load(tmp_path)[1]["replay"] == {"size": 5}
    assert names(tmp_path) == ["best", "last", "step_000000003"]


def test_steps_of_more_than_nine_digits_are_still_the_newest(tmp_path):
    for step in (999_999_999, 1_000_000_000):
        checkpoint.save(tmp_path, step, tiny(1))
    (tmp_path / "checkpoints" / "last").unlink()
    assert checkpoint.load(tmp_path)[0] == 1_000_000_000


def test_a_manifest_cannot_reach_outside_its_folder(tmp_path):
    folder = checkpoint.save(tmp_path, 1, tiny(1))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["members"]["../../x.npy"] = manifest["members"]["q_table.npy"]
    (tmp_path / "x.npy").write_bytes((folder / "q_table.npy").read_bytes())
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError):
        checkpoint.read(folder)


def test_a_pickled_array_is_refused(tmp_path):
    with pytest.raises(ValueError, match="pickle"):
        checkpoint.save(tmp_path, 1, {"agent": {"bad": np.array([{}], dtype=object)}})
