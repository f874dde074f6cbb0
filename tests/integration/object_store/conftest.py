"""A real S3 server as a process of its own, and a proxy before it that breaks things as ordered."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from batch.storage.objects.work import ObjectWork
from batch.storage.work import Location

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


@pytest.fixture(autouse=True)
def aws(s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The standard environment of AWS, as a user would set it; nothing of the user's own counts."""
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


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
