"""What can be known of the image without building it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
CONTAINERS = ROOT / "containers"
LOCKED = dict(re.findall(r"(?m)^([\w.-]+)==(\S+)", (CONTAINERS / "requirements.txt").read_text("utf-8")))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = sorted(set(PROJECT["optional-dependencies"]) - {"test"})
WANTED = sorted({*PROJECT["dependencies"], *(r for e in EXTRAS for r in PROJECT["optional-dependencies"][e])})


@pytest.mark.parametrize("text", WANTED)
def test_the_lock_satisfies_the_project(text: str) -> None:
    """If not: the command in the first lines of the lock makes it anew."""
    wanted = Requirement(text)
    assert wanted.specifier.contains(Version(LOCKED[canonicalize_name(wanted.name)]))


def test_every_locked_distribution_has_hashes() -> None:
    text = (CONTAINERS / "requirements.txt").read_text("utf-8")
    entries = re.findall(r"(?m)^([\w.-]+)==\S+ \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text)
    assert [name for name, _ in entries] == list(LOCKED)
    for extra in EXTRAS:
        assert f"--extra {extra} " in text.splitlines()[1]


@pytest.mark.parametrize("path", sorted(CONTAINERS.iterdir()), ids=lambda p: p.name)
def test_no_file_names_a_host(path: Path) -> None:
    """Where images, packages and wheels come from is a matter of the machine."""
    if path.is_file():
        allowed = ("127.0.0.1", "scheduler", "localhost")
        hosts = re.findall(r"\w+://([\w.-]+)", path.read_text("utf-8"))
        assert not [h for h in hosts if h not in allowed]
        assert not re.search(r"\b[\w-]+\.(?:io|com|org|net)/", path.read_text("utf-8"))


def test_nothing_of_the_image_starts_in_a_shell() -> None:
    text = (CONTAINERS / "Containerfile").read_text("utf-8")
    final = text[text.rindex("\nFROM ") :]
    assert re.search(r"(?m)^USER 1000:1000$", final)
    assert not re.search(r"(?m)^(RUN|ENTRYPOINT|SHELL)", final)
    (command,) = re.findall(r"(?m)^CMD (.*)$", final)
    assert command.startswith('["')
    assert text.count("\nFROM ${BASE}") == 2


def services() -> dict[str, dict[str, object]]:
    content = yaml.safe_load((CONTAINERS / "compose.yaml").read_text("utf-8"))
    found: dict[str, dict[str, object]] = content["services"]
    return found


@pytest.mark.parametrize("name", ["scheduler", "worker", "run"])
def test_services_are_held_back(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] == "1000:1000"
    assert service["mem_limit"]
    assert isinstance(service["command"], list)
    if name != "run":
        assert service["healthcheck"]["test"][0] == "CMD"  # type: ignore[index]


def test_the_promise_of_a_worker_is_what_its_container_leaves() -> None:
    from batch.runtime.classes import promised

    worker = services()["worker"]
    (memory,) = re.findall(r"\$\{WORKER_MEMORY:-(\d+)\}", str(worker["mem_limit"]))
    (planned,) = re.findall(r"\$\{TASK_MEMORY:-(\d+)\}", str(worker["command"]))
    assert promised(int(memory)) == int(planned)
