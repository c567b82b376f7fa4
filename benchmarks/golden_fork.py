"""Start rltrain many times without importing PyTorch each time. Imports take most of the time of a short training.

    python benchmarks/golden_fork.py < REQUESTS

Imports the packages that rltrain uses, but nothing of rltrain itself. A request is a line of JSON with the keys
`arguments`, `cwd`, `stderr` (a file) and `timeout_s`. For each request it forks a child that does what
`python -m rltrain` does, and answers with one line: the exit code.
"""

import contextlib
import importlib
import json
import os
import runpy
import signal
import sys
import traceback
from typing import Any

PACKAGES = ("torch", "safetensors.torch", "numba", "gymnasium", "hydra", "tensorboard.summary.writer.event_file_writer")
PACKAGES += ("tensorboard.plugins.hparams.api_pb2", "yaml", "psutil", "rich", "cv2", "ale_py", "vizdoom")


def child(request: dict[str, Any]) -> None:
    """Run rltrain in this process, then exit. Never returns."""
    code: Any = 1
    try:
        signal.alarm(request["timeout_s"])
        with open(request["stderr"], "w") as stderr, open(os.devnull) as stdin, open(os.devnull, "w") as stdout:
            for number, file in enumerate((stdin, stdout, stderr)):
                os.dup2(file.fileno(), number)
        os.chdir(request["cwd"])
        sys.argv = ["rltrain", *request["arguments"]]
        runpy.run_module("rltrain", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ending:
        code = ending.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def main() -> None:
    """Answer requests until stdin ends."""
    for package in PACKAGES:
        with contextlib.suppress(ImportError):
            importlib.import_module(package)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            child(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
