"""An agent that has joined and runs in the test's process."""

import asyncio
import time
from contextlib import asynccontextmanager

from quartzflow_agent.agent import Agent
from quartzflow_agent.config import AgentConfig, Endpoint, save, write_secret
from quartzflow_agent.store.database import open_readonly
from quartzflow_agent.store.records import SUCCESS, Ending

from tests.agent.support import instruction


def now(**fields):
    """An instruction for this moment."""
    number = fields.pop("number", 1)
    return instruction(number, scheduled_time=round(time.time() * 1000), **fields)


def joined(home, server, certificates, **fields):
    """A home that has joined."""
    config = AgentConfig(
        servers=[Endpoint.parse(server.address)], client_id="c1", ca_file=certificates.authority, **fields
    )
    home.create()
    save(home, config)
    write_secret(home.credential, "secret")
    return config


@asynccontextmanager
async def agent_in(home, config):
    """An agent in this process; it is stopped at the end."""
    agent = Agent(home, config)
    work = asyncio.ensure_future(agent.run())
    try:
        yield agent
    finally:
        agent.stop()
        await asyncio.wait_for(work, 20)


def stored(home, read):
    db = open_readonly(home.store)
    try:
        return read(db)
    finally:
        db.close()


def ending(number):
    """A good end, now."""
    return Ending(SUCCESS, round(time.time() * 1000), exit_code=0, output=f"{number}", output_size=1)
