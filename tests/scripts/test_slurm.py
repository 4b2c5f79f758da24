"""The Slurm script stops the training before its time is over and queues the job again."""

import os
import signal
import subprocess
import time

import pytest

from tests.helpers import ROOT

TRAINING = """
trap 'echo stopped >> "$LOG"; exit 1' TERM
echo "flags $*" >> "$LOG"
for i in $(seq 100); do sleep 0.1; [ -z "$CODE" ] || exit "$CODE"; done
"""


@pytest.mark.parametrize(("code", "requeued"), [("", True), ("75", True), ("0", False), ("2", False)])
def test_it_requeues_what_is_not_finished(code, requeued, tmp_path):
    log, scontrol, training = (tmp_path / name for name in ("log", "scontrol", "training.sh"))
    scontrol.write_text('#!/bin/bash\necho "scontrol $*" >> "$LOG"\n')
    scontrol.chmod(0o755)
    training.write_text(TRAINING)
    names = {"LOG": str(log), "CODE": code, "SLURM_JOB_ID": "7", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", "scripts/slurm_train.sh", str(training), "--exp", "a"]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | names) as process:
        for _ in range(200):
            if log.exists():
                break
            time.sleep(0.05)
        if not code:
            process.send_signal(signal.SIGUSR1)
    lines = log.read_text().splitlines()
    assert lines[0] == "flags --exp a --resume auto"
    assert ("scontrol requeue 7" in lines) == requeued
    assert ("stopped" in lines) == (not code)
    assert process.returncode == (0 if requeued else int(code))
