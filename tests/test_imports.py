"""The layers of docs/design.md, read from the source: who may import whom, and what must not be there at all."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rltrain.config.run

PACKAGE = Path(rltrain.config.run.__file__).parent
MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
EMULATORS = {"vizdoom", "ale_py", "retro", "stable_retro", "cv2"}
HYDRA = {"hydra", "omegaconf"}


def imports(path: Path) -> set[str]:
    """Every module that a file names in an import, wherever it stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def forbidden_calls(source: str) -> set[str]:
    """Ways to run code or commands that came as data."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in ("eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "yaml.load"):
                found.add(name)
            for keyword in node.keywords:
                constant = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                if keyword.arg in ("shell", "allow_pickle") and constant is not False:
                    found.add(f"{keyword.arg}=")
    return found


def test_the_modules_are_found_so_that_the_rules_below_are_not_empty():
    assert {"cli", "math.losses", "algos.dqn", "memory.replay", "commands.eval", "envs.doom_engine"} <= set(MODULES)
    assert "rltrain.math.losses" in imports(MODULES["algos.dqn"])


def test_math_depends_on_nothing_but_numbers():
    math = [path for name, path in MODULES.items() if name.startswith("math.")]
    for path in math:
        assert roots(path) <= {"torch", "numpy", "math", "collections"}, path.name


def test_no_algorithm_imports_another():
    algos = [name for name in MODULES if name.startswith("algos.") and name != "algos.__init__"]
    for name in algos:
        own = {f"rltrain.{name}", f"rltrain.{name}_config"}
        taken = {module for module in imports(MODULES[name]) if module.startswith("rltrain.algos.")}
        others = {
            module for module in taken if not any(module == mine or module.startswith(f"{mine}.") for mine in own)
        }
        assert not others, f"{name} imports {others}"


@pytest.mark.parametrize("package", ["algos.", "memory.", "math."])
def test_learning_code_knows_no_emulator_and_no_hydra(package):
    for name, path in MODULES.items():
        if name.startswith(package):
            assert not roots(path) & (EMULATORS | HYDRA), name
            assert not imports(path) & {
                "rltrain.envs.doom.scenario",
                "rltrain.envs.atari.pool",
                "rltrain.app.hydra_app",
            }, name


def test_nothing_below_the_algorithms_knows_that_they_exist():
    for name, path in MODULES.items():
        if name.startswith(("math.", "memory.", "envs.")) or name in ("networks", "logger", "checkpoint"):
            assert not any(module.startswith(("rltrain.algos", "rltrain.run.run")) for module in imports(path)), name


def test_hydra_is_known_to_one_module():
    assert {name for name, path in MODULES.items() if roots(path) & HYDRA} == {"hydra_app"}


def test_an_emulator_is_imported_in_its_own_family_only():
    for name, path in MODULES.items():
        taken = roots(path) & {"vizdoom", "ale_py"}
        if taken:
            assert name.startswith(("envs.", "commands.doctor")), f"{name} imports {taken}"


def test_package_files_are_empty():
    for name, path in MODULES.items():
        if name.endswith("__init__"):
            assert not path.read_text().strip(), name


def test_nothing_runs_code_from_data():
    control = "eval('1')\ntorch.load(f)\nsubprocess.run(c, shell=True)\nnp.load(f, allow_pickle=True)"
    assert forbidden_calls(control) == {"eval", "torch.load", "shell=", "allow_pickle="}
    for name, path in MODULES.items():
        assert not forbidden_calls(path.read_text()), name
        assert not roots(path) & {"pickle", "cloudpickle", "dill", "shelve", "marshal"}, name


HEAVY = "torch", "vizdoom", "ale_py", "numba", "tensorboard"
COMPILERS = "torch._dynamo", "numba"
TRAINING = ["algo=ppo", "env=cartpole", "num_envs=2", "algo.num_steps=32", "batch_size=64", "total_steps=64",
            "final_eval_episodes=1", "progress=false"]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "forbidden"),
    [
        ("import rltrain.cli", (*HEAVY, "hydra", "gymnasium")),
        ("import rltrain.config.run", HEAVY),
        ("import rltrain.app.hydra_app", HEAVY),
        ("import rltrain.run.run", ("torch", "vizdoom", "ale_py", "numba")),
        ("import rltrain.app.hydra_app as app; app.run(['algo=q_learning', 'env=taxi', '--cfg', 'job'])", HEAVY),
        ("import rltrain.app.hydra_app as app; app.run(['algo=dqn', 'env=doom', '--cfg', 'job'])", HEAVY),
        ("import rltrain.algos.q_learning", ("torch", "vizdoom", "ale_py")),
        ("import rltrain.algos.dqn", ("vizdoom", "ale_py")),
        # Making, saving and loading an optimizer brings torch's compiler, unless it is kept out.
        (f"import rltrain.cli as cli; cli.run({TRAINING}); cli.run(['resume', 'last', 'total_steps=128'])", COMPILERS),
    ],
)
def test_composing_and_completing_stay_quick(what, forbidden, tmp_path):
    code = f"import sys; {what}; sys.exit([name for name in {forbidden!r} if name in sys.modules] or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
