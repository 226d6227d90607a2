"""What a new process takes to say something, files in the page cache: commands and imports beside those of peers."""

import shutil
import subprocess
import sys
from pathlib import Path

from .data import add, recording


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def script(name: str) -> str:
    """A command of this environment."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        raise FileNotFoundError(f"{name} is not installed beside {sys.executable}")
    return found


class Help:
    """``--help``."""

    number, timeout = 1, 120

    def time_ours_nhdata(self) -> None:
        run(script("nhdata"), "--help")

    def time_ours_nhmodel(self) -> None:
        run(script("nhmodel"), "--help")

    def time_brainsets(self) -> None:
        run(script("brainsets"), "--help")

    def time_pynwb_validate(self) -> None:
        run(script("pynwb-validate"), "--help")


class Import:
    """A bare ``import``."""

    number, timeout = 1, 120

    def time_ours_nhdata(self) -> None:
        run(sys.executable, "-c", "import nhdata")

    def time_ours_loader(self) -> None:
        """torch included."""
        run(sys.executable, "-c", "from nhdata.loading import WindowDataset")

    def time_pynapple(self) -> None:
        run(sys.executable, "-c", "import pynapple")

    def time_torch_brain(self) -> None:
        run(sys.executable, "-c", "import torch_brain.data")

    def time_pynwb(self) -> None:
        run(sys.executable, "-c", "import pynwb")


class Ask:
    """A question to a store of ten sessions, from the shell; beside pandas and bare DuckDB over one Parquet."""

    number, timeout = 1, 120

    def setup_cache(self) -> str:
        import nhdata

        root = Path("startup.zarr").absolute()
        for seed in range(10):
            add(root, recording(2000, 20, seed))
        units = nhdata.open(root).sql("select region, rate_hz from units").to_pandas()
        units.to_parquet(root.with_name("units.parquet"))
        return str(root)

    def setup(self, root: str) -> None:
        self.parquet = str(Path(root).with_name("units.parquet"))

    def time_ours(self, root: str) -> None:
        query = "select region, avg(rate_hz) from units group by region"
        run(script("nhdata"), "sql", "--store", root, query)

    def time_duckdb(self, root: str) -> None:
        query = f"select region, avg(rate_hz) from '{self.parquet}' group by region"
        run(sys.executable, "-c", f'import duckdb; print(duckdb.sql("{query}"))')

    def time_pandas(self, root: str) -> None:
        code = f"import pandas; print(pandas.read_parquet({self.parquet!r}).groupby('region').rate_hz.mean())"
        run(sys.executable, "-c", code)
