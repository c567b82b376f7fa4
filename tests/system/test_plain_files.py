"""Files do not change with what a module of the user's makes of Python's json and csv."""

import ast
import csv
import json
from pathlib import Path

import pytest
import yaml

import rltrain
from rltrain.config import saved
from rltrain.config.algorithms import PPOConfig
from rltrain.config.environments import GymConfig
from rltrain.config.run import RunConfig
from rltrain.system import csv_files, plain_json

VALUES = {"score": 10.114759784, "steps": [1, None, True], "name": "\u00e9"}


class Rounded(float):
    """A float that shows two decimals."""

    __repr__ = staticmethod(lambda value: format(value, ".2f"))


@pytest.mark.parametrize("indent", [None, 1])
def test_numbers_keep_their_digits_beside_a_module_that_rounds_them(indent, monkeypatch):
    """Bug: a run whose checkpoints belonged to another configuration, and results of two decimals."""
    plain = json.dumps(VALUES, indent=indent)
    monkeypatch.setattr(json.encoder, "c_make_encoder", None)
    monkeypatch.setattr(json.encoder, "float", Rounded, raising=False)
    assert "10.11," in json.dumps(VALUES), "the control"
    assert plain_json.dumps(VALUES, indent=indent) == plain


def test_a_library_in_place_of_json_is_not_used(monkeypatch):
    monkeypatch.setattr(json, "dumps", lambda value: "{}")
    monkeypatch.setattr(json, "loads", lambda text: {})
    monkeypatch.setattr(json, "_default_decoder", json.JSONDecoder(parse_float=round))
    assert plain_json.loads(plain_json.dumps(VALUES)) == VALUES


def test_no_other_module_of_rltrain_uses_json():
    for path in Path(rltrain.__file__).parent.rglob("*.py"):
        if path.name != "plain_json.py":
            nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import)]
            assert "json" not in [alias.name for node in nodes for alias in node.names], path


def test_settings_keep_their_digits_beside_a_module_that_rounds_those_of_its_yaml(tmp_path):
    """Bug: config.yaml had a learning rate of 0.01 for 0.006, and no checkpoint of the run fitted it."""
    rules, of_int = dict(yaml.SafeDumper.yaml_representers), yaml.SafeLoader.yaml_constructors["tag:yaml.org,2002:int"]
    config = RunConfig(PPOConfig(learning_rate=0.006), GymConfig("x", id="y"))
    try:
        yaml.add_representer(float, lambda dumper, value: dumper.represent_str(f"{value:.2f}"), Dumper=yaml.SafeDumper)
        yaml.SafeLoader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: -1)
        assert yaml.safe_load(yaml.safe_dump({"a": 0.006, "b": 5})) == {"a": "0.01", "b": -1}, "the control"
        saved.save(config, tmp_path / "config.yaml")
        found = saved.read(tmp_path / "config.yaml")
    finally:
        yaml.SafeLoader.add_constructor("tag:yaml.org,2002:int", of_int)
        yaml.SafeDumper.yaml_representers = rules
    assert found["algo"]["learning_rate"] == 0.006 and found["total_steps"] == config.total_steps


def test_tables_have_commas_whatever_excel_means_here(tmp_path):
    """Bug: a module that registers the dialect of a German Excel for its own tables changed those of the run."""
    kept = csv.get_dialect("excel")
    csv.register_dialect("excel", delimiter=";")
    try:
        csv_files.write(tmp_path / "a.csv", [["rank", "name"], [1, "a,b"]])
    finally:
        csv.register_dialect("excel", kept)
    assert (tmp_path / "a.csv").read_text() == 'rank,name\n1,"a,b"\n'
