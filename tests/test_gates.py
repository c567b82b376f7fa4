"""benchmarks/gates.py: what it trains, what it leaves out, and what it calls missed."""

import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def gates(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    spec = importlib.util.spec_from_file_location("benchmark_of_gates", BENCHMARKS / "gates.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def trained(gates, monkeypatch):
    """The (variant's variables, seed) of each run; the weights depend on the seed, and on torch's instructions."""
    runs = []

    def train(gate, variant, seed):
        runs.append((dict(variant.variables), seed))
        weights = f"{seed} {variant.variables.get('ATEN_CPU_CAPABILITY')}"
        return {"measures": {"final": 480.0}, "missed": [], "weights": weights}

    monkeypatch.setattr(gates, "train", train)
    return runs


@pytest.fixture
def pole(gates):
    return next(gate for gate in gates.GATES if gate.keys == ("algo=ppo", "env=cartpole"))


def test_a_score_outside_its_range_is_a_miss_that_names_the_command(pole):
    assert pole.misses({"final": 475.0}) == []
    assert pole.misses({"final": 474.99}) == ["algo=ppo env=cartpole: final is 474.99, allowed is 475 to 500"]
    assert pole.misses({"final": float("nan")})


def test_a_variant_that_leaves_the_same_weights_is_trained_on_one_seed_only(gates, pole, trained):
    variants = {name: gates.VARIANTS[name] for name in (gates.PLAIN, "two threads", "torch, no AVX")}
    with ThreadPoolExecutor(1) as pool:
        outcomes = gates.try_gate(pole, variants, [0, 1, 2], pool)
    assert outcomes["two threads"] == {"same as": gates.PLAIN}
    assert list(outcomes["torch, no AVX"]) == list(outcomes[gates.PLAIN]) == ["0", "1", "2"]
    assert trained == [
        *(({}, seed) for seed in (0, 1, 2)),
        ({"OMP_NUM_THREADS": "2"}, 0),
        *(({"ATEN_CPU_CAPABILITY": "default"}, seed) for seed in (0, 1, 2)),
    ]
    assert not gates.missed({"a gate": outcomes})
    outcomes["torch, no AVX"]["2"]["missed"] = ["too low"]
    assert gates.missed({"a gate": outcomes})


def test_tables_are_tried_on_seeds_alone(gates, trained):
    table = next(gate for gate in gates.GATES if gate.exact)
    with ThreadPoolExecutor(1) as pool:
        gates.try_gate(table, gates.VARIANTS, [0, 1], pool)
    assert trained == [({}, 0), ({}, 1)]


def test_a_variant_whose_instructions_the_processor_lacks_says_which(gates):
    wide = gates.VARIANTS["torch, AVX-512"]
    assert wide.lacking({"avx2", "avx512f"}) == ["avx512bw", "avx512dq", "avx512vl"]
    assert wide.lacking(set(wide.needs)) == gates.VARIANTS[gates.PLAIN].lacking(set()) == []
