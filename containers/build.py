#!/usr/bin/env python3
"""Build the image: wheels on this machine, then an image without network.

``python3 containers/build.py`` is all that is needed where an image registry can be reached. Where none can,
``--bootstrap`` (root, Debian) makes the base image with mmdebstrap from the packages of a Debian mirror.
Wheels come from wherever pip is configured to look; each is held to its hash in requirements.txt.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SUITE = "bookworm"
PYTHON = "3.11.2"
"""Of this suite; requirements.txt is resolved for it."""
GLIBC = 36
"""Of this suite, 2.GLIBC: wheels made for it or for an older one will do."""
BOOTSTRAPPED = f"localhost/acs-batch-base:{SUITE}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the image; its name is the last line of output."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tag", default=f"localhost/acs-batch:{version()}", help="its name [%(default)s]")
    parser.add_argument("--engine", help="podman or docker [the first that is installed]")
    parser.add_argument("--wheels", type=Path, default=ROOT / "build" / "wheels", help="folder [%(default)s]")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE", help="of it")
    base = parser.add_mutually_exclusive_group()
    base.add_argument("--base", help="base image, best as NAME@sha256:DIGEST [that of the Containerfile]")
    base.add_argument("--bootstrap", action="store_true", help="make the base image with mmdebstrap")
    given = parser.parse_args(arguments)
    engine = given.engine or find_engine()
    # one waits for the network while the other unpacks
    with ThreadPoolExecutor() as pool:
        wheels = pool.submit(make_wheels, given.wheels)
        if given.bootstrap:
            bootstrap(engine)
        wheels.result()
    image = BOOTSTRAPPED if given.bootstrap else given.base
    build(engine, given.tag, given.wheels, [*given.build_arg, *([f"BASE={image}"] if image else [])])
    print(given.tag)


def find_engine() -> str:
    """The first engine that is installed."""
    for name in ("podman", "docker"):
        if shutil.which(name):
            return name
    sys.exit("build.py: neither podman nor docker is installed; install one")


def confinement(engine: str) -> list[str]:
    """What podman has to be told, for a build or a run, on machines that are containers themselves.

    It asks for more files and processes than a confined machine grants, and crun, its first choice, refuses
    the mixture of cgroups v1 and v2 that some have; runc takes it.
    """
    if Path(engine).name != "podman":
        return []
    options = []
    for name, wanted in (("nofile", 65536), ("nproc", 4096)):
        hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
        count = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        options += ["--ulimit", f"{name}={count}:{count}"]
    runc = shutil.which("runc")
    if runc and Path("/sys/fs/cgroup/unified").is_dir():
        options += ["--runtime", runc]
    return options


def make_wheels(folder: Path) -> None:
    """Fill a folder with the wheels of requirements.txt and of acs-batch itself."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = platform.machine()
    kinds = [*(f"_2_{minor}" for minor in range(GLIBC, 4, -1)), "2014", "2010", "1"]
    target = ["--only-binary", ":all:", "--python-version", PYTHON]
    target += [option for kind in kinds for option in ("--platform", f"manylinux{kind}_{machine}")]
    locked = ["--no-deps", "--require-hashes", "--requirement", str(HERE / "requirements.txt")]
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run([*pip, "download", *target, *locked, "--dest", str(folder)])
    for old in folder.glob("acs_batch-*.whl"):
        old.unlink()
    run([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)])


def bootstrap(engine: str) -> None:
    """Make the base image from Debian packages; no image registry is asked."""
    if not shutil.which("mmdebstrap"):
        sys.exit("build.py --bootstrap: mmdebstrap is not installed; install it, or give --base")
    packages = "python3,python3-venv,libstdc++6,ca-certificates"
    command = ["mmdebstrap", "--quiet", "--variant=essential", f"--include={packages}"]
    # nothing is lost with a half-written image
    command += ["--dpkgopt=force-unsafe-io"]
    command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "locale", "doc")]
    command += ["--dpkgopt=path-include=/usr/share/doc/*/copyright", SUITE, "-", *apt_sources()]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as made:
        run([engine, "import", "-", BOOTSTRAPPED], stdin=made.stdout)
    if made.returncode:
        sys.exit(f"build.py: mmdebstrap failed with status {made.returncode}")


def apt_sources() -> list[str]:
    """Where this system gets its packages, if of the same suite; else mmdebstrap knows a mirror."""
    release = Path("/etc/os-release")
    if not (release.is_file() and f"VERSION_CODENAME={SUITE}\n" in release.read_text()):
        return []
    known = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d/debian.sources"))
    return [str(path) for path in known if path.is_file()]


def build(engine: str, tag: str, wheels: Path, values: Sequence[str]) -> None:
    """Build the image from a folder of wheels; same inputs, same content."""
    epoch = git("log", "-1", "--format=%ct") or "0"
    revision = git("rev-parse", "HEAD") or "unknown"
    if git("status", "--porcelain", "--", "batch", "containers", "pyproject.toml"):
        revision += "-changed"
    created = datetime.datetime.fromtimestamp(int(epoch), datetime.UTC)
    defaults = {
        "VERSION": version(),
        "REVISION": revision,
        "CREATED": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "SOURCE_DATE_EPOCH": epoch,
        "KERNEL_CPU": "x86-64-v3" if platform.machine() == "x86_64" else "generic",
    }
    command = [engine, "build", "--file", str(HERE / "Containerfile"), "--tag", tag, "--network", "none"]
    command += ["--build-context", f"wheels={wheels.absolute()}", *confinement(engine)]
    if Path(engine).name == "podman":
        # the layer of the first stage would be a second copy of everything
        command += ["--layers=false", "--force-rm", "--timestamp", epoch]
    for value in (*(f"{name}={text}" for name, text in defaults.items()), *values):
        command += ["--build-arg", value]
    run([*command, str(HERE)])


def version() -> str:
    """Of acs-batch, from its source."""
    found = re.search(r'__version__ = "(.+)"', (ROOT / "batch" / "__init__.py").read_text(encoding="utf-8"))
    return found.group(1) if found else "0"


def git(*arguments: str) -> str:
    """Output of a git command; empty outside a checkout."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def run(command: Sequence[str], **options: object) -> None:
    """Run a program; its failure is ours."""
    status = subprocess.run(command, check=False, **options).returncode  # type: ignore[call-overload]
    if status:
        sys.exit(f"build.py: {' '.join(command[:3])} ... failed with status {status}")


if __name__ == "__main__":
    main()
