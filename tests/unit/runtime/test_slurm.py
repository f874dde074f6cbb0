"""The job script that SLURM gets."""

from __future__ import annotations

import itertools
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from batch.config.cluster import ClusterSettings, SlurmSettings, WorkerClass
from batch.errors import UsageError
from batch.runtime import security, slurm
from batch.runtime.classes import promised

SLURM = {
    "partition": "long",
    "account": "hst",
    "walltime": "1-12:00:00",
    "cores": 4,
    "scratch": "$TMPDIR/dask",
    "prologue": ("module load python",),
    "directives": ("--constraint=haswell",),
    "python": "/sw/acs/bin/python",
}
SIZE = WorkerClass.model_validate({"memory": "6 GiB", "workers": 3})


@pytest.fixture
def script(tmp_path: Path) -> str:
    tls = security.write(security.issue(), tmp_path / "tls")
    return slurm.job_script(slurm.job_options(SlurmSettings.model_validate(SLURM), SIZE, tls, tmp_path))


def test_what_is_asked_of_slurm(script: str, tmp_path: Path) -> None:
    asked = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]
    assert asked == [
        "-J acs-batch",
        f"-e {tmp_path}/log/acs-batch-%J.err",
        f"-o {tmp_path}/log/acs-batch-%J.out",
        "-p long",
        "-A hst",
        "-n 1",
        "--cpus-per-task=4",
        "--mem=6144M",
        "-t 1-12:00:00",
        "--constraint=haswell",
    ]


def test_what_runs_in_the_job(script: str, tmp_path: Path) -> None:
    lines = [line for line in script.splitlines() if line and not line.startswith("#")]
    assert lines[0] == "module load python"
    assert set(lines[1:5]) == {
        "export OMP_NUM_THREADS=4",
        "export OPENBLAS_NUM_THREADS=4",
        "export MKL_NUM_THREADS=4",
        "export NUMBA_NUM_THREADS=4",
    }
    assert "export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False" in lines[5:-1]
    words = shlex.split(lines[-1])
    assert words[:4] == ["/sw/acs/bin/python", "-m", "distributed.cli.dask_worker", "tls://scheduler:8786"]
    given = dict(itertools.pairwise(words))
    assert given["--nthreads"] == "1"
    assert given["--resources"] == f"memory={promised(6 * 2**30)}"
    assert given["--local-directory"] == "$TMPDIR/dask"
    assert given["--protocol"] == "tls://"
    assert given["--tls-ca-file"] == f"{tmp_path}/tls/ca.crt"
    assert given["--tls-cert"] == f"{tmp_path}/tls/tls.crt"
    assert given["--tls-key"] == f"{tmp_path}/tls/tls.key"
    assert given["--lifetime"] == f"{36 * 3600 * 9 // 10}s"
    assert "--nanny" in words
    assert "--nworkers" not in words


def test_the_shell_understands_it(script: str, tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_text(script)
    subprocess.run(["bash", "-n", str(tmp_path / "job.sh")], check=True)


@pytest.mark.parametrize(
    ("walltime", "seconds"), [("00:10:00", 540), ("04:00:00", 12960), ("2-00:00:00", 155520)]
)
def test_workers_end_before_their_jobs(walltime: str, seconds: int) -> None:
    assert slurm.lifetime(walltime) == seconds


def test_certificates_are_the_runs_own_and_go_with_it(tmp_path: Path) -> None:
    with slurm.certificates(ClusterSettings(kind="slurm"), tmp_path) as made:
        assert made is not None
        assert made.key.is_file()
    assert not list(tmp_path.iterdir())


def test_certificates_of_the_users(tmp_path: Path) -> None:
    own = security.write(security.issue(), tmp_path / "own")
    with slurm.certificates(ClusterSettings(kind="slurm", tls=own), tmp_path) as made:
        assert made == own
    assert own.key.is_file()
    own.key.chmod(0o604)
    with (
        pytest.raises(UsageError, match="everybody"),
        slurm.certificates(ClusterSettings(kind="slurm", tls=own), tmp_path),
    ):
        pass


@pytest.mark.parametrize("name", ["partition", "account", "interface", "python"])
def test_settings_cannot_add_words_to_the_script(name: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        SlurmSettings.model_validate({name: "x; rm -rf"})


def test_without_settings_the_interpreter_is_this_one_and_nothing_is_encrypted_if_off(tmp_path: Path) -> None:
    script = slurm.job_script(slurm.job_options(SlurmSettings(), SIZE, None, tmp_path))
    assert f"{sys.executable} -m distributed.cli.dask_worker" in script
    assert "--tls" not in script
    assert "#SBATCH -p" not in script
    assert "#SBATCH -A" not in script


def test_no_blanks_in_the_folder_of_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sbatch").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = ClusterSettings(kind="slurm")
    with pytest.raises(UsageError, match="no blanks"), slurm.start(settings, (SIZE,), tmp_path / "a b"):
        pass


def test_ctrl_c_and_termination_stay_ours(tmp_path: Path) -> None:
    """dask_jobqueue would end the driver at once, its cluster and its children left behind."""
    code = f"""
import signal
from pathlib import Path
from batch.config.cluster import SlurmSettings, WorkerClass
from batch.runtime import slurm
own = lambda number, frame: None
signal.signal(signal.SIGTERM, own)
size = WorkerClass.model_validate({{"memory": "1 GiB"}})
slurm.job_script(slurm.job_options(SlurmSettings(), size, None, Path({str(tmp_path)!r})))
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, signal.getsignal(signal.SIGTERM) is own)
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
