"""The layers of docs/design.md, read from the source: which room may import which, and what no file may contain."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import rltrain

PACKAGE = Path(rltrain.__file__).parent

ROOMS = (
    "errors",
    "system",
    "math",
    "config",
    "runtime",
    "envs",
    "nn",
    "fast",
    "buffers",
    "run",
    "algos",
    "plugins",
    "watching",
    "app",
    "commands",
    "cli",
)
"""From the bottom to the top: a room imports itself and rooms before it, wherever the import stands."""

EMULATORS = {"vizdoom", "ale_py", "retro", "stable_retro", "cv2"}
HYDRA = {"hydra", "omegaconf"}

Sources = dict[str, str]
"""The text of each module by its dotted name."""


def sources() -> Sources:
    """Every module of the package; a package's own `__init__` has the package's name."""
    return {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path.read_text()
        for path in PACKAGE.rglob("*.py")
    }


SOURCES = sources()


@functools.cache
def imports(source: str) -> set[str]:
    """Every module that a file names in an import: at its top, in functions, under TYPE_CHECKING."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            assert node.module
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def roots(name: str) -> set[str]:
    return {module.split(".")[0] for module in imports(SOURCES[name])}


def room(module: str) -> str | None:
    return module.split(".")[1] if module.startswith("rltrain.") else None


def arrows(found: Sources) -> dict[str, set[str]]:
    """The modules of the package that each module imports: the longest name that is a module."""
    return {
        name: {module for module in imports(source) if module in found and "." in module} - {name}
        for name, source in found.items()
    }


def upward(found: Sources) -> list[str]:
    """Imports that point from a room to a later one."""
    order = {name: place for place, name in enumerate(ROOMS)}
    return [
        f"{name} imports {module}"
        for name, modules in arrows(found).items()
        for module in modules
        if room(name) and order[room(module)] > order[room(name)]
    ]


def cycles(found: Sources) -> list[str]:
    """Modules that import each other, directly or by way of others."""
    # A package's empty `__init__` is imported with every module of it, and imports nothing.
    graph, done, cyclic = arrows(found), set(), []

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            cyclic.append(" -> ".join([*path[path.index(name) :], name]))
        elif name not in done:
            for module in sorted(graph[name]):
                visit(module, [*path, name])
            done.add(name)

    for name in sorted(graph):
        visit(name, [])
    return cyclic


def test_every_file_is_in_a_room_of_the_list():
    assert {room(name) for name in SOURCES} - {None, "__main__"} == set(ROOMS)
    assert "rltrain.math.losses" in arrows(SOURCES)["rltrain.algos.dqn"]  # so that the rules below are not empty


def test_no_import_points_upward():
    assert upward({name: source for name, source in SOURCES.items() if room(name) != "__main__"}) == []


def test_no_modules_import_each_other():
    assert cycles(SOURCES) == []


@pytest.mark.parametrize(
    "planted",
    [
        "from rltrain.run.run import Run",
        "from rltrain.run import run",
        "def f():\n    import rltrain.run.run",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from rltrain.run.run import Run",
    ],
)
def test_a_planted_upward_import_is_found(planted):
    found = SOURCES | {"rltrain.math.losses": SOURCES["rltrain.math.losses"] + "\n" + planted}
    found.pop("rltrain.__main__")
    assert "rltrain.math.losses imports rltrain.run.run" in upward(found)


def test_a_planted_cycle_is_found():
    changed = SOURCES["rltrain.buffers.batch"] + "\ndef f():\n    from rltrain.buffers import prioritized"
    assert any("rltrain.buffers.batch" in cycle for cycle in cycles(SOURCES | {"rltrain.buffers.batch": changed}))


def test_math_depends_on_nothing_but_numbers():
    for name in SOURCES:
        if room(name) == "math":
            assert roots(name) <= {"torch", "numpy", "math", "collections", "rltrain"}, name
            assert {room(module) for module in arrows(SOURCES)[name]} <= {"math", "system"}, name


def test_no_algorithm_imports_another():
    algos = {name for name in SOURCES if name.startswith("rltrain.algos.") and name.count(".") == 2}
    algos -= {"rltrain.algos.registry", "rltrain.algos.parts"}
    for name in algos:
        assert not arrows(SOURCES)[name] & algos, name


@pytest.mark.parametrize("learning", ["algos", "buffers", "math", "nn", "fast"])
def test_learning_code_knows_no_emulator_and_no_hydra(learning):
    for name in SOURCES:
        if room(name) == learning:
            assert not roots(name) & (EMULATORS | HYDRA), name


def test_hydra_is_known_to_four_modules():
    knowing = {f"rltrain.app.{name}" for name in ("composition", "hydra_app", "hydra_sweep", "overrides")}
    assert {name for name in SOURCES if roots(name) & HYDRA} == knowing


def test_torch_distributed_is_known_to_the_room_runtime_only():
    """And there to the group and the launcher, which a plain run does not import."""
    found = {
        name
        for name, source in SOURCES.items()
        if any(each.startswith("torch.distributed") for each in imports(source))
    }
    assert found == {"rltrain.runtime.torch_group", "rltrain.runtime.launch"}
    at_the_top = [ast.unparse(node) for node in ast.parse(SOURCES["rltrain.runtime.launch"]).body]
    assert not any(line.startswith(("import torch", "from torch")) for line in at_the_top)


def test_ray_is_known_to_three_modules_and_imported_where_it_is_asked_for_only():
    knowing = {"rltrain.runtime.ray_cluster", "rltrain.algos.parts.ray_fleet", "rltrain.app.on_ray"}
    assert {name for name in SOURCES if "ray" in roots(name)} == knowing
    at_the_top = [ast.unparse(node) for name in knowing for node in ast.parse(SOURCES[name]).body]
    assert not any(line.startswith(("import ray", "from ray")) for line in at_the_top)


def test_the_configuration_knows_no_torch():
    for name in SOURCES:
        if room(name) == "config":
            assert "torch" not in roots(name), name


def test_an_emulator_is_imported_in_its_own_family_only():
    families = {"vizdoom": "doom", "ale_py": "atari", "stable_retro": "retro"}
    for name in SOURCES:
        for package in roots(name) & families.keys():
            assert name.startswith((f"rltrain.envs.{families[package]}", "rltrain.commands.doctor")), name


def test_package_files_are_empty():
    for path in PACKAGE.rglob("__init__.py"):
        assert not path.read_text().strip(), path


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


def test_nothing_runs_code_from_data():
    control = "eval('1')\ntorch.load(f)\nsubprocess.run(c, shell=True)\nnp.load(f, allow_pickle=True)"
    assert forbidden_calls(control) == {"eval", "torch.load", "shell=", "allow_pickle="}
    for name, source in SOURCES.items():
        assert not forbidden_calls(source), name
        assert not roots(name) & {"pickle", "cloudpickle", "dill", "shelve", "marshal"}, name


HEAVY = "torch", "vizdoom", "ale_py", "numba", "tensorboard"
COMPILERS = "torch._dynamo", "numba"
# torch itself imports parts of torch.distributed.
SEVERAL = "rltrain.runtime.torch_group", "rltrain.app.ranks", "torch.distributed.elastic", "torch.distributed.launcher"
TRAINING = ["algo=ppo", "env=cartpole", "num_envs=2", "algo.num_steps=32", "batch_size=64", "total_steps=64",
            "final_eval_episodes=1", "progress=false"]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "forbidden"),
    [
        ("import rltrain.cli as cli; cli.run(['--help'])", (*HEAVY, "torch.distributed", "ray", "hydra", "gymnasium")),
        ("import rltrain.cli", (*HEAVY, "hydra", "gymnasium")),
        ("import rltrain.config.run", HEAVY),
        ("import rltrain.app.hydra_app", HEAVY),
        ("import rltrain.run.run", ("torch", "vizdoom", "ale_py", "numba")),
        ("import rltrain.app.hydra_app as app; app.run(['algo=q_learning', 'env=taxi', '--cfg', 'job'])", HEAVY),
        ("import rltrain.app.hydra_app as app; app.run(['algo=dqn', 'env=doom', '--cfg', 'job'])", HEAVY),
        ("import rltrain.algos.q_learning", ("torch", "vizdoom", "ale_py")),
        ("import rltrain.algos.dqn, rltrain.algos.impala", ("vizdoom", "ale_py", "ray")),
        # Making, saving and loading an optimizer brings torch's compiler, unless it is kept out.
        (
            f"import rltrain.cli as cli; cli.run({TRAINING}); cli.run(['resume', 'last', 'total_steps=128'])",
            (*COMPILERS, *SEVERAL, "ray"),
        ),
    ],
)
def test_composing_and_completing_stay_quick(what, forbidden, tmp_path):
    code = f"import sys; {what}; sys.exit([name for name in {forbidden!r} if name in sys.modules] or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
