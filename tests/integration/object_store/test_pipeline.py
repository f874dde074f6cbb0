"""The command line, with the visit of the demo and a work directory in a bucket."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from command import acs_batch

from batch.storage.objects.work import ObjectWork
from batch.storage.work import Location

pytestmark = pytest.mark.slow


def products(record: dict[str, Any]) -> dict[str, str]:
    return {p["name"]: p["sha256"] for p in record["products"]}


def test_the_products_are_those_of_a_run_in_a_folder(
    finished: tuple[Path, str],
    work: ObjectWork,
    location: Location,
    bucket: str,
    proxy: Any,
    everything: Any,
    secret: str,
) -> None:
    folder = finished[0]
    visit = folder / "simulated"
    options = [
        *("--from", str(visit / "raw"), "--crds-cache", str(visit / "crds"), "--work", location.address),
        *("--workers", "2", "--set", f"cluster.scratch={location.scratch}"),
        *("--set", f"align.catalog={visit / 'truth' / 'catalog.ecsv'}", "--set", "sweep.pixfrac=[0.6]"),
    ]
    done = acs_batch("run", *options)
    assert done.returncode == 0, done.stdout + done.stderr

    # each product, bit by bit; what comes after the sweep looks at one pixfrac instead of ten
    compared = []
    for path in (folder / "products").rglob("record.json"):
        there = json.loads(path.read_text())
        task = f"{there['stage']}/{there['subject']}"
        later = there["stage"] in ("statistics", "select", "report")
        if later or (there["stage"] == "sweep" and not task.endswith("/pf0.6")):
            continue
        assert products(json.loads(work.read(f"products/{task}/record.json"))) == products(there), task
        compared.append(there["stage"])
    assert set(compared) == {"fetch", "references", "calibrate", "wcs", "align", "combine", "sweep"}

    # what people are told, and the links from page to page
    mosaic = re.search(rf"^s3://{bucket}/visits/one/(products/select/\S+_drz\.fits)$", done.stdout, re.M)
    assert mosaic is not None
    assert f"report: s3://{bucket}/visits/one/report/index.html" in done.stdout
    index = work.read("report/index.html").decode()
    assert f'href="../{mosaic[1]}"' in index
    (page,) = re.findall(r'href="\.\./(products/report/[^"]+\.html)"', index)
    text = work.read(page).decode()
    assert f"s3://{bucket}/visits/one/{mosaic[1]}" in text
    (link,) = set(re.findall(r'href="([^"]+_drz\.fits)"', text))
    assert str((Path("/") / page).parent.joinpath(link).resolve()) == f"/{mosaic[1]}"

    proxy.seen.clear()
    again = acs_batch("run", *options)
    assert again.returncode == 0, again.stdout + again.stderr
    assert proxy.count("PUT", "/products/") == 0

    status = acs_batch("status", "--work", location.address)
    assert status.returncode == 0, status.stdout + status.stderr
    assert acs_batch("report", "--work", location.address).stdout == (
        f"s3://{bucket}/visits/one/report/index.html\n"
    )
    cleaned = acs_batch("clean", "--work", location.address)
    assert "GB freed" in cleaned.stdout
    assert not (work.local / "cache").exists()
    assert work.record(f"select/{mosaic[1].split('/')[2]}") is not None

    assert secret not in done.stdout + done.stderr + again.stdout + again.stderr + status.stdout
    assert not [name for name, content in everything(work) if secret.encode() in content]
