#!/usr/bin/env bash
# Starts a Ray head without CPUs here, waits for COUNT workers, runs a verb of delia on them, and ends the head, and so the workers:
#
#   bash cluster/head.sh ADDRESS COUNT run --config my.yaml run.root=/shared/runs
#
# ADDRESS is this machine's, as the workers (cluster/worker.sh) see it. cluster/slurm.sh and cluster/skypilot.yaml call both, with the
# cluster's token in RAY_AUTH_TOKEN and delia's environment in PATH. SIGTERM stops the verb: training writes a checkpoint.
set -euo pipefail
address=$1
count=$2
shift 2
: "${RAY_AUTH_TOKEN:?is not set: the token that head, workers and driver present}"
unset RAY_ADDRESS
export RAY_AUTH_MODE=token
here=$(dirname "${BASH_SOURCE[0]}")
run=
code=0

stop() {
    [ -n "$run" ] || exit 143 # the verb has not begun
    kill -TERM "$run" 2>/dev/null || true
}

end() {
    kill "$head" 2>/dev/null || true
    wait "$head" || true
}

# No `ray stop` anywhere: it would end every Ray process of this user, SkyPilot's own, too.
ray start --head --block --node-ip-address="$address" --port=6379 --num-cpus=0 --num-gpus=0 --dashboard-agent-listen-port=0 &
head=$!
trap end EXIT
trap stop TERM INT
export RAY_ADDRESS=$address:6379
until ray health-check --address "$RAY_ADDRESS" >/dev/null 2>&1; do
    kill -0 "$head" # ends this script where the head has ended
    sleep 1
done
python "$here/wait_for_nodes.py" "$count" &
wait $! # bash runs a trap only after a command in the foreground

bash "$here/retry.sh" python -m delia_ray "$@" &
run=$!
wait "$run" || code=$?
while kill -0 "$run" 2>/dev/null; do # a signal has ended `wait`, not the run
    code=0
    wait "$run" || code=$?
done
exit "$code"
