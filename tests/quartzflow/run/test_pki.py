"""The private certificate authority and the bridge's certificate."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from quartzflow.run import pki

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NAMES = ["localhost", "127.0.0.1", "::1", "quartz.example.com"]


def names_in(path: Path) -> set[str]:
    return pki._names_of(x509.load_pem_x509_certificate(path.read_bytes()))


def test_the_first_time_makes_an_authority_and_a_certificate(tmp_path: Path) -> None:
    made = pki.ensure(tmp_path / "pki", NAMES, NOW)
    files = pki.Pki(tmp_path / "pki")
    assert len(made) == 2
    assert names_in(files.server) == set(NAMES)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "pki").iterdir()}
    assert modes == {"ca.pem": 0o644, "ca.key": 0o600, "server.pem": 0o644, "server.key": 0o600}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.server, files.server_key)
    chain = x509.load_pem_x509_certificates(files.server.read_bytes())
    chain[0].verify_directly_issued_by(chain[1])
    assert chain[1].public_bytes(pki.serialization.Encoding.PEM) == files.ca.read_bytes()
    assert pki.fingerprint(files.ca) == chain[1].fingerprint(pki.hashes.SHA256()).hex()


def test_the_second_time_changes_nothing(tmp_path: Path) -> None:
    pki.ensure(tmp_path, NAMES, NOW)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert pki.ensure(tmp_path, NAMES[:2], NOW + timedelta(days=300)) == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("names", "days"), [([*NAMES, "192.0.2.7"], 1), (NAMES, pki.SERVER_DAYS - pki.RENEW_DAYS + 1)]
)
def test_a_new_name_or_a_near_end_renews_the_certificate_alone(
    tmp_path: Path, names: list[str], days: int
) -> None:
    pki.ensure(tmp_path, NAMES, NOW)
    authority = (tmp_path / "ca.pem").read_bytes()
    later = NOW + timedelta(days=days)
    assert len(pki.ensure(tmp_path, names, later)) == 1
    assert (tmp_path / "ca.pem").read_bytes() == authority
    certificate = x509.load_pem_x509_certificate((tmp_path / "server.pem").read_bytes())
    assert certificate.not_valid_after_utc == (later + timedelta(days=pki.SERVER_DAYS)).replace(microsecond=0)
    assert names_in(tmp_path / "server.pem") == set(names)


def test_a_name_once_certified_stays(tmp_path: Path) -> None:
    pki.ensure(tmp_path, ["localhost", "192.0.2.7"], NOW)
    pki.ensure(tmp_path, ["localhost", "192.0.2.8"], NOW)
    assert names_in(tmp_path / "server.pem") == {"localhost", "192.0.2.7", "192.0.2.8"}


def test_a_certificate_of_another_authority_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pki.ensure(tmp_path / "ours", NAMES, NOW)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Example Trust")])
    monkeypatch.setattr(pki, "AUTHORITY", name)
    pki.ensure(tmp_path / "theirs", ["other.example.com"], NOW)
    for file in ("server.pem", "server.key"):
        (tmp_path / "ours" / file).write_bytes((tmp_path / "theirs" / file).read_bytes())
    assert pki.ensure(tmp_path / "ours", NAMES, NOW) == []
    assert names_in(tmp_path / "ours" / "server.pem") == {"other.example.com"}


def test_a_certificate_of_a_lost_authority_is_made_anew(tmp_path: Path) -> None:
    pki.ensure(tmp_path, NAMES, NOW)
    (tmp_path / "ca.pem").unlink()
    assert len(pki.ensure(tmp_path, NAMES, NOW)) == 2
    chain = x509.load_pem_x509_certificates((tmp_path / "server.pem").read_bytes())
    chain[0].verify_directly_issued_by(chain[1])


def test_without_the_authoritys_key_a_good_certificate_serves_on_and_no_new_one_is_made(
    tmp_path: Path,
) -> None:
    pki.ensure(tmp_path, NAMES, NOW)
    (tmp_path / "ca.key").unlink()
    assert pki.ensure(tmp_path, NAMES, NOW) == []
    with pytest.raises(pki.PkiError, match=r"ca\.key"):
        pki.ensure(tmp_path, [*NAMES, "192.0.2.7"], NOW)


def test_the_machines_own_names_hold_loopback_and_what_it_listens_on() -> None:
    names = pki.own_names("Quartz.Example.com.", "")
    assert {"localhost", "127.0.0.1", "::1", "quartz.example.com"} <= set(names)
    assert "" not in names
