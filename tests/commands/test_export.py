"""`rltrain export`: the files compute what the network computes, for batches of any size."""

import dataclasses
import errno
import json
import os
import shutil
import warnings
from pathlib import Path

import onnxruntime
import pytest
import torch

from rltrain.algos.registry import load_agent
from rltrain.commands import export
from rltrain.config import saved as saved_config
from rltrain.config.algorithms import A2CConfig
from rltrain.config.environments import GymConfig
from rltrain.config.run import RunConfig
from rltrain.errors import ConfigError
from rltrain.run import checkpoint


@pytest.fixture
def network_and_obs(made):
    """The network of a run in fp32, and five random observations of the kind that it takes."""

    def get(name):
        folder = made(name)
        config = dataclasses.replace(saved_config.load(folder / "config.yaml"), precision="fp32", device="cpu")
        network = export.network_of(load_agent(config, checkpoint.find(folder)))
        example = export.example_obs(config)
        generator = torch.Generator().manual_seed(0)
        obs = torch.rand((5, *example.shape[1:]), generator=generator) * (255 if example.dtype == torch.uint8 else 1)
        return network, obs.to(example.dtype)

    return get


def run_torchscript(path, obs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load(str(path))(obs)


def run_pt2(path, obs):
    return torch.export.load(path).module()(obs)


def run_onnx(path, obs):
    session = onnxruntime.InferenceSession(str(path))
    assert [taken.name for taken in session.get_inputs()] == ["obs"]
    assert all(value.shape[0] == "batch" for value in (*session.get_inputs(), *session.get_outputs()))
    outputs = tuple(torch.from_numpy(output) for output in session.run(None, {"obs": obs.numpy()}))
    return outputs if len(outputs) > 1 else outputs[0]


RUNNERS = {"onnx": run_onnx, "torchscript": run_torchscript, "pt2": run_pt2}


@pytest.mark.parametrize("kind", RUNNERS)
@pytest.mark.parametrize("name", ["cartpole", "doom"])
def test_the_file_computes_what_the_network_computes(name, kind, made, network_and_obs, command, recwarn):
    outcome = command("export", made(name), f"format={kind}")
    assert outcome.code == 0, outcome.err
    assert not [each for each in recwarn if "No complete tensor" in str(each.message)], "torch's own, for format=pt2"
    path = Path(outcome.out.splitlines()[-1])
    assert path.parent == made(name) / "export"
    network, obs = network_and_obs(name)
    for size in (5, 1):  # not the size that it was exported with
        with torch.no_grad():
            expected = network(obs[:size])
        given = RUNNERS[kind](path, obs[:size])
        if name == "doom":
            assert expected.std() > 1e-4, "the network says the same of every observation"
            expected, given = (expected,), (given,)
        for left, right in zip(expected, given, strict=True):
            assert torch.allclose(left, right, atol=1e-5, rtol=1e-4)
    facts = json.loads(path.with_name(path.name + ".json").read_text())
    assert facts["input"]["shape"] == ["batch", *obs.shape[1:]]
    assert facts["input"]["dtype"] == str(obs.dtype).removeprefix("torch.")
    assert [output["name"] for output in facts["outputs"]] == (["q_values"] if name == "doom" else ["policy", "value"])
    assert facts["env"]["name"] == name


@pytest.mark.parametrize(
    ("name", "outputs", "actions"),
    [
        ("cartpole", ["policy", "value"], ["left", "right"]),
        ("doom", ["q_values"], ["MOVE_LEFT", "MOVE_RIGHT", "ATTACK"]),
    ],
)
def test_an_onnx_file_says_what_its_outputs_are(name, outputs, actions, made, command, tmp_path):
    """Bug: a file that is passed on without its JSON does not say which action is which."""
    outcome = command("export", made(name), f"out={tmp_path}/a.onnx")
    assert outcome.code == 0, outcome.err
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"))
    assert [value.name for value in session.get_outputs()] == outputs
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["actions"]) == {"space": f"Discrete({len(actions)})", "names": actions}
    assert told["algo"] == ("ppo" if name == "cartpole" else "dqn") and json.loads(told["env"])["name"] == name
    assert "run" not in told, "a path of this machine"
    facts = json.loads((tmp_path / "a.onnx.json").read_text())
    assert facts["actions"]["names"] == actions and facts["run"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("Lever", "add -1 to the network's actions"), ("Stairs", "subtract 1 from the environment's states"),
     ("Stairs", "add 7 to the network's actions"), ("Switches", "add [4, -1] to the network's actions")],
)  # fmt: skip
def test_what_an_environment_counts_from_another_number_is_described(name, words, monkeypatch, request):
    """Bug: the exported network's action 0 was taken for the environment's 0, where it means -1."""
    monkeypatch.syspath_prepend(request.path.parents[1] / "envs" / "gym")
    config = RunConfig(algo=A2CConfig(), env=GymConfig("x", id=f"offsets:{name}-v0"))
    usual = RunConfig(algo=A2CConfig(), env=GymConfig("x", id="CartPole-v1"))
    own, plain = (export.describe(each, lambda obs: obs, torch.zeros(2, 3))["about"] for each in (config, usual))
    assert words in own and "count" not in plain
    assert plain == "give observations as the environment returns them", "bug: that pixels are given unscaled"


def test_how_outputs_stand_for_actions_is_described(monkeypatch, request):
    """Bug: nothing said which logits are those of the second choice."""
    monkeypatch.syspath_prepend(request.path.parents[1] / "envs" / "gym")

    def described(env_id):
        config = RunConfig(algo=A2CConfig(), env=GymConfig("x", id=env_id))
        return export.describe(config, lambda obs: (obs, obs), torch.zeros(2, 3))

    switches, pendulum = described("offsets:Switches-v0"), described("Pendulum-v1")
    assert switches["actions"]["choices"] == [2, 3]
    assert "the policy has [2, 3] logits, one choice after another: take the largest of each" in switches["about"]
    assert "the policy has the means of the actions, then the logarithms" in pendulum["about"]


@pytest.mark.parametrize(
    ("give", "names"),
    [
        (lambda obs: (obs, obs, obs), ["output_0", "output_1", "output_2"]), (lambda obs: (obs,), ["policy"]),
        (lambda obs: {"scores": obs}, "the network of a2c returns a dict, which is not exported; "),
        (lambda obs: (obs, None), "the network of a2c returns a NoneType, which is not exported; "),
    ],
)  # fmt: skip
def test_the_network_of_a_plugin_may_return_other_outputs(give, names):
    """Bug: three outputs, or a dict, ended as a bug of rltrain."""
    config = RunConfig(algo=A2CConfig(), env=GymConfig("x", id="CartPole-v1"))
    if isinstance(names, list):
        described = export.describe(config, give, torch.zeros(2, 4))
        assert [output["name"] for output in described["outputs"]] == names
        return
    with pytest.raises(ConfigError, match=names):
        export.describe(config, give, torch.zeros(2, 4))


def test_a_table_is_refused_and_its_file_named(made, command):
    outcome = command("export", made("frozen_lake"))
    assert outcome.code == 2
    assert "q_learning has a table and no network to export as onnx; format; read " in outcome.last_line
    assert outcome.last_line.split("read ")[1].split(" with")[0].endswith("q_table.npy")
    assert not (made("frozen_lake") / "export").exists()


def test_without_onnx_a_table_and_a_missing_run_are_still_told_of(made, command, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    outcome = command("export", made("frozen_lake"))
    assert outcome.code == 2 and "q_learning has a table" in outcome.last_line
    assert command("export", "runs/none").code == 3


def test_a_package_that_onnx_itself_misses_is_named(made, command, monkeypatch, tmp_path):
    (tmp_path / "onnxscript").mkdir()
    (tmp_path / "onnxscript" / "__init__.py").write_text("import missing_from_onnxscript")
    monkeypatch.delitem(__import__("sys").modules, "onnxscript", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    outcome = command("export", made("cartpole"), "out=a.onnx")
    assert outcome.code == 4
    assert "a package is missing: missing_from_onnxscript; format=onnx; pip install" in outcome.last_line


def test_without_onnx_the_command_to_get_it_is_told(made, command, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    monkeypatch.setattr(export, "load_agent", None)  # at once: nothing is loaded first
    outcome = command("export", made("cartpole"), "out=a.onnx")
    assert outcome.code == 4
    assert "a package is missing: onnxscript; format=onnx; pip install 'rltrain[export]'" in outcome.last_line


def test_a_place_that_cannot_be_written_is_a_disk_error(made, command, tmp_path):
    (tmp_path / "file").write_text("")
    outcome = command("export", made("cartpole"), "format=torchscript", "out=file/a.pt")
    assert outcome.code == 7
    assert "the file cannot be written" in outcome.last_line


@pytest.mark.parametrize("kind", ["torchscript", "pt2", "onnx"])
def test_a_device_or_a_folder_is_no_file_to_write(kind, made, command, tmp_path):
    """Bugs: torch's own writer ended the process on a full device, and called a folder a bug of ours."""
    (tmp_path / "a.pt").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for out in ("a.pt", "pipe"):  # a rename would replace a device such as /dev/full, as it would this pipe
        outcome = command("export", made("cartpole"), f"format={kind}", f"out={out}")
        assert outcome.code == 7
        assert "the file cannot be written: it is no regular file; " in outcome.last_line
    assert not (tmp_path / "pipe").is_file()


def test_a_full_disk_keeps_the_older_file_in_the_run_too(made, command, tmp_path, monkeypatch):
    """Bug: in its default place the older file was removed first. A link there is replaced, not followed."""
    run = shutil.copytree(made("cartpole"), tmp_path / "run", symlinks=True)
    first = command("export", run, "format=torchscript")
    assert first.code == 0
    place = next((run / "export").glob("*.pt"))
    older = place.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        assert command("export", run, "format=torchscript").code == 7
    assert place.read_bytes() == older
    place.rename(tmp_path / "elsewhere.pt")
    place.symlink_to(tmp_path / "elsewhere.pt")
    (tmp_path / "elsewhere.pt").write_text("not ours")
    assert command("export", run, "format=torchscript").code == 0
    assert place.is_file() and not place.is_symlink() and (tmp_path / "elsewhere.pt").read_text() == "not ours"


def refuse(descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_export_is_not_written_through_a_link(made, command, tmp_path):
    """Bug: in a folder of somebody else's, the file of out= led to a file of the user's, which was replaced."""
    (tmp_path / "thesis").write_text("mine")
    (tmp_path / "a.pt").symlink_to(tmp_path / "thesis")
    assert command("export", made("cartpole"), "format=torchscript", "out=a.pt").code == 0
    assert (tmp_path / "thesis").read_text() == "mine" and not (tmp_path / "a.pt").is_symlink()


def test_a_full_disk_keeps_the_older_file(made, command, tmp_path, monkeypatch):
    """Bug: torch's own writer ended the process with C++ frames where the disk was full."""
    (tmp_path / "a.pt").write_text("older")
    monkeypatch.setattr(os, "fsync", refuse)
    outcome = command("export", made("cartpole"), "format=torchscript", "out=a.pt")
    assert outcome.code == 7
    assert "a.pt cannot be written: No space left on device; " in outcome.last_line
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]
    assert (tmp_path / "a.pt").read_text() == "older"


def test_no_file_of_a_run_or_of_somebody_else_is_overwritten(made, command, tmp_path):
    """Bugs: `out=` named a checkpoint's tensors, which became TorchScript; a description that took the place of
    meta.json, or of a file of the user's; a link that leads into a run.
    """
    run = tmp_path / "run"
    shutil.copytree(made("cartpole"), run, symlinks=True)
    (tmp_path / "link.pt").symlink_to(run / "checkpoints" / "last" / "tensors.safetensors")
    (tmp_path / "mine.json").write_text("{}")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for out, said in (
        ("run/checkpoints/last/tensors.safetensors", "give out=run/export/tensors.safetensors, or another folder"),
        ("run/meta", "lies among the files of a run"),
        ("link.pt", "lies among the files of a run"),
        ("mine", "the description would overwrite mine.json, which `export` did not write"),
    ):
        outcome = command("export", run, "format=torchscript", f"out={out}")
        assert outcome.code == 2 and said in outcome.last_line, outcome.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    for _ in range(2):  # what it wrote itself is replaced
        assert command("export", run, "format=torchscript", "out=run/export/a.pt").code == 0


def test_torchscript_that_is_switched_off_is_told(made, command, monkeypatch):
    """Bug: an AttributeError of torch, a bug in rltrain."""
    monkeypatch.setenv("PYTORCH_JIT", "0")
    outcome = command("export", made("cartpole"), "format=torchscript")
    assert outcome.code == 2 and "switches TorchScript off; PYTORCH_JIT" in outcome.last_line
