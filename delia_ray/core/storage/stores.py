"""Object stores through pyarrow: the connection of a process, requests that are tried again, and errors that a user can fix."""

import errno
import logging
import os
import time
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from delia_ray.core.errors import UserError
from delia_ray.core.storage.paths import Place

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

T = TypeVar("T")
logger = logging.getLogger(__name__)

_CONNECT_SECONDS, _REQUEST_SECONDS = 10, 60
_ATTEMPTS = 6
"""Of one request by the client itself, some ten seconds of a store that answers with errors."""
_PAUSES = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
"""Between further rounds of these, in seconds."""
_DENIED = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "INVALID_CLIENT_TOKEN_ID", "UNRECOGNIZED_CLIENT",
           "MISSING_AUTHENTICATION_TOKEN", "EXPIRED_TOKEN", "HTTP status 401", "HTTP status 403", "Permission denied", "credentials",
           "InvalidAccessKeyId", "AccessDenied")  # fmt: skip
_NO_BUCKET = ("NO_SUCH_BUCKET", "NoSuchBucket", "bucket does not exist", "Bucket not found")


class MissingBucketError(UserError):
    """There is no bucket of that name."""


class DeniedError(UserError):
    """There are no credentials, or they do not allow what was asked for."""


@lru_cache(maxsize=16)
def connect(scheme: str, bucket: str) -> "FileSystem":
    """Return this process's connection to a bucket; credentials, region and endpoint are found as the store's own clients find them."""
    from pyarrow import fs  # noqa: PLC0415  for runs in an object store alone

    if scheme == "gs":
        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=_REQUEST_SECONDS))
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")  # which pyarrow reads from URIs alone
    return fs.S3FileSystem(
        region=region if region or endpoint else fs.resolve_s3_region(bucket),
        endpoint_override=endpoint,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_REQUEST_SECONDS,
    )


def ask(place: Place, action: "Callable[[FileSystem], T]", *, patient: bool = True) -> T:
    """Do ``action`` with the connection to the bucket of ``place``, again and again for minutes where the store fails.

    Args:
        patient: whether to try again.

    Raises:
        FileNotFoundError: the object is not there.
        MissingBucketError: the bucket is not there.
        DeniedError: there are no credentials, or not the right to do it.
        UserError: the store has failed for too long.
        OSError: a file of this machine cannot be read or written.
    """
    for pause in (*(_PAUSES if patient else ()), None):
        try:
            return action(connect(place.scheme, place.bucket))
        except OSError as error:
            _refuse(place, error)
            if pause is None:
                raise UserError(
                    f"{place.uri}: the object store does not answer ({_shorten(error)}); try the same command again later: what is "
                    "finished is kept"
                ) from None
            logger.warning("%s: the object store fails (%s); trying again in %g s", place.uri, _shorten(error), pause)
        time.sleep(pause)
    raise AssertionError("the last round returns or raises")


def _refuse(place: Place, error: OSError) -> None:
    """Raise what another try would not change."""
    text = str(error)
    if any(word in text for word in _NO_BUCKET):
        raise MissingBucketError(f"there is no bucket {place.bucket} ({place.uri}); create it, or name another") from None
    if any(word in text for word in _DENIED):
        raise DeniedError(
            f"{place.uri}: the object store refuses ({_shorten(error)}); give this machine and the nodes credentials that may list, read, "
            "write and delete there (docs/cluster.md, Object storage)"
        ) from None
    if isinstance(error, FileNotFoundError) or (error.errno is not None and error.errno not in (errno.ETIMEDOUT, errno.ECONNRESET)):
        raise error


def _shorten(error: OSError) -> str:
    return " ".join(str(error).split())[:300]


def list_objects(place: Place, *, recursive: bool) -> "list[FileInfo]":
    """List the objects below ``place``; none where there is no such prefix."""
    from pyarrow import fs  # noqa: PLC0415

    selector = fs.FileSelector(place.key, allow_not_found=True, recursive=recursive)
    return [info for info in ask(place, lambda store: store.get_file_info(selector)) if info.type == fs.FileType.File]


def list_prefixes(place: Place) -> list[str]:
    """List the names of the prefixes right below ``place``."""
    from pyarrow import fs  # noqa: PLC0415

    selector = fs.FileSelector(place.key, allow_not_found=True)
    return [info.base_name for info in ask(place, lambda store: store.get_file_info(selector)) if info.type == fs.FileType.Directory]


def describe(place: Place) -> "FileInfo":
    """Describe the object or the prefix of ``place``; its ``type`` says whether there is one."""
    return ask(place, lambda store: store.get_file_info(place.key))
