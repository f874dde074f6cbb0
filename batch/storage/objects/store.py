"""Objects below a prefix of a bucket: read, write on a condition, list, remove, move files to and fro."""

from __future__ import annotations

import base64
import datetime
import email.utils
import functools
import hashlib
import mimetypes
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from batch.errors import StorageError, UsageError
from batch.storage.objects.trouble import InterruptedBodyError, store_errors

T = TypeVar("T")

# what boto3 does if the user's own settings of AWS say nothing
_ATTEMPTS = 6
_BODIES = 4
"""How often an answer is asked for whose body breaks off; boto3 repeats only what fails before it."""
_LARGE = 64 * 2**20
"""Larger files go in parts of that size."""
_CONNECTIONS = 32
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_TYPES = {
    ".fits": "application/fits",
    ".log": "text/plain; charset=utf-8",
    ".html": "text/html; charset=utf-8",
}


@dataclass(frozen=True)
class Listed:
    """An object as a listing has it."""

    name: str
    size: int
    etag: str
    modified: datetime.datetime


class DamagedObjectError(StorageError):
    """What is stored is not what was published."""


def parse(address: str) -> tuple[str, str]:
    """Bucket and prefix of ``s3://bucket/prefix``.

    Raises
    ------
    UsageError
        For anything else; the address is not repeated where it may hold credentials.
    """
    place = address.removeprefix("s3://")
    if "@" in place.partition("/")[0]:
        raise UsageError(
            "--work: credentials do not belong into an address; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        )
    bucket, _, prefix = place.partition("/")
    prefix = prefix.strip("/")
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(f"--work {address}: {bucket!r} is no name of a bucket; give s3://bucket/prefix")
    parts = prefix.split("/")
    if prefix and (any(p in ("", ".", "..") for p in parts) or not prefix.isprintable()):
        raise UsageError(f"--work {address}: the prefix has empty or relative parts; give s3://bucket/prefix")
    return bucket, prefix


class Store:
    """One prefix of a bucket. Credentials, region and endpoint are those of the AWS environment.

    Parameters
    ----------
    bucket, prefix : str
    timeout : float
        Of a connection without a byte, s.

    Every method raises what `store_errors` says.
    """

    def __init__(self, bucket: str, prefix: str, timeout: float = 60.0) -> None:
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self._timeout = timeout

    @functools.cached_property
    def _client(self) -> Any:
        import botocore.session
        from botocore.config import Config

        session = botocore.session.get_session()
        session.register_component("data_loader", _descriptions())
        config = Config(
            connect_timeout=min(10.0, self._timeout),
            read_timeout=self._timeout,
            max_pool_connections=_CONNECTIONS,
            retries={
                "mode": "standard",
                "total_max_attempts": int(os.environ.get("AWS_MAX_ATTEMPTS", _ATTEMPTS)),
            },
        )
        with store_errors(self.url("")):
            return session.create_client("s3", config=config)

    def url(self, name: str) -> str:
        """``s3://bucket/prefix/name``"""
        return f"s3://{self.bucket}/{self.prefix}{name}"

    def get(self, name: str, listed: Listed | None = None) -> tuple[bytes, Listed]:
        """Content of a small object, and what it is.

        With what a listing said of it, an answer that ended too early is known even where it ended in order.
        """

        def once() -> tuple[bytes, Listed]:
            with store_errors(self.url(name)):
                answer = self._client.get_object(**self._key(name))
                content = answer["Body"].read()
            if listed is not None and listed.etag == answer["ETag"] and listed.size != len(content):
                raise InterruptedBodyError(f"{self.url(name)}: the answer was cut short; run again")
            return content, Listed(name, len(content), answer["ETag"], answer["LastModified"])

        return _persistently(once)

    def put(self, name: str, content: bytes) -> None:
        """Write a small object, whatever was there."""
        self._put(name, content)

    def put_instead(self, name: str, content: bytes, of: str | None) -> str:
        """Write a small object if what is there has this ETag, or is not there (None); returns its ETag.

        Raises
        ------
        ConflictError
            If something else is there.
        FileNotFoundError
            If something was expected and nothing is there.
        """
        return self._put(name, content, **({"IfMatch": of} if of else {"IfNoneMatch": "*"}))

    def _put(self, name: str, content: bytes, **condition: str) -> str:
        with store_errors(self.url(name)):
            answer = self._client.put_object(
                **self._key(name), Body=content, ContentType=_type(name), **condition
            )
        return str(answer["ETag"])

    def listing(self, start: str = "") -> Iterator[Listed]:
        """Objects whose names begin with `start`."""
        pages = self._pages("list_objects_v2", Prefix=self.prefix + start)
        for page in pages:
            for item in page.get("Contents", ()):
                name = item["Key"].removeprefix(self.prefix)
                yield Listed(name, int(item["Size"]), item["ETag"], item["LastModified"])

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; those that are not there do no harm."""
        todo = list(names)
        for first in range(0, len(todo), 1000):
            some = [{"Key": self.prefix + name} for name in todo[first : first + 1000]]
            with store_errors(self.url(todo[first])):
                answer = self._client.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": some, "Quiet": True}
                )
            for error in answer.get("Errors", ()):
                where = f"s3://{self.bucket}/{error.get('Key')}"
                raise StorageError(f"{where}: cannot be removed ({error.get('Code')}); run again")

    def upload(self, path: Path, name: str, sha256: str | None = None) -> None:
        """Store a file. The server checks what arrives against checksums of the whole or of its parts."""
        about = {"ContentType": _type(name), "Metadata": {"sha256": sha256} if sha256 else {}}
        with store_errors(self.url(name)):
            if path.stat().st_size > _LARGE:
                from boto3.s3.transfer import S3Transfer, TransferConfig

                config = TransferConfig(_LARGE, max_concurrency=4, multipart_chunksize=_LARGE)
                transfer = S3Transfer(self._client, config)
                transfer.upload_file(str(path), self.bucket, self.prefix + name, extra_args=about)
                return
            if sha256:
                about["ChecksumSHA256"] = base64.b64encode(bytes.fromhex(sha256)).decode()
            with path.open("rb") as stream:
                self._client.put_object(**self._key(name), Body=stream, **about)

    def download(self, name: str, path: Path, size: int, sha256: str) -> None:
        """Bring an object to a file, and see that it is what was published.

        Raises
        ------
        DamagedObjectError
            If what is stored is something else, or nothing.
        """
        wrong: list[str] = []

        def once() -> None:
            digest, count = hashlib.sha256(), 0
            with store_errors(self.url(name)), path.open("wb") as stream:
                body = self._client.get_object(**self._key(name))["Body"]
                for part in body.iter_chunks(1 << 20):
                    stream.write(part)
                    digest.update(part)
                    count += len(part)
            if digest.hexdigest() != sha256:
                # twice the same is no accident of the way
                if digest.hexdigest() in wrong:
                    raise DamagedObjectError(f"{self.url(name)}: holds something else than was published")
                wrong.append(digest.hexdigest())
                raise InterruptedBodyError(
                    f"{self.url(name)}: arrived damaged, {count} bytes of {size}; run again"
                )

        try:
            _persistently(once)
        except FileNotFoundError:
            raise DamagedObjectError(f"{self.url(name)}: is not there any more") from None

    def abort_uploads(self, before: datetime.datetime) -> None:
        """Give up uploads in parts that began before a time: their parts take space and are not listed."""
        for page in self._pages("list_multipart_uploads", Prefix=self.prefix):
            for upload in page.get("Uploads", ()):
                if upload["Initiated"] < before:
                    with store_errors(f"s3://{self.bucket}/{upload['Key']}"):
                        self._client.abort_multipart_upload(
                            Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )

    def clock(self) -> datetime.datetime:
        """The server's time, by which objects are dated."""
        with store_errors(self.url("")):
            answer = self._client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, MaxKeys=1)
        return email.utils.parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])

    def _pages(self, operation: str, **options: Any) -> Iterator[Any]:
        """The pages of an answer."""
        with store_errors(self.url("")):
            yield from self._client.get_paginator(operation).paginate(Bucket=self.bucket, **options)

    def _key(self, name: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.prefix + name}


@functools.cache
def _descriptions() -> Any:
    """What botocore knows of S3: read once, because that takes six times as long as the rest of a client."""
    from botocore.loaders import create_loader

    return create_loader()


def _persistently(once: Callable[[], T]) -> T:
    """Ask again for an answer whose body was interrupted."""
    for attempt in range(1, _BODIES):
        try:
            return once()
        except InterruptedBodyError:
            time.sleep(random.uniform(0.2, 0.4) * 2**attempt)
    return once()


def _type(name: str) -> str:
    guessed = mimetypes.guess_type(name)[0]
    return _TYPES.get(Path(name).suffix) or guessed or "application/octet-stream"
