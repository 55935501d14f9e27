import os
import subprocess
import sys

import pytest

_PROGRAM = """
import os, signal, sys
import torch
import deconvseg.ops

torch.set_num_threads(2)
convolution, image = torch.nn.Conv3d(8, 8, 3), torch.rand(1, 8, 32, 32, 32)

def work():
    with torch.inference_mode():
        return convolution(image).square().sum()

expected = work()
child = os.fork()
if child == 0:
    signal.alarm(20)
    os._exit(0 if torch.allclose(work(), expected) and torch.get_num_threads() == 1 else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
def test_a_fork_of_a_process_that_has_computed_with_several_threads_computes_too() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", _PROGRAM], env=environment, check=False, timeout=120)
    assert done.returncode == 0
