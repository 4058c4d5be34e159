"""Prepare an installation: data directory, key, database, certificates, first user, first group, local agent.

Every step looks first and does only what is missing, so it may run before every start and on every machine.
"""

import dataclasses
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import validate_password
from django.contrib.staticfiles.finders import get_finders
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import OperationalError, connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.db.models import F
from django.utils import timezone, translation
from quartzflow_agent import config as agent_config
from quartzflow_agent.files import PRIVATE_DIRECTORY, write_atomic
from quartzflow_agent.paths import Home

from groups_app.actions import do_create_enrollment_token, do_save_group
from groups_app.models import Client, EnrollmentToken, Group
from groups_app.secrets import token_hash
from quartzflow import secrets as named_secrets
from quartzflow.env import Env, EnvError

from . import pki
from .joining import ANY_ADDRESS

ADMIN = "admin"
DEFAULT_GROUP = "default"
LOCAL_CLIENT = "local"
# One of these shows that a directory with something in it is one of ours.
OWN_FILES = ("secret_key", "db.sqlite3", "pki", "run.lock")

Say = Callable[[str], None]


@dataclass
class Prepared:
    """What the set-up found or made, for whoever goes on."""

    new_password: str = ""  # of the user `admin`, where it was made just now with a random one


def prepare(env: Env, say: Say) -> Prepared:
    """Do every step; `say` gets a line for each thing done.

    Raises EnvError, naming the variable, where a setting or the key of the secrets proves wrong only now, and PkiError.
    """
    prepared = Prepared()
    check_admin_password(env)
    make_data_dir(env.data_dir)
    make_secret_key(env, say)
    migrate(say)
    named_secrets.self_test()
    collect_static(say)
    for line in pki.ensure(env.data_dir / "pki", pki.own_names(*_named(env.quic_host)), timezone.now()):
        say(line)
    make_admin(env, prepared, say)
    make_default_group(say)
    if env.local_agent:
        enroll_local_agent(env, say)
    connections.close_all()
    return prepared


def check_admin_password(env: Env) -> None:
    if not env.admin_password:
        return
    try:
        with translation.override("en"):
            validate_password(env.admin_password, get_user_model()(username=ADMIN))
    except ValidationError as error:
        raise EnvError(f"QF_ADMIN_PASSWORD is too weak: {' '.join(error.messages)}") from None


def make_data_dir(path: Path) -> None:
    """Make the directory, for its owner alone. One that holds other people's things is refused, not changed."""
    try:
        path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        content = {entry.name for entry in path.iterdir()}
        if content and content.isdisjoint(OWN_FILES):
            raise EnvError(f"QF_DATA_DIR holds other things: {path}; name a new or an empty directory")
        path.chmod(PRIVATE_DIRECTORY)
        for name in ("media", "logs"):
            (path / name).mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
    except OSError as error:
        raise EnvError(f"QF_DATA_DIR cannot be used: {error}") from None


def make_secret_key(env: Env, say: Say) -> None:
    if env.secret_key:
        return
    path = env.data_dir / "secret_key"
    key = secrets.token_urlsafe(50)
    write_atomic(path, f"{key}\n".encode())
    settings.SECRET_KEY = key
    say(f"made a secret key: {path}")


def migrate(say: Say) -> None:
    """Bring the database's tables up to date."""
    try:
        executor = MigrationExecutor(connection)
    except OperationalError as error:
        raise EnvError(f"DATABASE_URL cannot be used: {' '.join(str(error).split())}") from None
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if plan:
        say(f"updating the database's tables ({len(plan)} steps)")
        call_command("migrate", interactive=False, verbosity=0)


def collect_static(say: Say) -> None:
    """Put the static files where they are served from, again whenever one of them has changed."""
    if settings.DEBUG:
        return  # served from where they lie
    root = Path(settings.STATIC_ROOT)
    files = hashlib.sha256()
    for finder in get_finders():
        for name, storage in finder.list([]):
            status = Path(storage.path(name)).stat()
            files.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    stamp = root / ".collected"
    if stamp.exists() and stamp.read_text() == files.hexdigest():
        return
    say("collecting static files")
    call_command("collectstatic", interactive=False, clear=True, verbosity=0)
    stamp.write_text(files.hexdigest())


def make_admin(env: Env, prepared: Prepared, say: Say) -> None:
    """The first superuser. Where there is one already, whatever its name, nobody is made."""
    users = get_user_model().objects
    if users.filter(is_superuser=True).exists():
        return
    if users.filter(username=ADMIN).exists():
        say(f"nobody may administer: {ADMIN} exists without being a superuser; see manage.py createsuperuser")
        return
    password = env.admin_password or secrets.token_urlsafe(12)
    users.create_superuser(ADMIN, "", password)
    if not env.admin_password:
        prepared.new_password = password
    say(f"made the user {ADMIN}")


def make_default_group(say: Say) -> None:
    """A first group; who has made groups of their own need not keep it."""
    admin = get_user_model().objects.filter(is_superuser=True).first()
    if admin is not None and not Group.objects.exists():
        do_save_group(admin, {"name": DEFAULT_GROUP})
        say(f"made the group {DEFAULT_GROUP}")


def enroll_local_agent(env: Env, say: Say) -> None:
    """Write the local agent's configuration, and a token to join with for as long as the server does not know it."""
    home = Home(env.data_dir / "agent")
    home.create()
    endpoint = agent_config.Endpoint(
        "127.0.0.1" if env.quic_host in ANY_ADDRESS else env.quic_host, env.quic_port
    )
    pin = pki.fingerprint(pki.Pki(env.data_dir / "pki").server)
    known = home.config.exists()
    if known:
        old = agent_config.load(home)
    else:
        # stop_timeout: the supervisor gives it four seconds.
        old = agent_config.AgentConfig([endpoint], LOCAL_CLIENT, group=DEFAULT_GROUP, stop_timeout=2.0)
    new = dataclasses.replace(old, servers=[endpoint], ca_file=None, ca_sha256=pin)
    if not known or new != old:
        agent_config.save(home, new)
    joined = Client.objects.filter(client_id=new.client_id).exclude(credential_hash="").exists()
    if (joined and home.credential.exists()) or _admits(agent_config.read_secret(home.enrollment_token)):
        return
    group = Group.objects.filter(name=DEFAULT_GROUP).first() or Group.objects.first()
    if group is None:
        say("the local agent cannot join: there is no group")
        return
    home.credential.unlink(missing_ok=True)  # of another database
    _, token = do_create_enrollment_token(None, group, note="local agent")
    agent_config.write_secret(home.enrollment_token, token)
    say(f"enrolled the local agent {new.client_id} in the group {group.name}")


def _admits(token: str) -> bool:
    usable = EnrollmentToken.objects.filter(
        revoked_at=None, expires_at__gt=timezone.now(), uses__lt=F("max_uses")
    )
    return bool(token) and usable.filter(token_hash=token_hash(token)).exists()


def _named(host: str) -> list[str]:
    return [] if host in ANY_ADDRESS else [host]
