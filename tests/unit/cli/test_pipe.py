"""``delia keys | head`` ends as quietly as it does for any other program."""

import subprocess
import sys


def test_a_reader_that_has_read_enough_sees_no_traceback():
    command = [sys.executable, "-m", "delia_ray", "keys"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
