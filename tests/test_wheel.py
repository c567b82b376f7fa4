"""An installed wheel carries its configuration and works from any folder."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_a_wheel_without_its_yaml_files_or_a_package_would_not_train(tmp_path):
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(tmp_path), str(source)], check=True)
    wheel = next(tmp_path.glob("*.whl"))
    with zipfile.ZipFile(wheel) as file:  # all that an installation of pure Python does
        file.extractall(tmp_path / "site")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    # -I keeps the checkout, and whatever the environment points to, out of sys.path.
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import rltrain, rltrain.cli; "
        f"assert rltrain.__file__.startswith({str(tmp_path)!r}), rltrain.__file__; "
        "sys.exit(rltrain.cli.run(['algo=q_learning', 'env=taxi', 'total_steps=2000', 'progress=false']))"
    )
    subprocess.run([sys.executable, "-I", "-c", program], check=True, cwd=elsewhere)
    result = json.loads(next(elsewhere.rglob("result.json")).read_text())
    assert result["steps"] == 2000
