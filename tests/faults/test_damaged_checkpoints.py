"""Checkpoints that are cut, flipped, emptied, incomplete, foreign or hostile: told, passed over, never half loaded."""

import contextlib
import functools
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from small_runs import small

from rltrain import cli
from rltrain.config import saved as saved_config
from rltrain.run import checkpoint, checkpoint_files

pytestmark = pytest.mark.faults


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A DQN run with two complete checkpoints, and one of PPO: made once, copied by each test."""
    from rltrain import cli

    place = tmp_path_factory.mktemp("damaged")
    here = os.getcwd()
    os.chdir(place)
    try:
        for algo in ("per_dqn", "ppo"):
            args = [*small(algo, "cartpole"), "total_steps=300", "checkpoint_every_steps=150", f"run_dir={algo}"]
            from hydra.core.global_hydra import GlobalHydra

            GlobalHydra.instance().clear()
            assert cli.run([*args, "eval_every_steps=0"]) == 0
    finally:
        os.chdir(here)
    return {algo: (place / algo / "latest").resolve() for algo in ("per_dqn", "ppo")}


def complete(run):
    return sorted(path for path in (run / "checkpoints").glob("step_*") if checkpoint_files.manifest(path)["complete"])


def cut(path, rng):
    data = path.read_bytes()
    path.write_bytes(data[: int(rng.integers(0, max(1, len(data))))])


def flip(path, rng):
    data = bytearray(path.read_bytes())
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)


def empty(path, rng):
    path.write_bytes(b"")


def remove(path, rng):
    path.unlink()


DAMAGES = [cut, flip, empty, remove]


@pytest.mark.tries(88)
def test_damage_to_any_member_is_told_and_the_older_one_used(attempt, runs, tmp_path, capfd):
    run = shutil.copytree(runs["per_dqn"], tmp_path / "run", symlinks=True)
    rng = np.random.default_rng(attempt)
    older, newest = complete(run)[-2:]
    members = sorted(newest.iterdir())
    damaged = members[attempt // len(DAMAGES) % len(members)]
    before = damaged.read_bytes()
    DAMAGES[attempt % len(DAMAGES)](damaged, rng)
    if damaged.exists() and damaged.read_bytes() == before:
        pytest.skip("an empty member cannot be damaged so")
    made_for = {saved_config.fingerprint(saved_config.load(run / "config.yaml"))}
    if damaged.name == "manifest.json" and DAMAGES[attempt % len(DAMAGES)] is flip:
        # A flipped bit may fall on a space, or on a fact that nothing depends on: then all is still there.
        step, _ = checkpoint.load(run, made_for=made_for)
        assert step in (int(older.name[5:]), int(newest.name[5:]))
        return
    step, _ = checkpoint.load(run, made_for=made_for)
    assert step == int(older.name[5:])
    warning = capfd.readouterr().err
    assert newest.name in warning or "last" not in warning
    shutil.rmtree(older)
    with pytest.raises(checkpoint.CheckpointError):
        checkpoint.load(run, made_for=made_for)


@pytest.mark.tries(6)
@pytest.mark.parametrize("foreign", ["other algorithm", "other shape"])
def test_a_checkpoint_of_something_else_gives_way_to_the_older_one(attempt, foreign, runs, tmp_path, command):
    run = shutil.copytree(runs["per_dqn"], tmp_path / "run", symlinks=True)
    older, newest = complete(run)[-2:]
    made_for = checkpoint_files.manifest(newest)["made_for"]
    if foreign == "other algorithm":
        shutil.rmtree(newest)
        shutil.copytree(complete(runs["ppo"])[-1], newest)
    else:  # whole by its own manifest, and of other shapes
        state = checkpoint_files.read(newest)
        state["agent"]["online"] = {key: value[..., :1] for key, value in state["agent"]["online"].items()}
        shutil.rmtree(newest)
        newest.mkdir()
        checkpoint_files.write(newest, state, {"step": 0, "complete": True, "made_for": made_for, "previous": None})
    outcome = command("resume", run, "total_steps=450", "progress=false")
    assert outcome.code == 0, outcome.err
    assert "cannot be used" in outcome.err
    assert json.loads((run / "result.json").read_text())["steps"] >= 450
    assert older.name not in outcome.err.split("cannot be used")[0]


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mknod, (str(self.path),))


def hostile(kind: int, member: str, sign) -> bytes:
    """Content that some loader somewhere would run."""
    bomb = pickle.dumps(Bomb(sign))
    code = f"__import__('os').mknod({str(sign)!r})"
    texts = [
        json.dumps({"_target_": "os.mknod", "path": str(sign)}),
        f"!!python/object/apply:os.mknod ['{sign}']",
        "${oc.env:HOME}",
        code,
    ]
    header = f"{{'descr': {code}, 'fortran_order': False, 'shape': (1,)}}"
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + b"0" * 8
    array_of_objects = b"\x93NUMPY\x01\x00v\x00" + (
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n" + bomb
    )
    return [bomb, *(text.encode() for text in texts), npy, array_of_objects][kind]


@pytest.mark.tries(50)
def test_a_file_made_to_run_code_runs_nothing_and_ends_with_code_3(attempt, runs, tmp_path, command):
    run = shutil.copytree(runs["per_dqn"], tmp_path / "run", symlinks=True)
    sign = tmp_path / "it ran"
    targets = [path for checkpoint_ in complete(run) for path in [sorted(checkpoint_.iterdir())]]
    names = [path.name for path in targets[-1]] + ["config.yaml"]
    name = names[attempt % len(names)]
    content = hostile(attempt // len(names) % 7, name, sign)
    if name == "config.yaml":
        (run / name).write_bytes(content)
    else:
        for folder in complete(run):
            (folder / name).write_bytes(content)
            if name != "manifest.json":  # consistent with its manifest: the content itself must be refused
                facts = json.loads((folder / "manifest.json").read_text())
                facts["members"][name] = {"size": len(content), "sha256": checkpoint_files.digest(folder / name)}
                (folder / "manifest.json").write_text(json.dumps(facts))
    outcome = command("resume", run, "total_steps=450", "progress=false")
    assert not sign.exists()
    assert outcome.code in ((3,) if name != "config.yaml" else (2, 3)), outcome.err


ALGOS = {"per_dqn": "cartpole", "dqn": "frozen_lake", "ppo": "cartpole", "a2c": "frozen_lake", "pqn": "cartpole"}
ALGOS |= {"reinforce": "cartpole", "impala": "cartpole", "q_learning": "frozen_lake", "monte_carlo": "frozen_lake"}
REMOVED = object()


def leaves(state, path=()):
    """(keys, value) of everything in a state that is no mapping and no list of lists."""
    if isinstance(state, dict) or (isinstance(state, list) and any(isinstance(item, list | dict) for item in state)):
        for key, value in state.items() if isinstance(state, dict) else enumerate(state):
            yield from leaves(value, (*path, key))
    else:
        yield path, state


def other(value, rng):
    """Something else in the place of a value of a state, which is not finite, too large or of another kind."""
    kind = int(rng.integers(12))
    array = value.numpy() if hasattr(value, "numpy") else value
    if kind == 11 or getattr(array, "dtype", np.dtype(object)).kind not in "biuf":
        return [REMOVED, None, -1, 10**30, "text", [], {}, 1.5, float("nan"), [1], {"a": 1}, 0][int(rng.integers(12))]
    if kind < 4 and array.size:
        array = array.copy()
        values = [1e30, -1.0, np.nan, np.inf] if array.dtype.kind == "f" else [1, 0, 100, array.flat[0]]
        array.flat[int(rng.integers(array.size))] = values[kind]
        return array
    scalar, cast = np.zeros((), array.dtype), array.astype(np.float64 if array.dtype.kind != "f" else np.int64)
    return [array[None], array.ravel()[:0], cast, scalar, 3, "text", None][kind % 7]


@pytest.fixture(scope="session")
def run_of(tmp_path_factory):
    """Make a run of an algorithm with one checkpoint, once; the state in it can be changed."""
    made: dict[str, Path] = {}

    def make(algo):
        if algo not in made:
            place = tmp_path_factory.mktemp(algo)
            args = [*small(algo, ALGOS[algo]), "total_steps=300", "eval_every_steps=150", f"run_dir={place}"]
            GlobalHydra.instance().clear()
            assert cli.run(args) == 0
            made[algo] = (place / "latest").resolve()
        return made[algo]

    return make


@pytest.mark.tries(90)
@pytest.mark.parametrize("algo", ALGOS)
def test_a_changed_value_is_refused_or_trains(attempt, algo, run_of, tmp_path, command):
    """Bugs: an error of the first update, told as a bug of rltrain, for a value that a checkpoint's own manifest
    vouches for."""
    run = shutil.copytree(run_of(algo), tmp_path / "run", symlinks=True)
    for older in complete(run)[:-1]:
        shutil.rmtree(older)
    (newest,) = complete(run)
    facts, state = checkpoint_files.manifest(newest), plain(checkpoint_files.read(newest))
    rng = np.random.default_rng([attempt, *algo.encode()])
    found = list(leaves(state))
    (*keys, last), value = found[int(rng.integers(len(found)))]
    changed = other(value, rng)
    part = functools.reduce(lambda part, key: part[key], keys, state)
    if changed is REMOVED:
        del part[last]
    else:
        part[last] = changed
    shutil.rmtree(newest)
    newest.mkdir()
    with contextlib.suppress(TypeError, ValueError, OverflowError):  # it cannot be written
        checkpoint_files.write(newest, state, {key: fact for key, fact in facts.items() if key != "members"})
    outcome = command("resume", run, "total_steps=420", "progress=false")
    told = f"{'/'.join(map(str, keys))}/{last}: {value!r} became {changed!r}\n{outcome.err}"
    assert outcome.code in (0, 3, 5) and "a bug in rltrain" not in outcome.err and "Traceback" not in outcome.err, told


def plain(state):
    """A state as it was before it was saved: pieces become arrays."""
    if isinstance(state, dict):
        return {key: plain(value) for key, value in state.items()}
    return state.array() if hasattr(state, "array") else state
