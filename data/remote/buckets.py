"""Objects of buckets, `s3://` and `gs://`, by fsspec: credentials and endpoint are those of the environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.extras import install_command
from data.remote.objects import ObjectFacts, PassingError, changed, missing

#: Scheme -> package that fsspec needs for it, and where it takes credentials from.
PACKAGES: Mapping[str, tuple[str, str]] = {
    "s3": (
        "s3fs",
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for a public bucket set "
        "FSSPEC_S3='{\"anon\": true}'",
    ),
    "gs": (
        "gcsfs",
        "Set GOOGLE_APPLICATION_CREDENTIALS, or run gcloud auth application-default login; for a public bucket set "
        'FSSPEC_GS=\'{"token": "anon"}\'',
    ),
}
#: Names of errors of the clients that say that there are no credentials, or that they are refused.
_OF_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError", "DefaultCredentialsError",
                   "RefreshError", "UnauthorizedSSOTokenError", "ProfileNotFound")  # fmt: skip


class Bucket:
    """The objects of all buckets of one scheme.

    Args:
        scheme: s3 or gs.

    Raises:
        InputError: the package of the scheme is not installed.
    """

    def __init__(self, scheme: str) -> None:
        package, self._credentials = PACKAGES[scheme]
        try:
            import fsspec

            kind = fsspec.get_filesystem_class(scheme)
        except ImportError as error:
            raise InputError(
                f"{scheme}:// needs the package {package}",
                where=f"{scheme}://",
                remedy=f"Install it with `{install_command('cloud')}`",
            ) from error
        # What a bucket holds is asked for each time: another process may write to it.
        self._files: Any = kind(use_listings_cache=False, skip_instance_cache=True)

    def facts(self, url: str) -> ObjectFacts:
        """See `data.remote.objects.ObjectServer`."""
        with self._errors(url):
            self._files.invalidate_cache()
            info = self._files.info(url)
        if info.get("type") != "file":
            raise missing(url)
        version = next((str(info[key]) for key in ("generation", "ETag", "etag", "LastModified") if info.get(key)), "")
        time = info.get("LastModified") or info.get("mtime")
        return ObjectFacts(int(info["size"]), version, time.timestamp() if hasattr(time, "timestamp") else 0.0)

    def read(self, url: str, start: int, end: int, facts: ObjectFacts) -> bytes:
        """See `data.remote.objects.ObjectServer`."""
        with self._errors(url):
            data = bytes(self._files.cat_file(url, start=start, end=end))
        # The version is compared after the bytes have come, so that they are of this version or an earlier one.
        if self.facts(url).version != facts.version:
            raise changed(url)
        if len(data) != end - start:
            raise PassingError(f"{len(data):,} of {end - start:,} bytes came")
        return data

    def put(self, local: Path, url: str, *, only_if_absent: bool) -> bool:
        """Write an object from a file; False if there is one already and only absent ones are written."""
        mode = {"mode": "create"} if only_if_absent else {}
        try:
            with self._errors(url):
                self._files.put_file(str(local), url, **mode)
        except FileExistsError:
            return False
        return True

    def remove(self, url: str) -> None:
        """Remove an object."""
        with self._errors(url):
            self._files.rm_file(url)

    def below(self, url: str) -> dict[str, int]:
        """The sizes (bytes) of all objects below a URL, by their names from there."""
        with self._errors(url):
            self._files.invalidate_cache()
            try:
                listed = self._files.find(url, detail=True)
            except FileNotFoundError:
                return {}
        root = self._files._strip_protocol(url).rstrip("/") + "/"
        return {
            name[len(root) :]: int(info["size"])
            for name, info in sorted(listed.items())
            if name.startswith(root) and info.get("type") == "file"
        }

    @contextmanager
    def _errors(self, url: str) -> Iterator[None]:
        """Errors of the clients, told apart by whether another try may help."""
        try:
            yield
        except (InputError, PassingError):
            raise
        except FileNotFoundError as error:
            raise missing(url) from error
        except Exception as error:
            if _is_precondition(error):
                raise FileExistsError(url) from error
            if isinstance(error, PermissionError) or type(error).__name__ in _OF_CREDENTIALS:
                raise InputError(f"access is refused: {_line(error)}", where=url, remedy=self._credentials) from error
            if type(error).__module__.partition(".")[0] in ("builtins",) and not isinstance(error, OSError):
                raise
            raise PassingError(_line(error)) from error


def _is_precondition(error: BaseException) -> bool:
    """Whether an object was there already."""
    code = str(getattr(error, "response", {}).get("Error", {}).get("Code", "")) if hasattr(error, "response") else ""
    text = f"{code} {error} {error.__cause__ or ''}"
    return isinstance(error, FileExistsError) or any(
        word in text for word in ("PreconditionFailed", "pre-conditions you specified", "conditionNotMet", "412")
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
