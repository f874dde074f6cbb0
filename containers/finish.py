"""Last step of the image's build: kernels, bytecode, bill of materials.

Run with the interpreter of the environment that the image will hold.
"""

from __future__ import annotations

import argparse
import compileall
import hashlib
import importlib
import json
import os
import platform
import re
import sys
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
PREFIX = Path(sys.prefix)


def main() -> None:
    """Write everything below the environment's own folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path, required=True, help="What was installed.")
    wheels = parser.parse_args().wheels
    # Numba holds compiled code for obsolete when a source file's time changed, and a copy into an image may
    # cut off fractions of a second
    for path in PREFIX.rglob("*"):
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    kernels = compile_kernels()
    print(f"kernels of {len(kernels)} modules compiled: {', '.join(kernels)}")
    compile_bytecode()
    (PREFIX / "sbom.cdx.json").write_text(json.dumps(bill_of_materials(wheels), indent=1) + "\n")


def compile_kernels() -> list[str]:
    """Import every module that defines kernels: they compile then, and stay beside their source."""
    package = Path(next(iter(importlib.import_module("batch").__path__)))
    marked = [p for p in sorted(package.rglob("*.py")) if "from batch.compile import" in p.read_text("utf-8")]
    names = [".".join(("batch", *p.relative_to(package).with_suffix("").parts)) for p in marked]
    for name in names:
        importlib.import_module(name)
    return names


def compile_bytecode() -> None:
    """A read-only image can not keep bytecode later; nor do its sources change, so that none is checked."""
    mode = compileall.py_compile.PycInvalidationMode.UNCHECKED_HASH  # type: ignore[attr-defined]
    compileall.compile_dir(PREFIX / "lib", quiet=2, workers=0, invalidation_mode=mode)


def bill_of_materials(wheels: Path, dpkg: Path = Path("/var/lib/dpkg/status")) -> dict[str, Any]:
    """What the image holds, as CycloneDX 1.5: distributions with the hash of their wheel, Debian packages."""
    components = sorted(python_components(wheels) + debian_components(dpkg), key=lambda c: c["bom-ref"])
    digest = hashlib.sha256(json.dumps(components).encode()).hexdigest()
    main_component = next(c for c in components if c["name"] == "acs-batch")
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        # the same content has the same name
        "serialNumber": f"urn:uuid:{uuid.UUID(digest[:32])}",
        "version": 1,
        "metadata": {"component": {**main_component, "type": "application", "bom-ref": "image"}},
        "components": components,
    }


def python_components(wheels: Path) -> list[dict[str, Any]]:
    """One for each installed distribution."""
    hashes = {
        tuple(normal(part) for part in w.name.split("-")[:2]): hashlib.sha256(w.read_bytes()).hexdigest()
        for w in wheels.glob("*.whl")
    }
    made = []
    for found in metadata.distributions(path=[p for p in sys.path if p.startswith(str(PREFIX))]):
        name, version = normal(found.metadata["Name"]), found.version
        made.append(component(f"pkg:pypi/{name}@{version}", name, version))
        licence = found.metadata.get("License-Expression") or found.metadata.get("License") or ""
        if licence and "\n" not in licence:
            made[-1]["licenses"] = [{"license": {"name": licence}}]
        digest = hashes.get((name, normal(version)))
        if digest:
            made[-1]["hashes"] = [{"alg": "SHA-256", "content": digest}]
    return made


def debian_components(status: Path) -> list[dict[str, Any]]:
    """One for each installed Debian package; none on another base."""
    if not status.is_file():
        return []
    made = []
    for paragraph in status.read_text("utf-8").split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|Architecture|Status): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            name, version = fields["Package"], fields["Version"]
            address = f"pkg:deb/debian/{name}@{version.replace(':', '%3A')}?arch={fields['Architecture']}"
            made.append(component(address, name, version))
    return made


def component(address: str, name: str, version: str) -> dict[str, Any]:
    return {"type": "library", "bom-ref": address, "name": name, "version": version, "purl": address}


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    print(f"Python {platform.python_version()}")
    main()
