import shutil
import subprocess
import sys
from pathlib import Path

from quartzflow_agent.protocol import generate


def generated(directory):
    return {path.name: path.read_text() for path in directory.glob("*_pb2.py*")}


def test_the_committed_modules_match_their_sources(tmp_path):
    directory = generate.generate(tmp_path)
    assert len(generated(directory)) == 6
    assert generated(directory) == generated(generate.HERE)


def test_running_the_module_writes_beside_its_sources(tmp_path):
    package = tmp_path / "quartzflow_agent"
    shutil.copytree(generate.HERE.parent, package, ignore=shutil.ignore_patterns("__pycache__", "*_pb2*"))
    module = "quartzflow_agent.protocol.generate"
    subprocess.run(
        [sys.executable, "-m", module], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, check=True
    )
    assert generated(package / "protocol") == generated(generate.HERE)


def test_the_descriptors_carry_the_path_of_the_package():
    from quartzflow_agent.protocol import agent_pb2, backbone_pb2, task_pb2

    for module in (agent_pb2, backbone_pb2, task_pb2):
        name = Path(module.DESCRIPTOR.name)
        assert name.parent == Path("quartzflow_agent/protocol")
