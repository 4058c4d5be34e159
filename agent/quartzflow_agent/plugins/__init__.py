"""Plugins: kinds of tasks that are written in Python and installed beside the agent.

A plugin is a subclass of `Plugin`, announced under the entry point group `quartzflow_agent.plugins`. It runs in a
process of its own: it can be stopped, and its crash is a failed execution, never the agent's end.
"""

from quartzflow_agent.plugins.base import Param, ParamError, Plugin, PluginFailed, find, names

__all__ = ["Param", "ParamError", "Plugin", "PluginFailed", "find", "names"]
