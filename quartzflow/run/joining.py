"""How agents of other hosts join this server, for the console and `manage.py enroll_token`."""

import ipaddress

from quartzflow.env import Env, own_addresses

from . import pki

ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


def join_command(env: Env, token: str) -> str:
    """What to run on a host: it joins with the token, and trusts this server's certificate authority only."""
    command = f"quicflow agent join --server {server_address(env)} --token {token}"
    authority = pki.Pki(env.data_dir / "pki").ca
    if authority.exists():
        command += f" --ca-sha256 {pki.fingerprint(authority)}"
    return command


def server_address(env: Env) -> str:
    """HOST:PORT under which an agent of another host most probably reaches this machine."""
    host = next(iter(own_addresses()), "127.0.0.1") if env.quic_host in ANY_ADDRESS else env.quic_host
    return f"{f'[{host}]' if ':' in host else host}:{env.quic_port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
