"""Small raw files with headers as the archive writes them, and servers that have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import mast_server
import numpy as np
import pytest
from astropy.io import fits
from mast_server import Server
from moto.server import ThreadedMotoServer

from batch.config import Settings, load

ROOTS = ("j9l960a7q", "j9l960a9q", "j9l960abq")
TABLE = "j9l960010"
SHAPE = (256, 512)


def write_raw(
    folder: Path, root: str, *, checksum: bool = True, shape: tuple[int, int] = SHAPE, **keywords: Any
) -> Path:
    """A raw WFC subarray: SCI of uint16, constant ERR and DQ, CHECKSUM and DATASUM as in the archive."""
    primary = fits.PrimaryHDU()
    primary.header.update(
        {
            "ROOTNAME": root,
            "INSTRUME": "ACS",
            "DETECTOR": "WFC",
            "APERTURE": "WFC1-1K",
            "FILTER1": "F606W",
            "FILTER2": "CLEAR2L",
            "EXPTIME": 339.0,
            "EXPSTART": 53900.0,
            "EXPEND": 53900.1,
            "SUBARRAY": True,
            "CCDAMP": "A",
            "CCDGAIN": 2.0,
            "NEXTEND": 3,
            "PROPOSID": 10775,
            "TARGNAME": "NGC104",
            "RA_TARG": 6.022,
            "DEC_TARG": -72.081,
            "ASN_ID": TABLE.upper(),
            "ASN_MTYP": "EXP-DTH",
            "DATE": "2011-03-10",
            **keywords,
        }
    )
    for number in range(120):
        # as long as real ones: several blocks
        primary.header[f"KEY{number}"] = number
    noise = np.random.default_rng(int.from_bytes(root.encode()) % 2**32)
    science = fits.ImageHDU(noise.integers(0, 60000, shape, dtype="uint16"), name="SCI", ver=1)
    hdus = [primary, science]
    for name in ("ERR", "DQ"):
        constant = fits.ImageHDU(name=name, ver=1)
        constant.header.update({"NPIX1": shape[1], "NPIX2": shape[0], "PIXVALUE": 0})
        hdus.append(constant)
    path = folder / f"{root}_raw.fits"
    fits.HDUList(hdus).writeto(path, checksum=checksum, overwrite=True)
    return path


def write_spt(folder: Path, root: str) -> Path:
    """A support file."""
    path = folder / f"{root}_spt.fits"
    header = fits.Header({"ROOTNAME": root, "PROPOSID": 10775})
    fits.PrimaryHDU(header=header).writeto(path, checksum=True, overwrite=True)
    return path


def write_asn(folder: Path, name: str, rows: Sequence[tuple[str, str, bool]]) -> Path:
    """An association table."""
    columns = [
        fits.Column("MEMNAME", "14A", array=[r[0].upper() for r in rows]),
        fits.Column("MEMTYPE", "14A", array=[r[1] for r in rows]),
        fits.Column("MEMPRSNT", "L", array=[r[2] for r in rows]),
    ]
    primary = fits.PrimaryHDU()
    primary.header.update({"INSTRUME": "ACS", "DETECTOR": "WFC", "ASN_ID": name.upper()})
    path = folder / f"{name}_asn.fits"
    fits.HDUList([primary, fits.BinTableHDU.from_columns(columns, name="ASN")]).writeto(
        path, checksum=True, overwrite=True
    )
    return path


@pytest.fixture
def visit(tmp_path: Path) -> Path:
    """A visit of three dithered exposures, with its table and support files."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for number, root in enumerate(ROOTS):
        write_raw(folder, root, EXPSTART=53900.0 + number / 100)
        write_spt(folder, root)
    write_asn(folder, TABLE, [(r, "EXP-DTH", True) for r in ROOTS] + [(TABLE, "PROD-DTH", True)])
    return folder


@pytest.fixture
def mast(visit: Path) -> Iterator[Server]:
    """A MAST server that has the visit."""
    with mast_server.serve(visit, silence=1.5) as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Settings]:
    """Settings for a server: impatient ones, but for answers of a machine that is busy."""

    def make(source: str, server: Server | None = None, *changes: str) -> Settings:
        given = [
            f"fetch.source={source}",
            f"fetch.cache={tmp_path / 'cache'}",
            "fetch.first_wait=0.05",
            "fetch.silence=30",
            "fetch.deadline=20",
            "references.missing=omit",
        ]
        return load(None, [*given, *([f"fetch.server={server.url}"] if server else []), *changes])

    return make


@pytest.fixture(name="write_raw")
def _write_raw() -> Callable[..., Path]:
    return write_raw


@pytest.fixture(name="write_asn")
def _write_asn() -> Callable[..., Path]:
    return write_asn


@pytest.fixture(scope="session")
def store() -> Iterator[str]:
    """The address of an S3 server on this machine."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def objects(store: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of the S3 server; the environment leads everybody there."""
    for name, value in {
        "AWS_ENDPOINT_URL": store,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    yield client
    for bucket in client.list_buckets()["Buckets"]:
        for entry in client.list_objects_v2(Bucket=bucket["Name"]).get("Contents", ()):
            client.delete_object(Bucket=bucket["Name"], Key=entry["Key"])
        client.delete_bucket(Bucket=bucket["Name"])


@pytest.fixture
def bucket(objects: Any, visit: Path) -> str:
    """A mirror of the visit at ``s3://``."""
    objects.create_bucket(Bucket="mirror")
    for path in visit.iterdir():
        objects.put_object(Bucket="mirror", Key=f"acs/{path.name}", Body=path.read_bytes())
    return "s3://mirror/acs"


@pytest.fixture
def public(objects: Any, visit: Path) -> str:
    """MAST's public bucket without one of the files, whose name this is."""
    objects.create_bucket(Bucket="stpubdata")
    missing = "j9l960abq_raw.fits"
    for path in visit.iterdir():
        if path.name != missing:
            key = f"hst/public/{path.name[:4]}/{path.name[:9]}/{path.name}"
            objects.put_object(Bucket="stpubdata", Key=key, Body=path.read_bytes(), ACL="public-read")
    return missing
