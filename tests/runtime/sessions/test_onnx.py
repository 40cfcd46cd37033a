"""ONNX Runtime's threads stay on the cores that the process was given."""

import os
import subprocess
import sys

import pytest

from tests import tiny

KEPT = """
import os, sys
from pathlib import Path
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import numpy as np
from runtime.sessions.onnx import OnnxSession
session = OnnxSession(Path(sys.argv[1]))
session.run(np.zeros((1, 32, 48, 3), np.uint8))
print(set.union(*(os.sched_getaffinity(int(task.name)) for task in Path("/proc/self/task").iterdir())))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system keeps no process to some cores")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="there is one core")
def test_a_process_that_is_kept_to_one_core_computes_on_no_other(tmp_path):
    done = subprocess.run([sys.executable, "-c", KEPT, str(tiny.artifact(tmp_path))], capture_output=True, text=True,
                          check=True)
    assert done.stdout.strip() == str({min(os.sched_getaffinity(0))})
