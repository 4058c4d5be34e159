"""Generate the *_pb2 modules from the .proto files: `python -m quartzflow_agent.protocol.generate`.

Needs grpcio-tools, which the agent itself does not.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent  # so that the descriptors carry the package's path and imports work inside it


def generate(root: Path) -> Path:
    """Write the modules and their .pyi below `root`, as importable as here; returns their directory."""
    sources = sorted(str(path.relative_to(ROOT)) for path in HERE.glob("*.proto"))
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"-I{ROOT}",
        f"--python_out={root}",
        f"--pyi_out={root}",
    ]
    subprocess.run([*command, *sources], check=True)
    return root / HERE.relative_to(ROOT)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        for path in generate(Path(temporary)).iterdir():
            (HERE / path.name).write_bytes(path.read_bytes())


if __name__ == "__main__":
    main()
