"""quicflow agent doctor."""

import asyncio
import json
import os

import pytest
from quartzflow_agent import policy as policy_module
from quartzflow_agent.cli import doctor
from quartzflow_agent.config import AgentConfig, Endpoint, save, write_secret
from quartzflow_agent.lock import Lock

from tests.agent.running_agent import joined
from tests.services import free_port


@pytest.fixture(autouse=True)
def _no_system_policy(tmp_path, monkeypatch):
    monkeypatch.setattr(policy_module, "SYSTEM_POLICY", tmp_path / "none.toml")


def states(found):
    return {finding.name: finding.state for finding in found}


def named(found, name):
    return next(finding for finding in found if finding.name == name)


async def test_a_host_in_order(server, certificates, home, quicflow):
    joined(home, server, certificates)
    code, out, err = await asyncio.get_running_loop().run_in_executor(None, quicflow, "agent", "doctor")
    assert (code, err) == (0, "")
    assert f"ok     Way to {server.address}: QUIC over UDP, and its certificate is trusted" in out
    assert "-      Agent: not running" in out
    assert "→ Start it: quicflow agent run" in out
    assert "WRONG" not in out
    assert server.registrations == []  # looking must not push a running agent off


async def test_a_server_that_is_not_the_one_to_trust(server, home):
    save(home, AgentConfig([Endpoint.parse(server.address)], "c1", ca_sha256="0" * 64))
    found = named(await doctor.examine(home), f"Way to {server.address}")
    assert found.state == "wrong"
    assert "another SHA-256" in found.text
    assert "ca_sha256" in found.todo


async def test_servers_that_cannot_be_reached_or_resolved(home):
    port = free_port()
    save(home, AgentConfig([Endpoint("127.0.0.1", port), Endpoint("no-such-host.invalid", 1)], "c1"))
    found = await doctor.examine(home)
    way = named(found, f"Way to 127.0.0.1:{port}")
    assert (way.state, way.text) == ("wrong", "nobody listens on that UDP port")
    assert f"UDP port {port}" in way.todo
    dns = named(found, "Name of no-such-host.invalid:1")
    assert dns.state == "wrong"
    assert "/etc/resolv.conf" in dns.todo
    assert "Way to no-such-host.invalid:1" not in states(found)


def test_a_host_that_has_not_joined_and_json(home, quicflow):
    code, out, _ = quicflow("agent", "doctor", "--json")
    answer = json.loads(out)
    assert code == 1
    assert not answer["ok"]
    wrong = {finding["name"] for finding in answer["findings"] if finding["state"] == "wrong"}
    assert wrong == {"Configuration", "Credential"}
    assert all("todo" in finding for finding in answer["findings"])


async def test_files_that_are_open_to_others(home):
    write_secret(home.credential, "x")
    home.credential.chmod(0o644)
    home.root.chmod(0o755)
    found = [finding for finding in await doctor.examine(home) if finding.name == "Files"]
    assert [finding.todo for finding in found] == [f"chmod go= {home.root}", f"chmod go= {home.credential}"]
    assert "mode 755" in found[0].text
    assert named(await doctor.examine(home), "Credential").state == "wrong"


async def test_files_of_another_user(home, monkeypatch):
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    found = named(await doctor.examine(home), "Files")
    assert found.state == "wrong"
    assert "belongs to another user" in found.text


async def test_a_full_disk(home, monkeypatch):
    monkeypatch.setattr(doctor, "LEAST_SPACE", 2**63)
    found = named(await doctor.examine(home), "Disk space")
    assert (found.state, "Make room" in found.todo) == ("wrong", True)
    monkeypatch.setattr(doctor, "LEAST_SPACE", 0)
    monkeypatch.setattr(doctor, "_free_inodes", lambda path: 3)
    assert named(await doctor.examine(home), "Disk space").text.startswith("3 inodes free")


async def test_damaged_records_and_policy(home):
    home.store.write_bytes(b"garbage" * 1000)
    home.store.chmod(0o600)
    home.policy.write_text("x = 1")
    found = await doctor.examine(home)
    assert named(found, "Records").state == "wrong"
    assert named(found, "Policy").state == "wrong"


@pytest.mark.parametrize(("offset", "state"), [(7, "ok"), (-5000, "wrong")])
async def test_the_clock_as_the_running_agent_knows_it(home, offset, state):
    lock = Lock(home.lock)
    home.status.write_text(json.dumps({"connected": True, "clock_offset_ms": offset}))
    found = named(await doctor.examine(home), "Clock")
    assert (found.state, found.text) == (state, f"{-offset:+d} ms from the server's")
    home.status.write_text("{")
    assert named(await doctor.examine(home), "Clock").state == "unknown"
    lock.release()
