#!/usr/bin/env bash
# Waits for the Ray head at ADDRESS (cluster/head.sh), joins it as a worker with CPUS logical CPUs and every visible GPU, and returns
# when it ends:
#
#   bash cluster/worker.sh ADDRESS CPUS
set -euo pipefail
address=$1
cpus=$2
: "${RAY_AUTH_TOKEN:?is not set: the token that head, workers and driver present}"
export RAY_AUTH_MODE=token
unset RAY_ADDRESS OMP_NUM_THREADS # with one thread in its environment, every worker process would compute with one

until ray health-check --address "$address:6379" >/dev/null 2>&1; do
    sleep 2
done
# Port 0: on the head's machine, another agent has the usual port. The exit code is 1 when the head has ended, as it will.
ray start --address="$address:6379" --block --num-cpus="$cpus" --dashboard-agent-listen-port=0 || true
