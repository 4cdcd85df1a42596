"""The file in the data folder with an owner's key: made at the first start or by `bessemer keys recover`, read by the
command line, removed when its key is revoked.
"""

import os
from pathlib import Path

from bessemer.identity.keys import Keys

ADMIN_KEY_FILE = "admin.key"


def keep_admin_key(data: Path, key: str) -> Path:
    """Write the key so that only the account of the service can read it, mode 600 from its first byte."""
    path = data / ADMIN_KEY_FILE
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key + "\n")
        file.flush()
        os.fsync(file.fileno())
    return path


def forget_admin_key(data: Path, keys: Keys, key_id: str) -> None:
    """Remove the file if it holds the key of that id."""
    path = data / ADMIN_KEY_FILE
    if path.is_file() and keys.id_of(path.read_text().strip()) == key_id:
        path.unlink(missing_ok=True)
