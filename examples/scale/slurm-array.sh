#!/bin/bash
# An array of jobs labels a shard each, and one more joins them. From a directory that all nodes see:
#   mkdir -p logs
#   sbatch --array=0-31 examples/scale/slurm-array.sh pairs.parquet runs/big /models/judge
#   sbatch --job-name=preftree --dependency=singleton --wrap 'preftree merge runs/big/shard-* --out runs/big/all'
#SBATCH --job-name=preftree
#SBATCH --output=logs/%x-%A-%a.log
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-task=1
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# Ten minutes before its time is over the run finishes its batch and ends with exit code 130.
#SBATCH --signal=TERM@600
set -uo pipefail
INPUT=$1 RUN=$2 MODEL=$3

srun preftree label "$INPUT" \
    --out "$RUN/shard-$SLURM_ARRAY_TASK_ID" \
    --shard "$((SLURM_ARRAY_TASK_ID + 1))/$SLURM_ARRAY_TASK_COUNT" \
    --model "$MODEL" --dtype bfloat16 --quiet
code=$?

case $code in
    3) exit 0 ;;                                    # done; some rows were rejected
    130) scontrol requeue "$SLURM_JOB_ID" ;;        # the same command resumes the run
    *) exit $code ;;
esac
