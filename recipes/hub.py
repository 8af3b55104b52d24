"""A model from the Hugging Face hub, into the hub's own cache (``HF_HOME``), from the hub at ``HF_ENDPOINT``."""

from fnmatch import fnmatch
from pathlib import Path

from base.errors import UserError
from base.progress import say

NEEDED = ("*.json", "*.txt", "*.model", "bpecodes")
# The first kind that a repository has. Of *.bin transformers reads tensors alone (``weights_only``).
WEIGHTS = ("*.safetensors", "*.bin")


def fetch_from_hub(name: str) -> Path:
    """Download what is not in the cache of ``name`` (``owner/model``); the folder of its files.

    What lies below folders of the repository (other formats, other precisions) is left there. No code is fetched.

    Raises:
        UserError: the hub does not answer, or has no such model that this user may read.
    """
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        if constants.HF_HUB_OFFLINE:
            return Path(snapshot_download(name, local_files_only=True))
        files = [file for file in HfApi().list_repo_files(name) if "/" not in file]
        weights = next((kind for kind in WEIGHTS if any(fnmatch(file, kind) for file in files)), None)
        if weights is None:
            raise UserError(f"{name}: on the hub it has neither {' nor '.join(WEIGHTS)}", shared=True)
        wanted = [file for file in files if any(fnmatch(file, kind) for kind in (*NEEDED, weights))]
        say(f"{name}: {len(wanted)} files from the hub, or its cache")
        return Path(snapshot_download(name, allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{name}: neither a folder here nor a model that the hub gives: {type(error).__name__}: {reason}",
            shared=True,
        ) from error
