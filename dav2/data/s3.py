"""Requests to a bucket through s3fs: repeated for a while, and what fails is one line.

Neither s3fs nor botocore repeats by itself here, as their attempts would multiply: the one loop of
this module sees the bodies as well as the requests.
"""

import os
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

Answer = TypeVar("Answer")

_TIMEOUTS_S = {"connect_timeout": 10, "read_timeout": 30}
_WAITS_S = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Before each further attempt, at most; by chance down to half, so that processes part."""
_MAY_PASS = frozenset({408, 425, 429})
"""With every status from 500: what HTTP (RFC 9110, RFC 6585, RFC 8470) lets a client repeat."""


class S3Client:
    """One bucket; credentials, region and endpoint are found as every AWS tool finds them."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        self._opened: Any = None
        self._process = 0

    def page(
        self, prefix: str, token: str | None = None, *, where: str, apart: bool = False
    ) -> dict[str, Any]:
        """Returns a page of `ListObjectsV2`, the first one without a token.

        Args:
            prefix: What keys begin with.
            token: From the page before.
            where: Name of the listing, for messages.
            apart: Folders below the prefix are named, not listed.

        Raises:
            FileNotFoundError: If there is no such bucket.
            OSError: If it cannot be listed.
        """
        more = {"ContinuationToken": token} if token else {}
        if apart:
            more["Delimiter"] = "/"

        async def ask(store: Any) -> dict[str, Any]:
            page: dict[str, Any] = await store._call_s3(
                "list_objects_v2", Bucket=self._bucket, Prefix=prefix, **more
            )
            return page

        return self._repeated(ask, where=where, expected="a bucket that can be listed")

    def head(self, key: str, *, where: str) -> dict[str, Any]:
        """Returns a file's `HeadObject`.

        Raises:
            FileNotFoundError: If there is no such file.
            OSError: If the store does not tell.
        """

        async def ask(store: Any) -> dict[str, Any]:
            found: dict[str, Any] = await store._call_s3(
                "head_object", Bucket=self._bucket, Key=key
            )
            return found

        return self._repeated(ask, where=where, expected="a file")

    def get(
        self,
        key: str,
        *,
        where: str,
        max_bytes: int,
        first_byte: int = 0,
        version: str | None = None,
    ) -> tuple[int, bytes]:
        """Returns how long a file is and its bytes; none if it is longer than `max_bytes`.

        Args:
            key: The file.
            where: Its full name, for messages.
            max_bytes: Of the whole file, or with a version how many to read.
            first_byte: Where to begin.
            version: Read a part of this version alone.

        Raises:
            FileNotFoundError: If there is no such file.
            OSError: If it cannot be read, or is of another version.
        """
        options: dict[str, str] = {}
        if version is not None:
            last_byte = first_byte + max_bytes - 1
            options = {"Range": f"bytes={first_byte}-{last_byte}", "IfMatch": f'"{version}"'}

        async def ask(store: Any) -> tuple[int, bytes]:
            answer = await store._call_s3("get_object", Bucket=self._bucket, Key=key, **options)
            async with answer["Body"] as body:
                length = answer["ContentLength"]
                return length, await body.read() if length <= max_bytes else b""

        return self._repeated(ask, where=where, expected="a file that can be read")

    def _repeated(
        self, ask: Callable[[Any], Awaitable[Answer]], *, where: str, expected: str
    ) -> Answer:
        # Late: they take a second, and only buckets need them. Both come without types.
        from botocore.exceptions import (  # type: ignore[import-untyped]
            BotoCoreError,
            ConnectionError,
        )
        from fsspec.asyn import sync  # type: ignore[import-untyped]
        from s3fs.core import S3_RETRYABLE_ERRORS

        for wait_s in (*_WAITS_S, None):
            try:
                store = self._store()
                answer: Answer = sync(store.loop, ask, store)
            except (OSError, ValueError, BotoCoreError, *S3_RETRYABLE_ERRORS) as error:
                status, got = _answered(error)
                passes = isinstance(error, (*S3_RETRYABLE_ERRORS, ConnectionError))
                if wait_s is None or not (passes or status >= 500 or status in _MAY_PASS):
                    kind = FileNotFoundError if isinstance(error, FileNotFoundError) else OSError
                    raise kind(f"{where}: expected {expected}, got {got}") from None
                time.sleep(random.uniform(wait_s / 2, wait_s))
            else:
                return answer
        raise AssertionError("the last attempt returns or raises")

    def _store(self) -> Any:
        if self._opened is None or self._process != os.getpid():  # a fork has no loop of its own
            import s3fs

            self._opened = s3fs.S3FileSystem(
                config_kwargs={**_TIMEOUTS_S, "retries": {"total_max_attempts": 1}},
                use_listings_cache=False,
                skip_instance_cache=True,
            )
            self._opened.retries = 1
            self._process = os.getpid()
        return self._opened


def _answered(error: Exception) -> tuple[int, str]:
    """Returns the status of the store's answer, 0 without one, and what was got, in one line."""
    response = getattr(error.__cause__, "response", None)  # s3fs translates botocore's ClientError
    if response is None:
        return 0, " ".join(str(error).split()) or type(error).__name__
    told = response.get("Error", {})
    status: int = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    text = f"{told.get('Code', status)}: {told.get('Message', '')}"
    return status, " ".join(text.split()).removesuffix(":")
