"""A real S3 server as a process of its own, and a proxy before it that breaks things as ordered."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import beside
import boto3
import pytest

from batch.storage.objects.work import ObjectWork
from batch.storage.work import Location

_runtime = beside.load(Path(__file__).parents[1] / "runtime" / "conftest.py")
toy_control, client = _runtime.toy_control, _runtime.client

SECRET = "do-not-show-this-secret-anywhere"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a moto server; it ends with the session."""
    folder = tmp_path_factory.mktemp("moto")
    ready = folder / "port"
    program = (
        "import sys, threading\n"
        "from werkzeug.serving import make_server\n"
        "from moto.server import DomainDispatcherApplication, create_backend_app\n"
        "app = DomainDispatcherApplication(create_backend_app)\n"
        "server = make_server('127.0.0.1', 0, app, threaded=True)\n"
        "threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown()), daemon=True).start()\n"
        f"open({str(ready)!r} + '.new', 'w').write(str(server.port))\n"
        f"import os; os.replace({str(ready)!r} + '.new', {str(ready)!r})\n"
        "server.serve_forever()\n"
    )
    # its standard input is a pipe: it ends when this process does, however that is
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=log, stderr=log
        ) as process,
    ):
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "the S3 server did not come up"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{ready.read_text()}"
        assert process.stdin is not None
        process.stdin.close()
        process.wait(20)


@pytest.fixture(scope="session")
def proxy(s3_server: str) -> Iterator[Any]:
    """What every test goes through; its faults end with the test."""
    made = beside.load(Path(__file__).with_name("proxy.py")).Proxy(s3_server)
    yield made
    made.close()


@pytest.fixture(scope="module", autouse=True)
def aws(proxy: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The standard environment of AWS, as a user would set it; nothing of the user's own counts."""
    nowhere = tmp_path_factory.mktemp("aws")
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", proxy.url)
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_MAX_ATTEMPTS", "3")
        patch.setenv("AWS_CONFIG_FILE", str(nowhere / "no-config"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere / "no-credentials"))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setattr(tempfile, "tempdir", str(nowhere))
        yield


@pytest.fixture(autouse=True)
def _no_faults(proxy: Any) -> Iterator[None]:
    proxy.faults.clear()
    proxy.seen.clear()
    yield
    proxy.faults.clear()


@pytest.fixture
def bucket(s3_server: str) -> str:
    """A new, empty bucket."""
    name = f"b-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=s3_server).create_bucket(Bucket=name)
    return name


@pytest.fixture
def location(bucket: str, tmp_path: Path) -> Location:
    return Location(f"s3://{bucket}/visits/one", scratch=str(tmp_path / "scratch"))


@pytest.fixture
def work(location: Location) -> ObjectWork:
    return ObjectWork(location, timeout=5.0)


@pytest.fixture
def toys(work: ObjectWork, toy_control: Path) -> Any:
    """Two associations of three exposures, two pixfracs: 14 tasks."""
    for folder in ("orders", "executed"):
        for path in (toy_control / folder).iterdir():
            path.unlink()
    from toyplan import toy_plan

    return _runtime.Toys(work, toy_control, toy_plan())


@pytest.fixture
def secret() -> str:
    """What must not be seen anywhere."""
    return SECRET


@pytest.fixture
def everything() -> Callable[[ObjectWork], Iterator[tuple[str, bytes]]]:
    """Whatever a run left, in the bucket and on this machine: names and contents."""

    def found(work: ObjectWork) -> Iterator[tuple[str, bytes]]:
        client = boto3.client("s3")
        bucket = work.location.address.split("/")[2]
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for item in page.get("Contents", ()):
                content = client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
                yield item["Key"], gzip.decompress(content) if item["Key"].endswith(".gz") else content
        for path in work.local.rglob("*"):
            if path.is_file():
                yield str(path), path.read_bytes()

    return found
