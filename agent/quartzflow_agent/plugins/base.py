"""What a plugin is."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Dict, List, Mapping, Optional, Tuple, Type

GROUP = "quartzflow_agent.plugins"
_CLASSES = {
    "directory_backup": "DirectoryBackup",
    "disk_check": "DiskCheck",
    "file_checksum": "FileChecksum",
    "http_check": "HttpCheck",
    "log_cleanup": "LogCleanup",
    "service_check": "ServiceCheck",
    "tcp_check": "TcpCheck",
}
BUILT_IN = tuple(
    EntryPoint(name, f"quartzflow_agent.plugins.{name}:{plugin}", GROUP) for name, plugin in _CLASSES.items()
)


class ParamError(ValueError):
    """The parameters are not what the plugin takes; the message names the one at fault."""


class PluginFailed(Exception):
    """The plugin has done its work and found something wrong: the execution fails with this message."""


@dataclass(frozen=True)
class Param:
    """One parameter."""

    name: str
    type: Type[Any]  # str, int, float, bool or list (of texts)
    help: str  # one line, for people
    default: Any = None  # when it is not given; see required
    required: bool = False
    low: Optional[float] = None  # smallest number
    high: Optional[float] = None  # largest number

    def parse(self, value: Any) -> Any:
        """The value as its type. Raises ParamError. JSON's own types are taken as they are, texts are read."""
        try:
            parsed = self._convert(value)
        except (TypeError, ValueError, OverflowError):
            raise ParamError(f"{self.name}: {value!r} is no {self.type.__name__}") from None
        if self.low is not None and parsed < self.low:
            raise ParamError(f"{self.name}: {parsed} is less than {self.low:g}")
        if self.high is not None and parsed > self.high:
            raise ParamError(f"{self.name}: {parsed} is more than {self.high:g}")
        return parsed

    def _convert(self, value: Any) -> Any:
        if self.type is bool:
            if isinstance(value, bool):
                return value
            return {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]
        if isinstance(value, bool):
            raise TypeError
        if self.type is list:
            items = value if isinstance(value, list) else [value]
            if not all(isinstance(item, str) for item in items):
                raise TypeError
            return items
        if self.type is str and not isinstance(value, str):
            raise TypeError
        parsed = self.type(value)
        # Not cut off in silence, and nothing that is neither less nor more than anything.
        if (self.type is int and isinstance(value, float) and parsed != value) or parsed != parsed:
            raise ValueError
        return parsed


class Plugin:
    """Subclass it, set `description` and `params`, write `run`."""

    description: ClassVar[str] = ""
    params: ClassVar[Tuple[Param, ...]] = ()

    def parse(self, given: Mapping[str, Any]) -> Dict[str, Any]:
        """The parameters, checked, with defaults. Raises ParamError."""
        known = {param.name: param for param in self.params}
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ParamError(f"unknown parameter: {', '.join(unknown)}")
        values: Dict[str, Any] = {}
        for name, param in known.items():
            if name in given:
                try:
                    values[name] = param.parse(given[name])
                except KeyError:
                    raise ParamError(f"{name}: {given[name]!r} is no {param.type.__name__}") from None
            elif param.required:
                raise ParamError(f"{name} is missing")
            else:
                values[name] = param.default
        return values

    def run(self, **params: Any) -> None:
        """Do the work; print what is worth knowing. Raises PluginFailed, or anything else for a crash."""
        raise NotImplementedError


def _installed() -> List[EntryPoint]:
    if sys.version_info >= (3, 10):
        return [*BUILT_IN, *entry_points(group=GROUP)]
    return [*BUILT_IN, *entry_points().get(GROUP, [])]


def names() -> List[str]:
    """The installed plugins."""
    return sorted({entry.name for entry in _installed()})


def find(name: str) -> Plugin:
    """The plugin of that name; nobody can replace a built-in one.

    Raises LookupError; whatever its import raises comes out as it is.
    """
    for entry in _installed():
        if entry.name == name:
            plugin = entry.load()()
            if not isinstance(plugin, Plugin):
                raise LookupError(f"{entry.value} is not a quartzflow_agent.plugins.Plugin")
            return plugin
    raise LookupError(f"no plugin {name!r} on this host (installed: {', '.join(names())})")
