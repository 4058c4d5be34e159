"""The wire protocol between agents and bridges: the one copy, used by both sides.

`*_pb2` is generated from the `.proto` files beside it (`python -m quartzflow_agent.protocol.generate`).
"""
