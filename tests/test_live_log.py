"""Output on its way from a running command to the server, through the whole product."""

import asyncio
import itertools
import socket
import time

from channels_redis.core import RedisChannelLayer

from quartzflow import bridges
from tests.services import SUCCESS, Stack, shell_task, wait_until

LINES = 14
EXPECTED = "".join(f"{number}\n" for number in range(1, LINES + 1))


def watch(stack: Stack, execution_id: str) -> None:
    """What a page does that shows the log."""
    message: bridges.LogWatch = {
        "type": "log_watch", "client_id": "local", "execution_id": execution_id, "watching": True,
    }  # fmt: skip

    async def send() -> None:
        layer = RedisChannelLayer(hosts=[f"unix://{stack.data_dir / 'redis.sock'}"], prefix="qf")
        bridge_id = f"{socket.gethostname()}:{stack.quic_port}"
        await layer.send(bridges.channel_name(bridge_id), message)
        await layer.close_pools()

    asyncio.run(send())


def test_output_that_somebody_reads_comes_every_second_and_in_order(stack: Stack) -> None:
    with stack.api() as api:
        command = f"for i in $(seq {LINES}); do echo $i; sleep 0.4; done"
        task = shell_task(api, "live", "0 0 1 1 *", command)
        ran = api.post(f"/tasks/{task}/trigger").json()["data"]["execution_id"]
        row = lambda: api.get(f"/executions/{ran}").json()["data"]  # noqa: E731
        wait_until(lambda: row()["status"] == 2, 20, "the start")
        watch(stack, row()["execution_id"])
        seen, changes = "", [time.monotonic()]
        while row()["status"] != SUCCESS:
            output = api.get(f"/executions/{ran}/logs").json()["data"]["output"]
            assert output.startswith(seen) and EXPECTED.startswith(output)
            if output != seen:
                seen = output
                changes.append(time.monotonic())
            assert time.monotonic() - changes[0] < 30
            time.sleep(0.05)
        assert api.get(f"/executions/{ran}/logs").json()["data"]["output"] == EXPECTED
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(changes))
    # Unwatched it would have come once, after ten seconds. Other tests run at the same time: one may be late.
    assert len(gaps) >= 3 and gaps[len(gaps) // 2] < 1.3, gaps
