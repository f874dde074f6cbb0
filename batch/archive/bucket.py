"""Files in an object store: mirrors at ``s3://bucket/prefix``, and MAST's public bucket."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from typing import Any

from batch.archive.items import Item, wanted_name
from batch.archive.transport import Body, ChangedError, NotThereError, RestrictedError, TransientError
from batch.errors import InputError, UsageError

# what has come of a chunk is lost where the connection breaks off
_CHUNK = 1 << 16
_GONE = {"NoSuchKey", "NoSuchBucket", "404"}
_REFUSED = {"AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_CHANGED = {"PreconditionFailed", "412", "InvalidRange", "416"}


class Bucket:
    """Reads an object store.

    Endpoint and credentials are those of the AWS environment (``AWS_ENDPOINT_URL_S3``, ``AWS_PROFILE``, ...);
    without credentials requests are anonymous.

    Parameters
    ----------
    silence : float
        Seconds without a byte after which a connection is given up.
    anonymous : bool
        Never use credentials.
    """

    def __init__(self, silence: float, *, anonymous: bool = False) -> None:
        self._silence = silence
        self._anonymous = anonymous
        self._made: Any = None
        self._lock = threading.Lock()

    def items(self, place: str) -> list[Item]:
        """Every raw file, association table and support file below ``s3://bucket/prefix``, however deep."""
        bucket, prefix = _split(place)
        found = []
        with _errors(place):
            pages = self._client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=bucket, Prefix=f"{prefix}/" if prefix else ""):
                for entry in page.get("Contents", ()):
                    name = wanted_name(entry["Key"].rpartition("/")[2])
                    if name is not None:
                        found.append(Item(name, f"s3://{bucket}/{entry['Key']}", int(entry["Size"])))
        return found

    @contextlib.contextmanager
    def open(self, origin: str, *, start: int = 0, tag: str = "", stop: int | None = None) -> Iterator[Body]:
        """See `batch.archive.transport.Transport`."""
        bucket, key = _split(origin)
        asked: dict[str, str] = {}
        if start:
            asked = {"Range": f"bytes={start}-", "IfMatch": tag}
        elif stop is not None:
            asked = {"Range": f"bytes=0-{stop - 1}"}
        with _errors(origin):
            answer = self._client().get_object(Bucket=bucket, Key=key, **asked)
            with contextlib.closing(answer["Body"]) as stream:
                total = _total(answer)
                etag = str(answer.get("ETag", ""))
                yield Body(
                    start=int(_content_range(answer)[1]) if "ContentRange" in answer else 0,
                    total=total,
                    tag=etag,
                    chunks=stream.iter_chunks(_CHUNK),
                    md5=_md5(answer, etag),
                )

    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = _client(self._silence, self._anonymous)
            return self._made


def _client(silence: float, anonymous: bool) -> Any:
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    session = boto3.Session()
    options: dict[str, Any] = {
        "connect_timeout": min(20, silence),
        "read_timeout": silence,
        # one policy of new attempts is enough (`batch.archive.retry`)
        "retries": {"total_max_attempts": 1},
    }
    if anonymous or session.get_credentials() is None:
        options["signature_version"] = UNSIGNED
    region = session.region_name or "us-east-1"
    return session.client("s3", region_name=region, config=Config(**options))


def _split(place: str) -> tuple[str, str]:
    bucket, _, key = place.removeprefix("s3://").partition("/")
    if not bucket:
        raise UsageError(f"{place}: there is no bucket in it; give s3://bucket/prefix")
    return bucket, key


def _content_range(answer: Any) -> re.Match[str]:
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", str(answer["ContentRange"]))
    if found is None:
        raise TransientError(f"a Content-Range that cannot be understood: {answer['ContentRange']}")
    return found


def _total(answer: Any) -> int:
    return int(_content_range(answer)[2]) if "ContentRange" in answer else int(answer["ContentLength"])


def _md5(answer: Any, etag: str) -> str:
    """An ETag is the MD5 unless the object came in parts or is encrypted with a key of its owner."""
    plain = answer.get("ServerSideEncryption") in (None, "AES256")
    found = re.fullmatch(r'"([0-9a-f]{32})"', etag)
    return found[1] if found and plain else ""


@contextlib.contextmanager
def _errors(where: str) -> Iterator[None]:
    """What the store and the way to it answer, as errors of this package."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except NoCredentialsError:
        raise RestrictedError(
            f"{where}: there are no credentials; set AWS_PROFILE or AWS_ACCESS_KEY_ID"
        ) from None
    except ClientError as error:
        raise _refusal(where, error) from None
    except (BotoCoreError, OSError) as error:
        # urllib3's own, too, where the stream breaks off, come as either of these
        raise TransientError(" ".join(str(error).split()) or type(error).__name__) from None


def _refusal(where: str, error: Any) -> Exception:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _CHANGED:
        return ChangedError("the object has changed")
    if code in _GONE:
        return NotThereError(f"{where}: there is no such object ({code}); check bucket and prefix")
    if code in _REFUSED:
        return RestrictedError(f"{where}: the store refuses ({code}); check the AWS credentials")
    if status >= 500 or status == 429 or code in ("SlowDown", "RequestTimeout", "RequestTimeTooSkewed"):
        return TransientError(f"the store answers {code or status}")
    return InputError.about(where, f"the store answers {code or status}", "check bucket, prefix and region")
