#!/bin/bash
# Train on 2 machines of 8 GPUs under SLURM. A job that is preempted, or whose time runs out, is queued again and goes on
# where it stopped; one that failed or diverged is not.
#   sbatch configs/examples/slurm.sh --config-file configs/retina_R50_FPN.yaml OUTPUT_DIR output/r50
#SBATCH --job-name=retina
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# SIGTERM to the steps 180 s before the end: an iteration, a checkpoint, and the queueing below.
#SBATCH --signal=TERM@180

arguments=("$@")
for ((i = 0; i < $#; i++)); do
    [ "${arguments[i]}" = OUTPUT_DIR ] && output=${arguments[i + 1]}
done
: "${output:?give OUTPUT_DIR FOLDER among the arguments}"
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node "$SLURM_GPUS_PER_NODE" --max-restarts 3 \
    --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$first:29500" \
    train_net.py --resume "$@"
status=$?

# "running": nobody had the time to write how it ended.
if [ $status -ne 0 ] && grep -Eq '"status": "(interrupted|running)"' "$output/run_record.json"; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
