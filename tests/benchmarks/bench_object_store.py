"""What it costs to go on from an object store: `python tests/benchmarks/bench_object_store.py [TASKS]`.

A moto server on this machine stands for the store; it is slower than a real one at listing, and much nearer.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3

from batch.model.drizzle import Drizzle
from batch.model.observation import Product
from batch.model.plan import Needs, Task
from batch.model.record import Record, Status
from batch.storage import ledger
from batch.storage.files import to_json
from batch.storage.objects.work import ObjectWork
from batch.storage.work import Location

_SERVER = (
    "import sys, threading; from werkzeug.serving import make_server;"
    "from moto.server import DomainDispatcherApplication, create_backend_app;"
    "server = make_server('127.0.0.1', 0, DomainDispatcherApplication(create_backend_app), threaded=True);"
    "threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown()), daemon=True).start();"
    "print(server.port, flush=True); server.serve_forever()"
)


def tasks(count: int) -> list[Task]:
    """Associations of ten tasks each."""
    needs = Needs(1, 1.0, 1.0)
    return [
        Task("sweep", f"asn{n // 10:05d}", None, Drizzle(0.1 * (n % 10 + 1)), (), "f" * 64, needs)
        for n in range(count)
    ]


def fill(task: Task) -> None:
    """A finished task with two products."""
    client = _client
    files = tuple(Product(kind, f"{kind}.fits", 4, "0" * 64) for kind in ("mosaic", "weight"))
    record = Record(
        task.stage,
        task.subject,
        task.fingerprint,
        Status.DONE,
        products=files,
        results={"grid": list(range(20))},
        attempt="0123456789ab",
    )
    folder = f"run/products/{task.id}"
    for product in files:
        client.put_object(Bucket="bench", Key=f"{folder}/0123456789ab/{product.name}", Body=b"1234")
    client.put_object(Bucket="bench", Key=f"{folder}/record.json", Body=to_json(record))


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with (
        subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        assert server.stdout is not None
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.stdout.readline().strip()}",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_REGION": "us-east-1",
        }
        _client = boto3.client("s3")
        _client.create_bucket(Bucket="bench")
        plan = tasks(count)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(fill, plan))
        location = Location("s3://bench/run", str(Path(folder)))

        def resume(what: str) -> float:
            """Seconds to know that all is done, as a new run does."""
            begun, used = time.monotonic(), time.process_time()
            work = ObjectWork(location)
            with work.writer():
                assert len(ledger.valid_records(work, plan)) == count
            seconds, own = time.monotonic() - begun, time.process_time() - used
            print(f"{count} finished tasks, {what}: {seconds:.1f} s, {own:.1f} s of CPU on this side")
            return seconds

        first = resume("read one by one")
        second = resume("from the copy of the last run")
        print(f"{first / second:.1f} times as fast")
