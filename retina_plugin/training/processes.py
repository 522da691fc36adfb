"""Start the processes of a run (``--num-gpus``, ``--num-processes``), or join those that torchrun started."""

import argparse
import logging
import os
from collections.abc import Callable, Mapping
from datetime import timedelta

import torch
import torch.distributed as dist
from detectron2.engine import TrainerBase, launch
from detectron2.utils import comm
from torch.distributed.rendezvous import rendezvous
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from ..errors import EXIT_STATUSES, RunFault, SetupError, first_line, user_message

__all__ = ["gather_states", "largest_of_all", "start"]

logger = logging.getLogger(__name__)

# Environment variables that torchrun sets in each of its processes.
OF_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Words by which gloo and NCCL report a lost or silent process; gloo's errors have no type of their own.
LOST = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Timed out", "Broken pipe")


def start(run: Callable[[argparse.Namespace], object], args: argparse.Namespace) -> None:
    """Call ``run(args)`` in each process of the run.

    If torchrun started this process, it joins the others, by NCCL if each has a GPU, else by gloo; a process that
    torchrun restarted resumes from the last checkpoint, as with ``--resume``. Otherwise the processes are spawned here.

    Raises:
        SetupError: there are fewer GPUs than processes, or torchrun and the arguments both give a number of processes.
        RunFault: another process ended, or was silent for ``--dist-timeout`` seconds.
        SetupError, FloatingPointError, RunFault: the error that ended one of the spawned processes.
    """
    timeout = timedelta(seconds=args.dist_timeout)
    if args.dist_timeout <= 0:
        raise SetupError(f"--dist-timeout must be above 0 seconds, got {args.dist_timeout}: 1800 is Detectron2's.")
    if set(OF_TORCHRUN) <= set(os.environ):
        _join(run, args, os.environ, timeout)
        return
    number = _processes_to_start(args)
    try:
        launch(
            _run_watched,
            number,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(run, args),
            timeout=timeout,
        )
    except ProcessRaisedException as error:
        # The error arrives only as text.
        kind = next((kind for kind in EXIT_STATUSES if kind.__name__ in str(error)), None)
        if kind is None:
            raise
        raise kind(user_message(error)) from error
    except ProcessExitedException as error:
        name = error.signal_name or f"status {error.exit_code}"
        hint = " (the system does so when memory runs out)" if name == "SIGKILL" else ""
        raise RunFault(
            f"process {error.error_index} was ended by {name}{hint}, and the others were stopped. "
            "Go on with the same command and --resume."
        ) from error


def _processes_to_start(args: argparse.Namespace) -> int:
    """Return the number of processes to start on this machine; with ``--num-processes`` they see no GPU."""
    if args.num_processes < 0:
        raise SetupError(f"--num-processes must be 1 or more, got {args.num_processes}.")
    if args.num_processes:
        if args.num_gpus > 1:
            raise SetupError(
                f"--num-gpus {args.num_gpus} and --num-processes {args.num_processes}: give the first for GPUs, the "
                "second for the CPU, not both."
            )
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # inherited: Detectron2 takes gloo where there is no GPU
        return args.num_processes
    num_gpus = torch.cuda.device_count()
    if args.num_gpus > max(num_gpus, 1):
        raise SetupError(
            f"--num-gpus {args.num_gpus}: this machine shows {num_gpus} GPUs. Give {max(num_gpus, 1)}, "
            "or --num-processes for several processes on the CPU."
        )
    return max(args.num_gpus, 1)


def _join(run: Callable, args: argparse.Namespace, environment: Mapping[str, str], timeout: timedelta) -> None:
    if args.num_gpus > 1 or args.num_processes or args.num_machines > 1:
        raise SetupError(
            "torchrun says how many processes and machines there are: leave out --num-gpus, --num-processes and "
            "--num-machines."
        )
    world, local_world = int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])
    local_rank = int(environment["LOCAL_RANK"])
    if world % local_world:
        raise SetupError(
            f"torchrun started {world} processes, {local_world} of them on this machine: give every machine the same "
            "--nproc-per-node."
        )
    has_gpus = local_world <= torch.cuda.device_count()
    if torch.cuda.is_available() and not has_gpus:
        raise SetupError(
            f"torchrun --nproc-per-node {local_world}: this machine shows {torch.cuda.device_count()} GPUs. "
            'Give that number, or set CUDA_VISIBLE_DEVICES="" to train on the CPU.'
        )
    restarts = int(environment.get("TORCHELASTIC_RESTART_COUNT", 0))
    if restarts > 0:
        args.resume = not args.eval_only
    if has_gpus:
        torch.cuda.set_device(local_rank)
    store, rank, world = next(rendezvous("env://", timeout=timeout))
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # The agent's store outlives a restart and still has the addresses of the ended processes. Other stores need no
        # prefix, and would get different ones: each agent counts the restarts by itself.
        store = dist.PrefixStore(f"restart_{restarts}", store)
    dist.init_process_group("nccl" if has_gpus else "gloo", store=store, rank=rank, world_size=world, timeout=timeout)
    try:
        comm.create_local_process_group(local_world)
        comm.synchronize()
        _run_watched(run, args)
    finally:
        dist.destroy_process_group()


def _run_watched(run: Callable[[argparse.Namespace], object], args: argparse.Namespace) -> None:
    try:
        run(args)
    except RuntimeError as error:
        is_lost = isinstance(error, dist.DistError) or any(words in str(error) for words in LOST)
        if comm.get_world_size() == 1 or isinstance(error, RunFault) or not is_lost:
            raise
        raise RunFault(
            f"process {comm.get_rank()} of {comm.get_world_size()} lost another one, whose own message says why "
            f"(waited at most {args.dist_timeout:g} s; {first_line(error)}). Go on with the same command and --resume."
        ) from error


def largest_of_all(number: int) -> int:
    """Return the largest number over all processes (a collective call)."""
    if comm.get_world_size() == 1:
        return number
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    largest = torch.tensor(number, device=device)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return int(largest)


def gather_states(trainer: TrainerBase) -> None:
    """Make the hooks collect the states of all processes, before a checkpoint (a collective call)."""
    if comm.get_world_size() > 1:
        for hook in trainer._hooks:
            if hasattr(hook, "gather_state"):
                hook.gather_state()
