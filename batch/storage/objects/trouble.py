"""What an S3 server or the way to it can do wrong, as errors of acs-batch: what to wait for, what to mend."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from batch.errors import StorageError, StorageRefusedError

_CREDENTIALS = "renew them (aws sso login, or new AWS_ variables), then run again"
_REFUSED = {
    "NoSuchBucket": "there is no such bucket; make it, or correct --work",
    "InvalidBucketName": "that is no name of a bucket; correct --work",
    "AccessDenied": "access denied; the credentials must allow to list, read, write and delete here",
    "AllAccessDisabled": "access denied; ask the owner of the bucket",
    "AccountProblem": "access denied; ask the owner of the account",
    "ExpiredToken": f"the credentials have expired; {_CREDENTIALS}",
    "ExpiredTokenException": f"the credentials have expired; {_CREDENTIALS}",
    "TokenRefreshRequired": f"the credentials have expired; {_CREDENTIALS}",
    "RequestExpired": f"the credentials have expired; {_CREDENTIALS}",
    "InvalidToken": f"the credentials are not valid; {_CREDENTIALS}",
    "InvalidAccessKeyId": f"the store does not know these credentials; {_CREDENTIALS}",
    "SignatureDoesNotMatch": f"the store does not take these credentials; {_CREDENTIALS}",
    "PermanentRedirect": "the bucket is in another region; set AWS_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set AWS_REGION",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it",
    "NotImplemented": "the store lacks an operation that is needed (conditional writes); use another store",
}
_BY_STATUS = {401: "AccessDenied", 403: "AccessDenied", 501: "NotImplemented"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}
_DAMAGED = {"BadDigest", "IncompleteBody", "InvalidDigest", "XAmzContentSHA256Mismatch", "InvalidPart"}
_BUSY = {"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests"}


class ConflictError(Exception):
    """A conditional write found something else than was expected; not for users."""


class InterruptedBodyError(StorageError):
    """An answer broke off in its middle, or was not what had been stored: worth asking again."""


@contextlib.contextmanager
def store_errors(where: str) -> Iterator[None]:
    """Turn whatever boto3 raises into an error of acs-batch.

    Parameters
    ----------
    where : str
        ``s3://bucket/name``, for the message. Neither addresses of servers nor credentials are ever shown.

    Raises
    ------
    FileNotFoundError
        If there is no such object.
    ConflictError
        If the condition of a write did not hold.
    StorageRefusedError
        If trying again cannot help: no such bucket, no permission, no valid credentials.
    StorageError
        If the store, or the way to it, failed for now; boto3 has tried several times then.
    """
    from boto3.exceptions import Boto3Error, S3UploadFailedError
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except S3UploadFailedError as error:
        # it holds the cause as text only
        cause = error.__cause__ or error.__context__
        raise _translated(cause if cause is not None else error, where) from None
    except (ClientError, BotoCoreError, Boto3Error, HTTPError, ResponseParserError, ConnectionError) as error:
        raise _translated(error, where) from None


def _translated(error: BaseException, where: str) -> Exception:
    from botocore import exceptions as boto

    if isinstance(error, boto.ClientError):
        return _answered(error, where)
    if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError, boto.TokenRetrievalError)):
        return StorageRefusedError(
            f"{where}: no credentials, or not all of them; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        )
    if isinstance(error, (boto.SSOTokenLoadError, boto.UnauthorizedSSOTokenError)):
        return StorageRefusedError(f"{where}: {_REFUSED['ExpiredToken']}")
    if isinstance(error, boto.EndpointConnectionError):
        return StorageError(
            f"{where}: the store cannot be reached; see to the network and AWS_ENDPOINT_URL, then run again"
        )
    passing = (
        boto.HTTPClientError,
        boto.ConnectionError,
        boto.IncompleteReadError,
        boto.FlexibleChecksumError,
    )
    if isinstance(error, boto.BotoCoreError) and not isinstance(error, passing):
        return StorageRefusedError(
            f"{where}: {type(error).__name__}: {_words(error)}; correct the settings of AWS"
        )
    return InterruptedBodyError(
        f"{where}: the connection to the store broke ({type(error).__name__}); run again"
    )


def _answered(error: object, where: str) -> Exception:
    answer = getattr(error, "response", {})
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(answer.get("Error", {}).get("Code", ""))
    said = _words(answer.get("Error", {}).get("Message", ""))
    if code in ("PreconditionFailed", "ConditionalRequestConflict") or status == 412:
        return ConflictError(where)
    if code not in _REFUSED and code != "RequestTimeout":
        code = _BY_STATUS.get(status, code)
    if code in _REFUSED:
        return StorageRefusedError(f"{where}: {_REFUSED[code]} ({code})")
    if status == 404:
        return FileNotFoundError(where)
    if code in _FULL or status == 507:
        return StorageError(f"{where}: no space left in the store ({code}); free some, then run again")
    if code in _DAMAGED:
        return StorageError(f"{where}: what was sent arrived damaged ({code}); run again")
    if code in _BUSY or status in (429, 503):
        return StorageError(f"{where}: the store is overloaded ({code or status}); run again later")
    if status >= 500 or code == "RequestTimeout":
        return StorageError(f"{where}: the store failed ({code or status} {said}); run again later")
    return StorageRefusedError(f"{where}: the store refuses ({code or status} {said}); correct --work")


def _words(text: object) -> str:
    return " ".join(str(text).split())[:200]
