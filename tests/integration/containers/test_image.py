"""What the image holds, and that it needs no more than it promises."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pods import ROOT, hardened, podman

pytestmark = [pytest.mark.container, pytest.mark.slow, pytest.mark.timeout(1200, func_only=True)]


def run(image: str, *command: str, options: tuple[str, ...] = ()) -> str:
    """What a command in a new container prints."""
    return podman("run", "--rm", *hardened(), "--network", "none", *options, image, *command)


CONFINED = """
import json, os, pathlib, subprocess, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
denied = []
for folder in ("/", "/etc", "/opt/acs-batch", "/usr/bin", "/home", "/var/lib"):
    try:
        pathlib.Path(folder, "mark").touch()
    except OSError:
        denied.append(folder)
pathlib.Path("/scratch/mark").touch()
try:
    shell = subprocess.call(["/bin/sh", "-c", "true"])
except OSError:
    shell = "none"
print(json.dumps({"uid": os.getuid(), "caps": status["CapEff"].strip(), "bounding": status["CapBnd"].strip(),
                  "no_new": status["NoNewPrivs"].strip(), "denied": len(denied), "shell": shell}))
"""


def test_it_runs_with_nothing_but_a_scratch_folder(image: str) -> None:
    found = json.loads(run(image, "python", "-I", "-c", CONFINED))
    nothing = "0" * 16
    assert found == {
        "uid": 1000, "caps": nothing, "bounding": nothing, "no_new": "1", "denied": 6, "shell": "none",
    }  # fmt: skip
    assert "acs-batch" in run(image)
    # of all that the doctor looks at, only the CRDS cache is not there
    doctor = subprocess.run(
        ["podman", "run", "--rm", *hardened(), "--network", "none", image, "acs-batch", "doctor"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert "BAD CRDS cache" in doctor
    assert not re.findall(r"BAD (?!CRDS|disk|memory)", doctor)


KERNELS = """
import importlib, json, logging, pathlib, sys
logging.basicConfig(stream=sys.stderr)
import batch
top = pathlib.Path(next(iter(batch.__path__)))
found = {}
for path in sorted(top.rglob("*.py")):
    if "from batch.compile import" in path.read_text():
        name = ".".join(("batch", *path.relative_to(top).with_suffix("").parts))
        for key, value in vars(importlib.import_module(name)).items():
            # only kernels have a cache; what is `inner` is a part of them
            if getattr(getattr(value, "stats", None), "cache_path", None):
                hits, misses = value.stats.cache_hits, value.stats.cache_misses
                found[f"{name}.{key}"] = [sum(hits.values()), sum(misses.values())]
print(json.dumps(found))
"""


@pytest.mark.parametrize("user", ["1000", "12345:0"])
def test_no_kernel_is_compiled_in_a_container(image: str, user: str) -> None:
    """The root file system is read-only, and the user one that the build knew nothing of."""
    options = ("--user", user, "--tmpfs", "/scratch:mode=1777")
    found = json.loads(run(image, "python", "-P", "-c", KERNELS, options=options))
    assert len(found) > 20
    assert set(map(tuple, found.values())) == {(1, 0)}


def described(image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(podman("image", "inspect", image))[0]
    return found


def test_labels_say_what_it_is(image: str) -> None:
    labels = described(image)["Labels"]
    start = "org.opencontainers.image."
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert labels[f"{start}title"] == project["name"]
    assert labels[f"{start}licenses"] == project["license"]
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", labels[f"{start}version"])
    assert re.fullmatch(r"([0-9a-f]{40}(-changed)?|unknown)", labels[f"{start}revision"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", labels[f"{start}created"])
    assert labels[f"{start}base.name"]


def test_the_bill_of_materials_is_what_is_installed(image: str) -> None:
    bill = json.loads(run(image, "python", "-I", "-c", "print(open('/opt/acs-batch/sbom.cdx.json').read())"))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    assert bill["metadata"]["component"]["name"] == "acs-batch"
    references = [c["bom-ref"] for c in bill["components"]]
    assert len(references) == len(set(references))
    text = (ROOT / "containers/requirements.txt").read_text("utf-8")
    entries = re.findall(r"(?m)^([\w.-]+)==(\S+) \\\n((?:    --hash=.*\n)+)", text)
    listed = {c["purl"]: c for c in bill["components"]}
    for name, version, hashes in entries:
        component = listed[f"pkg:pypi/{name.replace('.', '-').lower()}@{version}"]
        # of the wheels that might have been, the one that was
        assert component["hashes"][0]["content"] in hashes
    python = [c for c in references if c.startswith("pkg:pypi/")]
    assert len(python) == len(entries) + 1
    assert [c for c in references if c.startswith("pkg:deb/debian/libc6@")]
    # neither is needed any more
    assert not [c for c in python if c.startswith(("pkg:pypi/pip@", "pkg:pypi/setuptools@"))]


def test_no_secret_of_the_build_is_in_it(image: str, token: str) -> None:
    """It was in the environment; layers are searched as they would be sent to a registry."""
    assert token not in podman("history", "--no-trunc", image)
    assert token not in json.dumps(described(image))
    with subprocess.Popen(
        ["podman", "save", "--format", "docker-archive", image], stdout=subprocess.PIPE
    ) as saved:
        assert saved.stdout is not None
        tail, size = b"", 0
        while part := saved.stdout.read(1 << 24):
            assert token.encode() not in tail + part
            tail, size = part[-100:], size + len(part)
    assert saved.returncode == 0
    assert size > 100e6


STAND_IN = """\
ARG BASE
FROM ${BASE}
COPY micromamba /usr/local/bin/micromamba
"""
# does what `micromamba create` is asked to do, as far as one can without conda-forge
MICROMAMBA = """\
#!/usr/bin/python3
import pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("--prefix") + 1], "bin")
assert sys.argv[1] == "create" and sys.argv[-1] == "hstcal" and "conda-forge" in sys.argv
folder.mkdir(parents=True)
program = folder / "calacs.e"
program.write_text("#!/usr/bin/python3\\nprint('10.5.0 (stand-in)')\\n")
program.chmod(0o755)
"""


def test_the_variant_with_calacs_is_a_build_away(image: str, tmp_path: Path) -> None:
    """With a stand-in for micromamba: what comes from conda-forge is not tested here."""
    from pods import recipe

    build = recipe("build")
    (tmp_path / "Containerfile").write_text(STAND_IN)
    (tmp_path / "micromamba").write_text(MICROMAMBA)
    (tmp_path / "micromamba").chmod(0o755)
    mamba, variant = f"{image}-mamba", f"{image}-calacs"
    base = described(image)["Labels"]["org.opencontainers.image.base.name"]
    options = ["--layers=false", "--force-rm", "--network", "none", *build.confinement("podman")]
    try:
        podman("build", *options, "--build-arg", f"BASE={base}", "--tag", mamba, str(tmp_path))
        files = ["--file", str(ROOT / "containers/Containerfile.calacs"), "--tag", variant]
        values = ["--build-arg", f"IMAGE={image}", "--build-arg", f"MICROMAMBA={mamba}"]
        podman("build", *options, *files, *values, str(ROOT / "containers"))
        assert run(variant, "calacs.e", "--version") == "10.5.0 (stand-in)\n"
        assert described(variant)["Config"]["User"] == "1000:1000"
    finally:
        podman("rmi", "--force", variant, mamba, check=False)
