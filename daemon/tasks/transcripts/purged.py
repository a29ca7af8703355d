"""What the store calls a transcript whose session was purged: a name that tells nothing, and that its path still leads to."""

import hashlib
import os
from pathlib import Path


def purged_name(path: str | Path) -> str:
    """Stands for `path` in transcripts.path. A file found under this name was read before: as far as its row says."""
    return "purged:" + hashlib.blake2b(os.fsencode(path), digest_size=16).hexdigest()
