"""Checkpoints: what goes in comes out, a damaged or half-written one is never used, old ones go."""

import contextlib
import errno
import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rltrain.buffers.pieces import Piece
from rltrain.errors import CheckpointError, DiskError
from rltrain.run import checkpoint, checkpoint_files, keys

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


def test_an_array_deep_in_the_agent_keeps_its_place(tmp_path):
    """Bug: `agent/visits/count` came back as `visits/count`, beside the agent."""
    state = {"agent": {"q_table": np.ones(2), "visits": {"count": np.arange(3)}}, "run": {}}
    checkpoint.save(tmp_path, 1, state)
    assert same(state["agent"], checkpoint.load(tmp_path)[1]["agent"])


def test_a_table_lies_open_as_q_table_npy(tmp_path):
    folder = checkpoint.save(tmp_path, 12, STATE)
    assert np.load(folder / "q_table.npy", allow_pickle=False).shape == (3, 2)


def test_keys_of_a_state_come_back_as_they_were(tmp_path):
    """Bugs: a table by the numbers of states came back by texts, so `eval` found none; `obs/mean` became a dict."""
    of_all = (0, -3, "0", "", "%", "%=3", "..", "obs/mean", "x~y", "a b", "é", "%2F", "a\0b", (0, 1), (2, ("/", None)),
            True, None, 0.5, np.int64(7), np.float32(0.1), (np.int64(4), "%items"))  # fmt: skip
    agent = {key: np.full(2, float(number)) for number, key in enumerate(of_all)} | {"obs": {"mean": np.zeros(1)}}
    state = tiny(1) | {"agent": agent, "part": {key: torch.tensor(float(n)) for n, key in enumerate(of_all)}}
    state["part"] |= {"milestones": {80: 1, 150: {}}, "schedulers": [{"milestones": {80: 1}}, {"%items": 1}]}
    found = checkpoint.read(checkpoint.save(tmp_path, 1, state))
    assert found["agent"].keys() == agent.keys() and found["part"].keys() == state["part"].keys()
    assert all(np.array_equal(found["agent"][key], agent[key]) for key in of_all)
    assert all(found["part"][key] == state["part"][key] for key in (*of_all, "milestones", "schedulers"))
    deep: tuple = ()
    for _ in range(300):
        deep = (deep,)
    for key in (len, (0, len), float("nan"), frozenset({1}), tuple(range(100)), deep, 10**5000):
        for state in ({"q": {key: 1}}, {"q": [{key: 1}]}):
            assert "is neither a text nor a number" in checkpoint_files.unsaveable(state)


def test_names_that_nobody_writes_are_refused_and_lists_in_a_circle_are_told():
    """Bugs: a second name for `agent`, which no check of the agent would see; a RecursionError."""
    for part in ("%='agent'", "%=1if 0 else 2", "%= 1", "%41", "%=" + "(" * 300, "%=foo", "%="):
        with pytest.raises((ValueError, SyntaxError, MemoryError, RecursionError)):
            keys.read(part)
    assert keys.read("%=(0, 'a')") == (0, "a") and keys.read("%25") == "%"
    circle: list = [1]
    circle.append(circle)
    assert "a list that holds itself" in checkpoint_files.unsaveable({"w": circle})
    name = checkpoint_files.unsaveable({"q": {"x" * 300: np.zeros(1)}})
    assert name.startswith("an array under a name of more than 250 bytes"), name


def test_keys_of_older_checkpoints_are_those_that_they_had(tmp_path):
    """Bug to prevent: `a%2Fb` of a checkpoint that says nothing of its keys is `a/b`."""
    saved = checkpoint.save(tmp_path, 1, tiny(1) | {"part": {"x": 1}})
    names_ = {"part/x": "part/a%2Fb"}
    values = {names_.get(name, name): value for name, value in json.loads((saved / "state.json").read_text()).items()}
    (saved / "state.json").write_text(json.dumps(values))
    manifest = json.loads((saved / "manifest.json").read_text())
    del manifest["keys"]
    content = (saved / "state.json").read_bytes()
    manifest["members"]["state.json"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (saved / "manifest.json").write_text(json.dumps(manifest))
    assert checkpoint.read(saved)["part"] == {"a%2Fb": 1}


def test_tensors_that_share_memory_can_be_saved(tmp_path):
    tensor = torch.arange(4.0)
    checkpoint.save(tmp_path, 1, {"agent": {"left": tensor, "right": tensor, "part": tensor[:2]}})
    agent = checkpoint.load(tmp_path)[1]["agent"]
    assert agent["left"].tolist() == agent["right"].tolist() == tensor.tolist()
    assert agent["part"].tolist() == [0, 1]


def test_an_agent_of_a_type_that_cannot_be_checked_gives_way_to_an_older_one(tmp_path):
    """Bug: weights of float8, for which torch has no isfinite, ended with a traceback."""
    checkpoint.save(tmp_path, 1, tiny(1))
    sick = tiny(2)
    sick["agent"]["weight"] = sick["agent"]["weight"].to(torch.float8_e4m3fn)
    with contextlib.suppress(CheckpointError):  # the save verifies only that the bytes are there
        checkpoint.save(tmp_path, 2, sick)
    assert checkpoint.load(tmp_path)[0] == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["q_table", "weight"])
def test_an_agent_that_is_not_finite_gives_way_to_an_older_one(tmp_path, capfd, name, value):
    """Bug: NaN in a table or a network, in files that match their manifest, was evaluated and resumed as if it were
    an agent."""
    checkpoint.save(tmp_path, 1, tiny(1))
    sick = tiny(2)
    sick["agent"][name][-1] = value
    folder = checkpoint.save(tmp_path, 2, sick)
    assert checkpoint.load(tmp_path)[0] == 1
    assert name in capfd.readouterr().err
    with pytest.raises(CheckpointError, match="NaN or infinite"):  # what eval, play and export call
        checkpoint.read(folder, without="replay")


def test_a_mask_and_other_parts_may_be_infinite(tmp_path):
    """Bug: a network that masks attention with a buffer of -inf could not be resumed."""
    mask = torch.full((3, 3), -torch.inf).triu(1)
    checkpoint.save(tmp_path, 1, {"agent": {"mask": mask}, "environments": {"left": np.array([np.inf])}})
    assert checkpoint.load(tmp_path)[1]["agent"]["mask"].equal(mask)


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


@pytest.mark.parametrize("fault", ["none", "configuration", "manifest", "member"])
def test_the_best_checkpoint_is_offered_only_where_eval_takes_it(fault, tmp_path):
    """Bug: "eval can still use checkpoint=best", although eval refuses it for the same reason."""
    best = checkpoint.save(tmp_path, 1, tiny(1), complete=False, made_for="x" if fault == "configuration" else "mine")
    checkpoint.point(tmp_path, "best", best)
    truncate(checkpoint.save(tmp_path, 2, tiny(2), made_for="mine") / "q_table.npy")
    if fault == "manifest":
        facts = json.loads((best / "manifest.json").read_text())
        (best / "manifest.json").write_text(json.dumps(facts | {"step": 3}))
    if fault == "member":
        truncate(best / "q_table.npy")
    with pytest.raises(CheckpointError, match="no usable checkpoint is left") as caught:
        checkpoint.load(tmp_path, made_for={"mine"})
    assert ("can still use checkpoint=best" in caught.value.fix) == (fault == "none")


def test_a_checkpoint_that_a_killed_save_had_moved_away_is_put_back(tmp_path):
    """Bug: between the two renames of a save of the same step, kill -9 left two temporary names, and both were
    removed."""
    step = checkpoint.save(tmp_path, 1, tiny(1))
    step.rename(step.with_name(".replaced-000000001-12"))
    step.with_name(".partial-000000001-12").mkdir()
    checkpoint.sweep(tmp_path)
    assert checkpoint.find(tmp_path) == step and not list((tmp_path / "checkpoints").glob(".*-12"))
    step.rename(step.with_name(".replaced-000000001-12"))
    checkpoint.save(tmp_path, 1, tiny(2))
    checkpoint.sweep(tmp_path)  # the newer one has taken its place
    assert not list(step.parent.glob(".replaced*"))
    assert checkpoint.load(tmp_path)[1]["agent"]["q_table"][0, 0] == 2


def test_digits_of_other_scripts_are_no_step(tmp_path):
    """Bug: Python takes Arabic digits for a number, so a folder of somebody's was the newest checkpoint, or removed."""
    step = checkpoint.save(tmp_path, 1, tiny(1))
    others = [step.with_name("step_00000000\u0662"), step.with_name(".last-\u0661")]
    for other in others:
        other.mkdir()
    checkpoint.sweep(tmp_path)
    assert checkpoint.find(tmp_path) == step and all(other.is_dir() for other in others)
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        checkpoint.find(tmp_path, "\u0661")


def test_a_checkpoint_that_was_asked_for_by_name_is_not_replaced_by_another(tmp_path):
    checkpoint.save(tmp_path, 1, tiny(1))
    truncate(checkpoint.save(tmp_path, 2, tiny(2)) / "q_table.npy")
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path, "2")
    assert checkpoint.load(tmp_path, "1")[0] == 1


def big(step, changed=()):
    """A state with three pieces, of which `changed` are of this step and the others of step 1."""
    stamps = [step if number in changed else 1 for number in range(3)]
    return tiny(step) | {"replay": {f"0-{n}": Piece(np.full(1000, stamp), stamp) for n, stamp in enumerate(stamps)}}


def inodes(checkpoint_):
    return [(checkpoint_ / f"replay~0-{number}.npy").stat().st_ino for number in range(3)]


def test_a_piece_that_did_not_change_is_linked_and_the_newest_two_share_nothing(tmp_path):
    one = checkpoint.save(tmp_path, 1, big(1))
    two = checkpoint.save(tmp_path, 2, big(2), previous=1)
    assert not set(inodes(one)) & set(inodes(two))
    first, second = inodes(one), inodes(two)
    three = checkpoint.save(tmp_path, 3, big(3, changed=[1]), previous=2)
    assert inodes(three)[0] == first[0] and inodes(three)[2] == first[2]
    assert inodes(three)[1] not in first + second
    four = checkpoint.save(tmp_path, 4, big(4), previous=3)
    assert inodes(four) == second
    assert names(tmp_path) == ["last", "step_000000003", "step_000000004"]
    for path, value in ((three, 3), (four, 1)):
        assert checkpoint.read(path)["replay"]["0-1"].tolist() == [value] * 1000
    flip(four / "replay~0-0.npy")
    assert checkpoint.load(tmp_path)[0] == 3


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_piece_that_another_program_has_changed_is_written_anew(damage, tmp_path):
    """Bug: the next checkpoint linked what was cut, so the training ended, and each resume of it, too."""
    one = checkpoint.save(tmp_path, 1, big(1))
    checkpoint.save(tmp_path, 2, big(2), previous=1)
    kept, changed = inodes(one)[0], one / "replay~0-2.npy"
    before = changed.stat()
    if damage == "cut":
        os.truncate(changed, 100)
        os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        flip(changed)
        os.utime(changed)  # the clock of some file systems stands still for milliseconds
    three = checkpoint.save(tmp_path, 3, big(3), previous=2)
    assert checkpoint.read(three)["replay"]["0-2"].tolist() == [1] * 1000
    assert inodes(three)[0] == kept, "the control"


def test_saving_a_step_again_links_to_what_it_replaces(tmp_path):
    for step in (1, 2):
        checkpoint.save(tmp_path, step, big(step), previous=step - 1 or None)
    before = inodes(checkpoint.find(tmp_path, "2"))
    again = checkpoint.save(tmp_path, 2, big(2, changed=[0]), previous=2)
    assert inodes(again)[1:] == before[1:] and inodes(again)[0] != before[0]
    assert checkpoint_files.manifest(again)["previous"] == 1


def test_where_files_cannot_be_linked_everything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *args: (_ for _ in ()).throw(OSError(errno.EPERM, "no links here")))
    for step in (1, 2, 3):
        saved = checkpoint.save(tmp_path, step, big(step), previous=step - 1 or None)
    assert checkpoint.read(saved)["replay"]["0-2"].tolist() == [1] * 1000


def test_a_checkpoint_larger_than_the_free_space_is_not_begun(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, big(1))
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: SimpleNamespace(free=20_000, total=10**9))
    with pytest.raises(DiskError, match=r"24,044 bytes needed, 20,000 free"):
        checkpoint.save(tmp_path, 2, big(2), previous=1)
    assert names(tmp_path) == ["last", "step_000000001"]
    monkeypatch.undo()
    checkpoint.save(tmp_path, 2, big(2), previous=1)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: SimpleNamespace(free=20_000, total=10**9))
    checkpoint.save(tmp_path, 3, big(3, changed=[1]), previous=2)


def test_the_size_of_a_large_checkpoint_is_told_beforehand(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoint, "TOLD_BYTES", 20_000)
    monkeypatch.setattr(checkpoint_files, "write", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path, 1, big(1))
    assert capsys.readouterr().err == "saving 0.00 GB at step 1\n"


def test_an_agent_is_read_without_its_replay(tmp_path):
    saved = checkpoint.save(tmp_path, 1, big(1))
    truncate(saved / "replay~0-0.npy")
    with pytest.raises(CheckpointError):
        checkpoint.read(saved)
    assert checkpoint.read(saved, without="replay")["agent"]["q_table"][0, 0] == 1


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


def test_the_best_that_a_resume_would_return_to_stays_although_the_link_has_moved_on(tmp_path):
    checkpoint.point(tmp_path, "best", checkpoint.save(tmp_path, 1, tiny(1), complete=False))
    checkpoint.save(tmp_path, 2, tiny(2), best_step=1)
    for step in (3, 4):  # two new bests, and no checkpoint to go on from since then
        best = checkpoint.save(tmp_path, step, tiny(step), complete=False, previous=2, best_step=step)
        checkpoint.point(tmp_path, "best", best)
    assert {"step_000000001", "step_000000002", "step_000000004"} <= set(names(tmp_path))
    checkpoint.go_on_from(tmp_path, 2, 1)
    assert checkpoint.find(tmp_path, "best").name == "step_000000001"
    checkpoint.point(tmp_path, "best", checkpoint.find(tmp_path, "4"))
    for step in (5, 6):
        checkpoint.save(tmp_path, step, tiny(step), previous=step - 1, best_step=4)
    assert "step_000000001" not in names(tmp_path), "the control: nothing returns to it any more"


def test_a_history_that_was_abandoned_is_not_what_a_damaged_checkpoint_gives_way_to(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, tiny(step), previous=step - 1, keep=3)
    checkpoint.go_on_from(tmp_path, 1, None)
    assert checkpoint.find(tmp_path).name == "step_000000001"
    truncate(checkpoint.save(tmp_path, 4, tiny(4), previous=1) / "q_table.npy")
    assert names(tmp_path) == ["last", "step_000000001", "step_000000004"]
    assert checkpoint.load(tmp_path)[0] == 1


def test_an_abandoned_best_one_does_not_outlive_the_history_that_it_belongs_to(tmp_path):
    """Bug: `best` named an agent that is given up until an evaluation beat it, and its checkpoint stayed for ever."""
    for step in (1, 2, 3):
        best_step = step if step > 1 else None
        saved = checkpoint.save(tmp_path, step, tiny(step), previous=step - 1, best_step=best_step, keep=3)
    checkpoint.point(tmp_path, "best", saved)
    checkpoint.go_on_from(tmp_path, 1, None)
    with pytest.raises(CheckpointError, match="there is no such checkpoint"):
        checkpoint.find(tmp_path, "best")
    checkpoint.save(tmp_path, 4, tiny(4), previous=1)
    assert names(tmp_path) == ["last", "step_000000001", "step_000000004"]


def test_a_manifest_with_steps_that_are_none_does_not_stop_the_next_save(tmp_path):
    saved = checkpoint.save(tmp_path, 1, big(1))
    facts = json.loads((saved / "manifest.json").read_text()) | {"previous": "step_x", "best_step": [1]}
    (saved / "manifest.json").write_text(json.dumps(facts))
    checkpoint.save(tmp_path, 1, big(1), previous=1)
    (saved / "manifest.json").write_text(json.dumps(facts))
    checkpoint.save(tmp_path, 2, big(2), previous=1)
    assert checkpoint.load(tmp_path)[0] == 2


def test_a_best_one_without_the_training_state_is_no_place_to_go_on_from(tmp_path):
    checkpoint.save(tmp_path, 1, tiny(1))
    checkpoint.point(tmp_path, "best", checkpoint.save(tmp_path, 2, tiny(2), complete=False))
    assert checkpoint.load(tmp_path)[0] == 1
    (tmp_path / "checkpoints" / "last").unlink()
    assert checkpoint.load(tmp_path)[0] == 1
    assert checkpoint.read(checkpoint.find(tmp_path, "best"))["agent"]["weight"].tolist() == [2.0] * 3
    with pytest.raises(CheckpointError, match="holds only the agent"):
        checkpoint.load(tmp_path, "best")


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


def test_the_agent_alone_is_not_gone_on_from_and_named_as_what_it_is(tmp_path, capsys):
    checkpoint.save(tmp_path, 12, STATE, complete=False)
    with pytest.raises(CheckpointError, match="no usable checkpoint is left"):
        checkpoint.load(tmp_path, "12")
    told = capsys.readouterr().err
    assert "the checkpoint holds only the agent, saved by an evaluation" in told and "use an older" not in told
    assert not checkpoint.resumable(tmp_path)


def test_a_damaged_manifest_may_have_been_of_a_whole_checkpoint(tmp_path):
    folder = checkpoint.save(tmp_path, 12, STATE)
    assert checkpoint.resumable(tmp_path)
    (folder / "manifest.json").write_text("{")
    assert checkpoint.resumable(tmp_path), "the run would be said to have no checkpoint at all"
    assert not checkpoint.resumable(tmp_path / "other")
