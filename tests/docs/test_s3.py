"""The commands and the code of the page on S3 run as they stand, on a server on loopback."""

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "s3.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def run(folder: Path, script: str, *shell: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*shell, script], cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def test_blocks_run(bucket: str, tmp_path: Path) -> None:
    commands, sweeping = (block.replace("s3://my-bucket", bucket) for block in blocks("bash"))
    said = run(tmp_path, commands, "bash", "-ec")
    assert f"3 ingested into {bucket}/lab/data.zarr, 0 skipped, 0 failed" in said
    assert "CA1" in said
    assert "\nsound\n" in said
    assert (tmp_path / "run").is_dir()
    assert len((tmp_path / "features.csv").read_text().splitlines()) == 37
    assert "sound" in run(tmp_path, f"export NHDATA_STORE={bucket}/lab/data.zarr\n{sweeping}", "bash", "-ec")
    (code,) = blocks("python")
    checks = "\nassert len(store.session_ids) == 3 and times_s.size and len(batch) == 16\n"
    run(tmp_path, code.replace("s3://my-bucket", bucket) + checks, sys.executable, "-c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features.csv", "run"]
