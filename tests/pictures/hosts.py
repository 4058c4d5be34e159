"""Hosts as an operator would have them: simulated agents with names of their own, in a thread."""

import asyncio
import threading
from typing import NamedTuple

from quic_bridge.simulation.agent import SimulatedAgent
from quic_bridge.simulation.fleet import Fleet
from quic_bridge.simulation.options import Options
from tests.services import Stack, wait_until


class Host(NamedTuple):
    name: str
    group: str
    ip: str
    labels: dict[str, str]
    online: bool = True


WEB, DATABASE, DATA, EDGE = "生产 Web 集群", "生产数据库", "数据平台", "边缘节点"
GROUPS = {
    WEB: ("面向用户的 Web 与接口服务", "生产,web"),
    DATABASE: ("MySQL 主从与备份机", "生产,数据库"),
    DATA: ("离线计算与数据仓库", "生产,大数据"),
    EDGE: ("各地门店的边缘服务器", "边缘"),
}
HOSTS = [
    *(Host(f"web-sh-0{n}", WEB, f"10.12.1.{10 + n}", {"idc": "sh", "role": "web"}) for n in range(1, 5)),
    *(Host(f"web-bj-0{n}", WEB, f"10.22.1.{10 + n}", {"idc": "bj", "role": "web"}) for n in range(1, 3)),
    Host("db-sh-01", DATABASE, "10.12.3.11", {"idc": "sh", "role": "primary"}),
    Host("db-sh-02", DATABASE, "10.12.3.12", {"idc": "sh", "role": "replica"}),
    Host("db-bj-01", DATABASE, "10.22.3.11", {"idc": "bj", "role": "replica"}),
    *(Host(f"spark-0{n}", DATA, f"10.12.8.{20 + n}", {"idc": "sh", "role": "worker"}) for n in range(1, 5)),
    Host("store-hz-01", EDGE, "172.18.4.9", {"city": "hz"}),
    Host("store-nj-01", EDGE, "172.18.6.9", {"city": "nj"}, online=False),
    Host("store-wh-01", EDGE, "172.18.7.9", {"city": "wh"}),
]
RUNS = 2500  # ms; how long each execution takes


class Agents:
    """The agents of all hosts, connected when the constructor returns; those that are offline have been there."""

    def __init__(self, stack: Stack, tokens: dict[str, str]) -> None:
        self._stack, self._tokens = stack, tokens
        self._loop = asyncio.new_event_loop()
        self._fleets: list[Fleet] = []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._connect(), self._loop).result(30)
        wait_until(lambda: self._online() == len(HOSTS), 30, "all hosts online")
        self._loop.call_soon_threadsafe(self._leave)

    def _online(self) -> int:
        return sum(fleet.stats.online for fleet in self._fleets)

    async def _connect(self) -> None:
        for group, token in self._tokens.items():
            options = Options(
                endpoints=(("127.0.0.1", self._stack.quic_port),),
                ca=(self._stack.data_dir / "pki" / "ca.pem").read_bytes(),
                token=token,
                prefix="host",
                exec_ms=RUNS,
                seed=7,
            )
            fleet = Fleet(options)
            self._fleets.append(fleet)
            for number, host in enumerate(host for host in HOSTS if host.group == group):
                agent = SimulatedAgent(fleet, host.name, number)
                fleet.agents.append(agent)
                agent.connect()

    def _leave(self) -> None:
        away = {host.name for host in HOSTS if not host.online}
        for fleet in self._fleets:
            for agent in fleet.agents:
                if agent.client_id in away:
                    agent.stop()

    def close(self) -> None:
        async def stop() -> None:
            for fleet in self._fleets:
                await fleet.stop()

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
