"""Named secrets: encrypted at rest, with keys that are not in the database.

The keys are Fernet keys, the newest first: in QF_SECRETS_KEYS, else in the file `secrets.key` of the data directory,
which is made with the first secret. Whoever has the database alone, or a backup of it, has nothing. A secret's name is
encrypted with its value, so that rows cannot be exchanged in the database.
"""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import structlog
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from .env import EnvError
from .models import Secret

KEY_FILE = "secrets.key"
log = structlog.get_logger(__name__)


# Rows of other tables that hold texts of `encrypt`: what gives them, and the name that one was encrypted with.
_others: list[tuple[Callable[[], QuerySet[Any]], Callable[[Any], str]]] = []


def also(rows: Callable[[], QuerySet[Any]], name: Callable[[Any], str]) -> None:
    """Other rows with a `ciphertext` of ours: they are tested and rotated with the secrets."""
    _others.append((rows, name))


class KeyMissing(EnvError):
    """The keys on this machine do not open what the database holds."""


def key_file() -> Path:
    return Path(settings.QF_DATA_DIR) / KEY_FILE


def _keys() -> list[str]:
    """The newest first; [] where there are none yet. Read anew each time: a rotation replaces them while others run."""
    if settings.ENV.secrets_keys:
        return list(settings.ENV.secrets_keys)
    try:
        return key_file().read_text().split()
    except FileNotFoundError:
        return []


def _cipher() -> MultiFernet:
    keys = _keys()
    if not keys:
        raise KeyMissing(
            f"{key_file()} is missing, and with it the key of the secrets in the database:"
            " bring it back from a backup or from another machine, or set QF_SECRETS_KEYS"
        )
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError:
        raise KeyMissing(f"{key_file()} holds no usable key; bring it back from a backup") from None


def encrypt(name: str, value: str) -> str:
    """What is stored of a secret. Makes the key with the first one. Raises KeyMissing."""
    if not _keys() and not Secret.objects.exists() and not any(rows().exists() for rows, _name in _others):
        _write_keys([Fernet.generate_key().decode()], new=True)
    return _cipher().encrypt(json.dumps([name, value]).encode()).decode()


def decrypt(secret: Secret) -> str:
    """The secret's value. Raises KeyMissing."""
    return unseal(secret.name, secret.ciphertext)


def unseal(name: str, ciphertext: str) -> str:
    """What `encrypt` was given with this name. Raises KeyMissing."""
    try:
        stored, value = json.loads(_cipher().decrypt(ciphertext.encode()))
    except InvalidToken:
        raise KeyMissing(
            f"the secret {name} cannot be opened with the keys of this machine ({key_file()} or"
            " QF_SECRETS_KEYS); they belong to another database"
        ) from None
    if stored != name:
        raise KeyMissing(f"the secret {name} holds what was stored as {stored}; set its value anew")
    return str(value)


def values(names: Iterable[str]) -> dict[str, str]:
    """The values of these secrets. One that is not there, or cannot be opened, is left out: who needs it says so."""
    found = {}
    for secret in Secret.objects.filter(name__in=set(names)):
        try:
            found[secret.name] = decrypt(secret)
        except KeyMissing as error:
            log.error("secret cannot be used", error=str(error))
    return found


def self_test() -> None:
    """At the start: every secret of the database can be opened here. Raises KeyMissing."""
    for secret in Secret.objects.all():
        decrypt(secret)
    for rows, name in _others:
        for row in rows():
            unseal(name(row), row.ciphertext)


def rotate(*, new_key: bool = True) -> int:
    """Encrypt every secret with the newest key, a new one where the keys are in our file; old ones are dropped then.

    1. The new key is put first into the file, before anything is encrypted with it: processes read the file anew.
    2. All secrets are encrypted with it, in one transaction.
    3. After the commit, nothing needs the old keys.

    Returns how many secrets there are. Raises KeyMissing; then nothing has changed but the file's additional key.
    """
    own_file = not settings.ENV.secrets_keys
    if own_file and new_key:
        self_test()
        _write_keys([Fernet.generate_key().decode(), *_keys()])
    with transaction.atomic():
        secrets = list(Secret.objects.select_for_update())
        for secret in secrets:
            # Not updated_at: nothing that anybody could see has changed.
            Secret.objects.filter(pk=secret.pk).update(ciphertext=encrypt(secret.name, decrypt(secret)))
        for rows, name in _others:
            for row in rows().select_for_update():
                plain = unseal(name(row), row.ciphertext)
                rows().filter(pk=row.pk).update(ciphertext=encrypt(name(row), plain))
    if own_file:
        _write_keys(_keys()[:1])
    return len(secrets)


def _write_keys(keys: list[str], *, new: bool = False) -> None:
    """Replace the file at once, for its owner alone; `new`: only where there is none."""
    path = key_file()
    beside = path.with_name(f".{KEY_FILE}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("".join(f"{key}\n" for key in keys))
        file.flush()
        os.fsync(file.fileno())
    try:
        if new:
            os.link(beside, path)  # fails where another process was first; its key is as good
        else:
            beside.replace(path)
    except FileExistsError:
        log.info("the secrets' key was made by another process")
    finally:
        beside.unlink(missing_ok=True)
