"""Check that the learning tests ("gates") pass with other seeds and with the arithmetic of other processors.

    python benchmarks/gates.py
    python benchmarks/gates.py --only reinforce   # gates whose command contains this text; keeps the others' results

The vector instructions of a processor decide the order of summation and so the rounding. Environment variables make the
libraries compute as on another processor (VARIANTS). Variants whose instructions this processor lacks are skipped.

Each gate trains with all seeds as it is, then with the first seed and each variant. If a variant leads to exactly the
same weights, it does not change the arithmetic of this gate, and its other seeds are skipped. Tables compute the same
on every processor, so their gates are tried with seeds alone.

The commands and the required scores come from tests/learns/gate_table.py, as in the tests. Writes the results to
benchmarks/results/gates.json.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from paired import machine

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "learns"))
from gate_table import GATES, Gate

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "gates.json"
AVX2 = frozenset({"avx2", "fma"})
AVX512 = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"})
PLAIN = "as it is"


@dataclass(frozen=True)
class Variant:
    """Environment variables of a run, and the processor instructions that they need."""

    variables: dict[str, str] = field(default_factory=dict, hash=False)
    needs: frozenset[str] = frozenset()

    def lacking(self, flags: set[str]) -> list[str]:
        """Return the needed instructions that a processor with these flags lacks."""
        return sorted(self.needs - flags)


VARIANTS = {
    PLAIN: Variant(),
    "two threads": Variant({"OMP_NUM_THREADS": "2"}),
    "torch, no AVX": Variant({"ATEN_CPU_CAPABILITY": "default"}, frozenset({"sse2"})),
    "torch, AVX2": Variant({"ATEN_CPU_CAPABILITY": "avx2"}, AVX2),
    "torch, AVX-512": Variant({"ATEN_CPU_CAPABILITY": "avx512"}, AVX512),
    "oneDNN, SSE4.1": Variant({"ONEDNN_MAX_CPU_ISA": "SSE41"}, frozenset({"sse4_1"})),
    "oneDNN, AVX2": Variant({"ONEDNN_MAX_CPU_ISA": "AVX2"}, AVX2),
    "oneDNN, AVX-512": Variant({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, AVX512),
    "MKL, SSE2": Variant({"MKL_CBWR": "COMPATIBLE"}, frozenset({"sse2"})),
    "MKL, AVX2": Variant({"MKL_CBWR": "AVX2"}, AVX2),
    "MKL, AVX-512": Variant({"MKL_CBWR": "AVX512"}, AVX512),
    "OpenBLAS, Nehalem": Variant({"OPENBLAS_CORETYPE": "Nehalem"}, frozenset({"sse4_2"})),
    "OpenBLAS, Haswell": Variant({"OPENBLAS_CORETYPE": "Haswell"}, AVX2),
    "OpenBLAS, SkylakeX": Variant({"OPENBLAS_CORETYPE": "SkylakeX"}, AVX512),
    "NumPy, no AVX2": Variant({"NPY_DISABLE_CPU_FEATURES": "X86_V3"}, AVX2),
}
"""torch multiplies with MKL and oneDNN, NumPy with OpenBLAS; NumPy's own functions (tanh) choose their instructions."""


def processor_flags() -> set[str]:
    """Return the flags of the processor; empty if the system has no /proc/cpuinfo."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())


def train(gate: Gate, variant: Variant, seed: int) -> dict:
    """Run the command of a gate in its own process. Return its measures, the missed ones and a hash of its weights."""
    with tempfile.TemporaryDirectory() as folder:
        keys = [*gate.keys, f"seed={seed}", f"run_dir={folder}", "device=cpu", "progress=false"]
        command = [sys.executable, "-c", "from rltrain.cli import main; main()", *keys]
        environment = os.environ | {"PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"} | variant.variables
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{gate} seed={seed} {variant.variables}: code {done.returncode}\n{done.stderr[-2000:]}")
        run = (Path(folder) / "latest").resolve()
        values = gate.measure(run)
        result = json.loads((run / "result.json").read_text())
        weights = run / "checkpoints" / "last" / "tensors.safetensors"
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:16] if weights.exists() else None
    return {
        "measures": {name: round(value, 4) for name, value in values.items()},
        "missed": gate.misses(values),
        "steps": result["steps"],
        "wall_s": round(result["wall_time_s"], 1),
        "weights": digest,
    }


def try_gate(gate: Gate, variants: dict[str, Variant], seeds: list[int], pool: ThreadPoolExecutor) -> dict[str, dict]:
    """Return the outcomes of a gate, {variant: {seed: outcome}}; {variant: {"same as": PLAIN}} for equal weights."""
    names = [PLAIN] if gate.exact else [PLAIN, *(name for name in variants if name != PLAIN)]
    jobs = [(PLAIN, seed) for seed in seeds] + [(name, seeds[0]) for name in names[1:]]
    outcomes: dict[str, dict] = {name: {} for name in names}

    def run(jobs: list[tuple[str, int]]) -> None:
        found = pool.map(lambda job: train(gate, variants[job[0]], job[1]), jobs)
        for (name, seed), outcome in zip(jobs, found, strict=True):
            outcomes[name][str(seed)] = outcome
            print(f"{gate} seed={seed}, {name}: {outcome['measures']}", *outcome["missed"], flush=True)

    run(jobs)
    plain = outcomes[PLAIN][str(seeds[0])]["weights"]
    changed = [name for name in names[1:] if outcomes[name][str(seeds[0])]["weights"] != plain]
    run([(name, seed) for name in changed for seed in seeds[1:]])
    return {name: tried if name == PLAIN or name in changed else {"same as": PLAIN} for name, tried in outcomes.items()}


def report(gates: dict[str, dict[str, dict]], skipped: dict[str, str]) -> list[str]:
    """Return a Markdown table with the number of passed seeds and the measures of each gate and variant."""
    lines = ["| gate | arithmetic | held | measures of each seed |", "|---|---|---|---|"]
    for gate, variants in gates.items():
        for name, tried in variants.items():
            if "same as" in tried:
                lines.append(f"| {gate} | {name} | same weights as {tried['same as']} | |")
                continue
            held = sum(not outcome["missed"] for outcome in tried.values())
            measures = "; ".join(
                f"{measure} " + ", ".join(f"{outcome['measures'][measure]:g}" for outcome in tried.values())
                for measure in next(iter(tried.values()))["measures"]
            )
            lines.append(f"| {gate} | {name} | {held} of {len(tried)} | {measures} |")
    return [*lines, *(f"skipped: {name} ({why})" for name, why in skipped.items())]


def missed(gates: dict[str, dict[str, dict]]) -> bool:
    """Return true if any run missed its gate."""
    tried = [outcomes for variants in gates.values() for outcomes in variants.values() if "same as" not in outcomes]
    return any(outcome["missed"] for outcomes in tried for outcome in outcomes.values())


def main() -> None:
    """Train and print the table. The exit code is 1 if a gate was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--only", default="", help="gates whose command contains this text")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="runs side by side")
    options = parser.parse_args()
    if not any(options.only in str(gate) for gate in GATES):
        parser.error(f"no gate's command contains {options.only!r}; the gates are: {', '.join(map(str, GATES))}")
    seeds = [int(seed) for seed in options.seeds.split(",")]
    flags = processor_flags()
    skipped = {
        name: f"this processor lacks {', '.join(variant.lacking(flags))}"
        for name, variant in VARIANTS.items()
        if variant.lacking(flags)
    }
    variants = {name: variant for name, variant in VARIANTS.items() if name not in skipped}
    before = json.loads(RESULTS.read_text()) if options.only and RESULTS.exists() else {}
    tried = before.get("gates", {}) if before.get("machine") == machine() else {}
    with ThreadPoolExecutor(options.jobs) as pool:
        for gate in GATES:
            if options.only in str(gate):
                tried[str(gate)] = try_gate(gate, variants, seeds, pool)
                gates = {name: tried[name] for name in map(str, GATES) if name in tried}
                result = {"machine": machine(), "skipped": skipped, "gates": gates}
                RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print("\n".join(report(gates, skipped)))
    sys.exit(int(missed(gates)))


if __name__ == "__main__":
    main()
