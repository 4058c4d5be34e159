"""Where a backup's passphrase comes from: a file, the environment, or whoever sits there."""

import getpass
import os
import sys
from pathlib import Path

from django.core.management.base import CommandError

VARIABLE = "QUARTZFLOW_BACKUP_PASSPHRASE"


def read_passphrase(file: str | None, *, twice: bool = False) -> str:
    """Raises CommandError where there is none."""
    if file is not None:
        try:
            lines = Path(file).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"--passphrase-file: {error}") from None
        if not lines or not lines[0]:
            raise CommandError(f"--passphrase-file: {file} has no first line")
        return lines[0]
    if given := os.environ.get(VARIABLE):
        return given
    if not sys.stdin.isatty():
        raise CommandError(f"name a passphrase: --passphrase-file, or the variable {VARIABLE}")
    passphrase = getpass.getpass("Passphrase: ")
    if twice and getpass.getpass("Once more: ") != passphrase:
        raise CommandError("these are two passphrases")
    return passphrase
