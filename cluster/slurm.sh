#!/bin/bash
# A run as a Slurm job: a Ray head without CPUs on the first node, a worker on each node, the verb, and the end of all of them.
#
#   sbatch cluster/slurm.sh run --config jobs/configs/paper.yaml run.root=/shared/runs    # in the checkout
#   scancel --batch --signal=TERM JOB      # stops it with a checkpoint; the same sbatch command goes on
#
# The checkout with its .venv (README, Install; for GPUs the commands given there, not `make install`) and run.root must be the same
# folders on all nodes, and GPU nodes need NVIDIA driver 580 or newer. `export HF_HOME=/shared/runs/.huggingface` before sbatch keeps the
# model where it is needed. Options of sbatch win over those below:  sbatch --partition=gpu --account=A --nodes=2 cluster/slurm.sh run ...
#SBATCH --job-name=delia
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --mem=64G
#SBATCH --exclusive
#SBATCH --time=24:00:00
# Ten minutes before the time is over: training writes a checkpoint.
#SBATCH --signal=B:TERM@600
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?is not set: submit this file with sbatch, in the checkout}"
export PATH=$PWD/.venv/bin:$PATH
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN RAY_TMPDIR=/tmp/delia-$SLURM_JOB_ID # srun passes the environment on
head_address=$(hostname --all-ip-addresses | awk '{print $1}') # not --ip-address, which is 127.0.1.1 on Debian's nodes

srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    bash cluster/worker.sh "$head_address" "$SLURM_CPUS_PER_TASK" &
# In place of this shell, so that Slurm's signal reaches it; when it exits, Slurm ends the workers.
exec bash cluster/head.sh "$head_address" "$SLURM_JOB_NUM_NODES" "$@"
