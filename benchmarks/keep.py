"""Keep what a record needs: `python benchmarks/keep.py RUN NAME [checkpoint=last|best|STEP]` writes records/NAME.

The folder holds the settings, the result, at most 500 lines of metrics, and one checkpoint with the agent's weights but
without its optimizer and replay. `rltrain eval records/NAME` and `rltrain play records/NAME` use it like a run.
"""

import json
import re
import shutil
import sys
from pathlib import Path

from rltrain.algos.registry import load_agent, module_of
from rltrain.commands.arguments import open_run
from rltrain.envs import registry
from rltrain.run import checkpoint

MOST_LINES = 500
MOST_BYTES = 3_000_000
FILES = ("config.yaml", "result.json", "command.txt")
OF_EARLIER_RUNS = {r"^init_from: .*$": "init_from: null", r"init_from=('[^']*'|\S+)": "init_from=RUN"}
OF_THE_MACHINE = ("host", "working_directory")


def thinned(lines: list[str], most: int = MOST_LINES) -> list[str]:
    """Return all lines of evaluations, and as many of the others, evenly spaced, as leave at most `most` lines."""
    evaluations = {index for index, line in enumerate(lines) if "eval/mean_reward" in json.loads(line)}
    others = [index for index in range(len(lines)) if index not in evaluations]
    stride = max(1, -(-len(others) // max(1, most - len(evaluations))))
    return [lines[index] for index in sorted(evaluations | set(others[::stride]))]


def keep(run: str, kept: Path, which: str = "last") -> None:
    """Write the folder `kept`, which must not exist."""
    folder, config, path = open_run(run, {"checkpoint": which})
    kept.mkdir(parents=True)
    for file in FILES:
        text = (folder / file).read_text()
        # Where the run lay that it began from means nothing elsewhere.
        for pattern, placeholder in OF_EARLIER_RUNS.items():
            text = re.sub(pattern, placeholder, text, flags=re.MULTILINE)
        (kept / file).write_text(text)
    meta = json.loads((folder / "meta.json").read_text())
    told = {key: value for key, value in meta.items() if key not in OF_THE_MACHINE}
    (kept / "meta.json").write_text(json.dumps(told, indent=1) + "\n")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (kept / "metrics.jsonl").write_text("\n".join(thinned(lines)) + "\n")
    trained = load_agent(config, path)
    # A new agent has an empty optimizer. Its state with the trained networks is what evaluations load.
    state = module_of(config.algo.name).make_agent(config, *registry.spaces(config.env), config.seed).state_dict()
    state |= {key: value for key, value in trained.state_dict().items() if key not in ("optimizer", "num_updates")}
    facts = json.loads((path / "manifest.json").read_text())
    same = {key: facts[key] for key in ("made_for", "seed", "spaces")}
    new = checkpoint.save(kept, facts["step"], {"agent": state}, complete=False, **same)
    for link in ("last", "best"):
        checkpoint.point(kept, link, new)
    size = sum(file.stat().st_size for file in new.iterdir())
    if size > MOST_BYTES:
        shutil.rmtree(kept / "checkpoints")
        print(f"{kept}: the agent has {size:,} bytes and is left out")


if __name__ == "__main__":
    where = Path(__file__).parents[1] / "records" / sys.argv[2]
    keep(sys.argv[1], where, *(word.removeprefix("checkpoint=") for word in sys.argv[3:]))
