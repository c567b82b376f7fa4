"""Run folders written by hand."""

import json

import yaml


def write_run(folder, points, algo="dqn", env="cartpole", seed=0, metric="eval/mean_reward", **algo_keys):
    """A run folder with a metric at some steps."""
    folder.mkdir(parents=True)
    config = {
        "algo": {"name": algo, **algo_keys},
        "env": env if isinstance(env, dict) else {"name": env},
        "network": {"name": "mlp"},
        "seed": seed,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    lines = [json.dumps({"step": step, "time_s": 1.0, metric: value}) + "\n" for step, value in points.items()]
    (folder / "metrics.jsonl").write_text("".join(lines))
    return folder
