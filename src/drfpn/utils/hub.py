"""Runs on the Hugging Face Hub: names such as ``hf:user/name@revision``, and the download of their weights."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from drfpn.utils.errors import UsageError, UserError
from drfpn.utils.formatting import printable

if TYPE_CHECKING:
    from huggingface_hub import HfApi

logger = logging.getLogger(__name__)

HUB_PREFIX = "hf:"
MAX_BYTES = 8 * 1024**3
"""Size of a file of weights up to which it is downloaded."""

_TIMEOUT = 10.0
"""Seconds to wait for the first answer of the Hub."""
_REPO = re.compile(r"[A-Za-z0-9]([\w.-]*\w)?/\w([\w.-]*\w)?(?<!\.git)", re.ASCII)
_MAX_LENGTH = 96
_REVISION = re.compile(r"\w[\w.\-/]*")


class HubUnreachableError(UserError):
    """The Hub cannot be reached: there is no network, or it does not answer."""


class HubName(NamedTuple):
    """Name of a run on the Hub."""

    repo: str
    """``user/name``"""
    revision: str | None = None
    """Branch, tag or commit; ``None`` for the newest commit of the main branch."""

    def __str__(self) -> str:
        return f"{HUB_PREFIX}{self.repo}" + (f"@{self.revision}" if self.revision else "")


def is_hub_name(run: str | PurePath | None) -> bool:
    """Return whether an argument names a run on the Hub.

    Args:
        run: ``hf:user/name``, or a path.
    """
    return run is not None and str(run).startswith(HUB_PREFIX)


def parse_hub_name(run: str | PurePath) -> HubName:
    """Parse the name of a run on the Hub.

    Args:
        run: ``hf:user/name`` or ``hf:user/name@revision``.

    Raises:
        UsageError: another form, or characters that the Hub does not allow.
    """
    text = run.as_posix() if isinstance(run, PurePath) else run
    repo, at, revision = text.removeprefix(HUB_PREFIX).lstrip("/").partition("@")
    if _REPO.fullmatch(repo) is None or len(repo) > _MAX_LENGTH or any(part in repo for part in ("--", "..")):
        raise UsageError(
            f"'{text}' must be hf:USER/NAME or hf:USER/NAME@REVISION, the name of a run on the Hugging Face Hub, of "
            "letters, digits, '-', '_' and '.'."
        )
    if at and (_REVISION.fullmatch(revision) is None or ".." in revision):
        raise UsageError(f"'{text}': the revision must be a branch, a tag or a commit, not '{revision}'.")
    return HubName(repo, revision or None)


@cache
def download_weights(run: str, files: tuple[str, ...]) -> Path:
    """Download a file of weights of a run on the Hub, unless it is in the Hub's cache on this machine already.

    Nothing else is downloaded. The Hub is asked once in a process, so that a name means the same commit throughout;
    without a network the file of the cache is used.

    Args:
        run: ``hf:user/name`` or ``hf:user/name@revision``.
        files: names of .safetensors files, of which the first that the run has is taken.

    Returns:
        The .safetensors file in the cache.

    Raises:
        UsageError: ``run`` has another form.
        UserError: there is no such run, no access to it, or neither a network nor a file in the cache.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    name = parse_hub_name(run)
    api = connect()
    try:
        with hub_errors(name):
            info = api.model_info(name.repo, revision=name.revision, files_metadata=True, timeout=_TIMEOUT)
            file, size = _choose_file(name, files, info)
            if not isinstance(try_to_load_from_cache(name.repo, file, revision=info.sha), str):
                logger.info("downloading %s of %s (%.1f MB)", file, name, size / 1e6)
            return Path(hf_hub_download(name.repo, file, revision=name.revision, endpoint=api.endpoint))
    except HubUnreachableError as error:
        cached = _find_cached(name, files)
        if cached is None:
            raise
        logger.warning("%s: %s is read from the cache", str(error).partition(",")[0], name)
        return cached


def _choose_file(name: HubName, files: tuple[str, ...], info: Any) -> tuple[str, int]:
    """Return the first of some files that a repository has, and its size in bytes.

    Raises:
        UserError: it has none of them, or it is too large.
    """
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    chosen = next((file for file in files if file in sizes), None)
    if chosen is None:
        raise UserError(f"{name} is not a run of drfpn: it has no {' and no '.join(files)}.")
    if sizes[chosen] > MAX_BYTES:
        raise UserError(
            f"{name}: {chosen} has {sizes[chosen] / 1e9:.1f} GB, and the weights of a detector have at most "
            f"{MAX_BYTES / 1e9:.1f} GB."
        )
    return chosen, sizes[chosen]


def _find_cached(name: HubName, files: tuple[str, ...]) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    for file in files:
        try:
            return Path(hf_hub_download(name.repo, file, revision=name.revision, local_files_only=True))
        except LocalEntryNotFoundError:
            continue
    return None


def connect() -> "HfApi":
    """Return the client of the Hub at ``HF_ENDPOINT``; it takes the token of ``HF_TOKEN`` or of ``hf auth login``."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="drfpn")


@contextmanager
def hub_errors(name: HubName) -> Iterator[None]:
    """Raise errors of the Hub as sentences.

    Args:
        name: what is read or written.

    Raises:
        HubUnreachableError: no connection, or a failure of the Hub.
        UserError: something else that the Hub refuses.
    """
    from huggingface_hub import errors

    login = "run 'hf auth login' with an account that has access"
    try:
        yield
    except UserError:
        raise
    except errors.GatedRepoError as error:
        raise UserError(f"{name} is gated: ask for access on its page of the Hub, then {login}.") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"There is no {name} on the Hub or, if it is private, no access to it: {login}.") from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{HUB_PREFIX}{name.repo} has no branch, tag or commit '{name.revision}'.") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status >= 500:
            raise HubUnreachableError(f"The Hub fails (status {status}), so {name} is not available.") from error
        reason = "no permission" if status in (401, 403) else error.server_message or "no reason given"
        raise UserError(f"The Hub refuses {name} (status {status}): {printable(reason, 200).rstrip('.')}.") from error
    except Exception as error:  # its HTTP client, and with it the errors of a lost connection, depend on the version
        if isinstance(error, ValueError | TypeError | LookupError | AttributeError | AssertionError):
            raise UserError(f"The Hub's answer for {name} cannot be used ({type(error).__name__}).") from error
        if isinstance(error, OSError) and error.strerror and not isinstance(error, ConnectionError | TimeoutError):
            raise UserError(f"{name} cannot be stored in the cache of the Hub: {error.strerror}.") from error
        raise HubUnreachableError(
            f"The Hub cannot be reached ({type(error).__name__}), so {name} is not available."
        ) from error
