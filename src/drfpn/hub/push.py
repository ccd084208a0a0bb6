"""Upload of a run to the Hugging Face Hub."""

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save

from drfpn.evaluation.metrics import read_metrics
from drfpn.hub.model_card import ModelCard
from drfpn.hub.paths import publishable_card, strip_paths
from drfpn.training.checkpoint import Card, load_card
from drfpn.utils.errors import UsageError, UserError
from drfpn.utils.hub import HubName, connect, hub_errors, parse_hub_name
from drfpn.utils.runs import find_weights
from drfpn.utils.weights import read_weights

if TYPE_CHECKING:
    from huggingface_hub import HfApi

logger = logging.getLogger(__name__)

PICTURES = "pictures"
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")


@dataclass(frozen=True)
class PushResult:
    """What :func:`push` has written to the Hub."""

    url: str
    """Page of the repository."""
    commit: str
    """Id of the commit: ``hf:user/name@COMMIT`` is this version, also after another push."""
    private: bool
    files: tuple[str, ...]
    """Names of the uploaded files."""


def push(
    run_or_file: str | Path, repo: str, *, public: bool = False, license: str | None = None, pictures: bool = True
) -> PushResult:
    """Upload a run to the Hugging Face Hub, where ``hf:user/name`` names it.

    Uploaded are the weights and their card (best.safetensors), the settings (config.yaml), the metrics (metrics.json),
    the training curves, the pictures of validation images with detections, and a model card (README.md) that is made of
    these. Paths of this machine are replaced by their last names. The state of training and the logs are not uploaded.

    Args:
        run_or_file: a run folder or a .safetensors file that a run wrote.
        repo: name of the repository, ``"user/name"``; it is created, or gets another commit.
        public: whether everybody may see and download the run, else only the user or the organization.
        license: license of the weights, in the Hub's notation, such as ``"apache-2.0"``; ``None`` states none.
        pictures: whether pictures are uploaded. They show images of the validation split.

    Raises:
        UsageError: ``repo`` or ``license`` has another form, or the repository exists and is public without ``public``
            or private with it.
        UserError: the run cannot be read, there is no token that may write to the repository, or the Hub cannot be
            reached.
    """
    name = parse_hub_name(repo)
    if name.revision is not None:
        raise UsageError(f"A push makes a new commit, so '{repo}' must have no revision: {name.repo}.")
    if license is not None and _LICENSE.fullmatch(license) is None:
        raise UsageError(f"`license` must be a license in the Hub's notation, such as 'apache-2.0', not '{license}'.")
    weights = find_weights(run_or_file)
    load_card(weights)
    api = connect()
    with hub_errors(name):
        check_token(api, name)
        _check_visibility(api, name, public=public)
    files = collect_files(weights, name, license=license, pictures=pictures)
    megabytes = sum(map(len, files.values())) / 1e6
    visibility = "public" if public else "private"
    logger.info("uploading %d files (%.1f MB) to %s, %s", len(files), megabytes, name, visibility)
    if license is None:
        logger.warning("no license is stated, so others may not use the weights: `license='apache-2.0'` states one")
    with hub_errors(name):
        url = api.create_repo(name.repo, private=not public, exist_ok=True)
        commit = _commit(api, name, files, license)
    return PushResult(str(url), commit, not public, tuple(files))


def check_token(api: "HfApi", name: HubName) -> None:
    """Check that there is a token that may write to a repository.

    Args:
        api: client of the Hub.
        name: the repository.

    Raises:
        UserError: there is none, it is not valid, may only read, or belongs to somebody else.
    """
    from huggingface_hub.errors import LocalTokenNotFoundError

    needed = "a token with write access, from https://huggingface.co/settings/tokens"
    try:
        user = api.whoami()
    except LocalTokenNotFoundError as error:
        raise UserError(f"There is no token of the Hugging Face Hub: run 'hf auth login' with {needed}.") from error
    except OSError as error:  # HfHubHTTPError, or the HTTP client's own error before version 1
        if getattr(getattr(error, "response", None), "status_code", None) != 401:
            raise
        raise UserError(
            f"The token of the Hugging Face Hub is not valid: run 'hf auth login --force' with {needed}; a token in "
            "HF_TOKEN takes precedence."
        ) from error
    role = ((user.get("auth") or {}).get("accessToken") or {}).get("role")
    if role == "read":
        raise UserError(f"The token of the Hugging Face Hub may only read: run 'hf auth login --force' with {needed}.")
    owner, _, title = name.repo.partition("/")
    owners = [user["name"], *(organization["name"] for organization in user.get("orgs") or ())]
    if owner.lower() not in map(str.lower, owners) and role != "fineGrained":  # may name fewer organizations
        raise UserError(f"The token belongs to {', '.join(owners)}, not to '{owner}': push to {owners[0]}/{title}.")


def _check_visibility(api: "HfApi", name: HubName, *, public: bool) -> None:
    """Check that a repository that exists is as visible as requested: a push does not change it."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        private = bool(api.model_info(name.repo).private)
    except RepositoryNotFoundError:
        return
    if not private and not public:
        raise UsageError(f"{name} exists and is public: give `public=True` to publish this run too.")
    if private and public:
        raise UsageError(f"{name} exists and is private: change this in its settings on the Hub, then push again.")


def collect_files(weights: Path, name: HubName, *, license: str | None, pictures: bool) -> dict[str, bytes]:
    """Return the contents of the files that are uploaded, by their names in the repository.

    Args:
        weights: file of weights of a run.
        name: the repository.
        license: as of :func:`push`.
        pictures: as of :func:`push`.

    Raises:
        UserError: a file cannot be read.
    """
    card = publishable_card(load_card(weights))
    metrics = _read_metrics(weights.parent, card)
    files = {
        weights.name if weights.name == "last.safetensors" else "best.safetensors": save(
            read_weights(weights), metadata={"drfpn": card.model_dump_json()}
        ),
        "config.yaml": card.config.to_yaml().encode(),
    }
    if metrics is not None:
        files["metrics.json"] = (json.dumps(metrics, indent=2) + "\n").encode()
    if pictures:
        files |= _read_pictures(weights.parent, metrics)
    model_card = ModelCard(name, card, metrics, epoch=_last_epoch(weights), pictures=list(files), license=license)
    return files | {"README.md": model_card.to_markdown().encode()}


def _read_metrics(folder: Path, card: Card) -> dict[str, Any] | None:
    file = folder / "metrics.json"
    if not file.is_file():
        return None
    try:
        metrics = strip_paths(read_metrics(file.read_text(encoding="utf-8")), keep=card.classes)
        return dict(metrics)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{file} cannot be read as the metrics of a run ({type(error).__name__}).") from error


def _read_pictures(folder: Path, metrics: dict[str, Any] | None) -> dict[str, bytes]:
    """Return the training curves and the pictures of the report, and no other files of their folder."""
    names = [f"{PICTURES}/{Path(str(row.get('file'))).name}" for row in (metrics or {}).get("examples") or ()]
    files = [name for name in (*names, "curves.png") if (folder / name).is_file()]
    return {name: (folder / name).read_bytes() for name in files}


def _last_epoch(weights: Path) -> int | None:
    """Return the epoch that metrics.json and the pictures are of; ``None`` if it is not known."""
    last = weights.parent / "last.safetensors"
    return load_card(last).epoch if last.is_file() else None


def _commit(api: "HfApi", name: HubName, files: dict[str, bytes], license: str | None) -> str:
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.errors import HfHubHTTPError

    operations = [CommitOperationAdd(file, content) for file, content in files.items()]
    try:
        return api.create_commit(name.repo, operations, commit_message="Upload a run of drfpn").oid
    except HfHubHTTPError:
        raise
    except ValueError as error:  # of the metadata in README.md
        reason = " ".join(str(error).split())
        raise UserError(f"The Hub refuses the model card, with `license={license!r}`: {reason}") from error
