"""Train ACT on LeRobot v3.0 datasets, in one process or, under torchrun, in many.

python train.py --config config.yaml [--override training.lr=5e-5 ...] [--resume]
torchrun --nproc-per-node=4 train.py --config config.yaml
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import math
import random
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.policies.act.modeling_act import ACTPolicy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Subset

from ur10e_act.config import Config, add_arguments, load_config
from ur10e_act.dataset.lerobot_dataset import ChunkDataset, LeRobotV3Dataset, open_dataset, split_episodes
from ur10e_act.dataset.statistics import PixelHistograms, compute_stats, count_images
from ur10e_act.errors import TryAgain, UserError, run_cli
from ur10e_act.policy.act import (
    ACTLoss,
    build_policy,
    chunk_errors,
    load_weights,
    optimizer_groups,
    to_device,
)
from ur10e_act.policy.checkpoint import (
    find_checkpoint,
    load_training_state,
    rng_state,
    save_checkpoint,
    set_rng_state,
)
from ur10e_act.training import distributed
from ur10e_act.training.loader import make_loader, worker_errors
from ur10e_act.training.metrics import MetricsLogger, check_logging
from ur10e_act.training.resume import check_same_data, find_start
from ur10e_act.training.running_means import RunningMeans
from ur10e_act.training.sampler import ResumableSampler


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument(
        "--resume", action="store_true", help="resume from training.output_dir/checkpoints/last"
    )
    return parser.parse_args()


def read_data(config: Config) -> tuple[LeRobotV3Dataset, ChunkDataset, ChunkDataset]:
    """The dataset, and its training and held-out samples."""
    data = config.data
    if not data.roots:
        raise UserError("data.roots: names no dataset; set it, e.g. --override data.roots=[DIR]")
    dataset = open_dataset(data.roots, cameras=data.cameras, image_size=data.image_size)
    episodes = range(len(dataset.episodes)) if data.episodes is None else data.episodes
    train_episodes, held_out_episodes = split_episodes(
        episodes, data.held_out_episodes, data.held_out_fraction, data.held_out_seed
    )
    transforms = None
    if data.image_transforms:
        from lerobot.datasets.transforms import ImageTransforms, ImageTransformsConfig

        transforms = ImageTransforms(ImageTransformsConfig(enable=True))
    chunk_size = config.model.chunk_size
    train_set = ChunkDataset(dataset, train_episodes, chunk_size, transforms, seed=config.training.seed)
    held_out_set = ChunkDataset(dataset, held_out_episodes, chunk_size)
    return dataset, train_set, held_out_set


def training_stats(
    config: Config, world: distributed.World, dataset: LeRobotV3Dataset, episodes: tuple[int, ...]
) -> dict[str, dict[str, torch.Tensor]]:
    """What the policy normalizes with; each rank looks at the images of its share of the episodes."""
    histograms = None
    if config.data.image_stats == "dataset":
        share = episodes[world.rank :: world.world_size]
        counted = distributed.run_on_all_ranks(world, lambda: count_images(dataset, share))
        histograms = functools.reduce(PixelHistograms.merge, distributed.gather(world, counted))
    return compute_stats(dataset, episodes, config.data.image_stats, histograms)


def describe(
    dataset: LeRobotV3Dataset, train_set: ChunkDataset, held_out_set: ChunkDataset, config: Config
) -> dict[str, Any]:
    """What a checkpoint must say of its data, so that eval can tell whether a dataset fits it."""
    return {
        "fps": dataset.fps,
        "robot_type": dataset.robot_type,
        "state_names": list(dataset.state_names),
        "action_names": list(dataset.action_names),
        "cameras": list(dataset.cameras),
        "image_shapes": {camera: list(shape) for camera, shape in dataset.image_shapes.items()},
        "fingerprint": dataset.fingerprint,
        "roots": list(config.data.roots),
        "train_episodes": list(train_set.episodes),
        "held_out_episodes": list(held_out_set.episodes),
    }


def seed_all(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def wrap_ddp(loss_module: torch.nn.Module, world: distributed.World, compiled: bool) -> Any:
    """``loss_module``, compiled where wanted, with gradients averaged over ranks where there are several."""
    wrapped: Any = torch.compile(loss_module) if compiled else loss_module
    if world.world_size == 1:
        return wrapped
    with warnings.catch_warnings():
        # torch 2.14 wants a name for it that older ones, as in NGC's images, do not know.
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
        return DistributedDataParallel(
            wrapped,
            device_ids=[world.device] if world.device.type == "cuda" else None,
            # The only buffers are the backbone's frozen batch norms and position codes: constants.
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
        )


def learning_rate_factor(config: Config, step: int) -> float:
    """Linear warm-up from 1/(warmup_steps+1), then constant or half a cosine down to final_lr_fraction."""
    training = config.training
    if step < training.warmup_steps:
        return (step + 1) / (training.warmup_steps + 1)
    if training.schedule == "constant":
        return 1.0
    progress = min(1.0, (step - training.warmup_steps) / (training.steps - training.warmup_steps))
    return training.final_lr_fraction + (1 - training.final_lr_fraction) * 0.5 * (
        1 + math.cos(math.pi * progress)
    )


def make_dataloader(
    config: Config, world: distributed.World, samples: Any, sampler: Any = None
) -> DataLoader:
    pin_memory = world.device.type == "cuda"
    return make_loader(samples, config.training.batch_size, config.data.num_workers, pin_memory, sampler)


def validate(
    config: Config, world: distributed.World, policy: Any, held_out_set: ChunkDataset, joints: tuple[str, ...]
) -> dict[str, Any]:
    """Errors over all held-out samples, each read by one rank; the same figures on every rank."""
    mine = Subset(held_out_set, range(world.rank, len(held_out_set), world.world_size))
    totals = torch.zeros(len(joints) + 2, dtype=torch.float64, device=world.device)
    for batch in make_dataloader(config, world, mine):
        errors, steps, l1 = chunk_errors(policy, to_device(batch, world.device))
        totals += torch.cat([errors, steps[None], l1[None]])
    *joint_errors, step_count, l1_sum = distributed.sum_over_ranks(world, totals).tolist()
    return {
        "val_l1": l1_sum / (step_count * len(joints)),
        "val_mae": sum(joint_errors) / (step_count * len(joints)),
        "val_mae_per_joint": {
            joint: error / step_count for joint, error in zip(joints, joint_errors, strict=True)
        },
    }


def main() -> None:
    arguments = parse_arguments()
    config = load_config(arguments.config, arguments.override)
    with worker_errors(), distributed.process_group(config.training.device) as world:
        # As LeRobot does: TF32 where float32 is asked for, and convolution kernels chosen by trial.
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        train(config, world, arguments.resume)


def train(config: Config, world: distributed.World, resume: bool) -> None:
    """One training run; ``config`` and ``resume`` as on the command line."""
    training, device = config.training, world.device
    output_dir = Path(training.output_dir)

    # data
    distributed.run_on_all_ranks(world, lambda: check_logging(config))
    start = distributed.run_on_all_ranks(world, lambda: find_start(config, resume))
    # Machines that download checkpoints from one place may do so before and after a new one has come.
    distributed.require_same(world, "checkpoint to resume from", start.name if start else "none", TryAgain)
    dataset, train_set, held_out_set = distributed.run_on_all_ranks(world, lambda: read_data(config))
    distributed.require_same(world, "dataset", dataset.fingerprint)
    dataset_info = describe(dataset, train_set, held_out_set, config)
    samples_per_step = training.batch_size * training.gradient_accumulation_steps * world.world_size

    def check_data() -> None:
        if samples_per_step > len(train_set):
            raise UserError(
                f"training.batch_size: {samples_per_step} samples a step (batch x accumulation x ranks) are "
                f"more than the {len(train_set)} frames of the training episodes"
            )
        if start:
            check_same_data(start, dataset.fingerprint, config.data.roots)

    distributed.run_on_all_ranks(world, check_data)

    # model: the same first weights on all ranks, another random stream on each afterwards
    seed_all(training.seed)
    stats = training_stats(config, world, dataset, train_set.episodes)

    def build() -> ACTPolicy:
        # The weights of the backbone are downloaded once a host.
        with distributed.local_rank_0_first(world):
            return build_policy(config, dataset, stats, backbone_weights=start is None)

    policy = distributed.run_on_all_ranks(world, build).to(device)
    source = start or training.init_checkpoint
    if source:
        distributed.run_on_all_ranks(world, lambda: load_weights(policy, find_checkpoint(source)))
    loss_module = wrap_ddp(ACTLoss(policy).to(device), world, training.compile)
    seed_all(training.seed + world.rank)

    # optimizer
    parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        optimizer_groups(policy, training.lr, training.lr_backbone),
        lr=training.lr,
        weight_decay=training.weight_decay,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(config, step))
    autocast = torch.autocast(
        device.type,
        torch.bfloat16,
        enabled=training.bf16 and device.type == "cuda" and torch.cuda.is_bf16_supported(),
    )

    # where to continue
    step, samples_seen, best_val_mae = 0, 0, math.inf
    if start:
        state = load_training_state(start)
        step, samples_seen, best_val_mae = state["step"], state["samples_seen"], state["best_val_mae"]
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        if len(state["rng"]) == world.world_size:
            set_rng_state(state["rng"][world.rank])
    loader = make_dataloader(
        config,
        world,
        train_set,
        ResumableSampler(train_set, world.world_size, world.rank, training.seed, samples_seen),
    )

    logger = distributed.run_on_all_ranks(
        world, lambda: MetricsLogger(output_dir, config, step, start, enabled=world.is_main)
    )
    logger.say(
        f"training on {device.type} world_size={world.world_size} step={step}/{training.steps} "
        f"train_episodes={len(train_set.episodes)} train_frames={len(train_set)} "
        f"held_out_episodes={len(held_out_set.episodes)} held_out_frames={len(held_out_set)} "
        f"parameters={sum(parameter.numel() for parameter in parameters)}"
    )
    if start and len(state["rng"]) != world.world_size:
        logger.say(
            f"resumed with {world.world_size} ranks instead of {len(state['rng'])}: random states start over"
        )

    def validate_and_log() -> float:
        values = validate(config, world, policy, held_out_set, dataset.action_names)
        logger.log("val", step, values)
        return values["val_mae"]

    def save(best: bool) -> None:
        rng = distributed.gather(world, rng_state())
        if world.is_main:
            state = {
                "step": step,
                "samples_seen": samples_seen,
                "best_val_mae": best_val_mae,
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "rng": rng,
            }
            save_checkpoint(
                output_dir, step, policy, config, dataset_info, state, best, training.keep_checkpoints
            )

    if step == 0:
        validate_and_log()
    batches = iter(loader)
    running, data_s, log_started = RunningMeans(), 0.0, time.perf_counter()
    save_s = math.inf if training.save_minutes is None else 60 * training.save_minutes
    saved_at, time_to_save = time.monotonic(), False
    policy.train()
    while step < training.steps:
        for micro_step in range(training.gradient_accumulation_steps):
            data_started = time.perf_counter()
            batch = next(batches)
            data_s += time.perf_counter() - data_started
            last_micro_step = micro_step == training.gradient_accumulation_steps - 1
            # Only the last micro-batch needs the gradients of the other ranks.
            sync_context = (
                contextlib.nullcontext()
                if last_micro_step or world.world_size == 1
                else loss_module.no_sync()
            )
            with sync_context:
                with autocast:
                    losses = loss_module(to_device(batch, device))
                (losses["loss"] / training.gradient_accumulation_steps).backward()
            running.add(losses, training.gradient_accumulation_steps)
        grad_norm = torch.nn.utils.clip_grad_norm_(parameters, training.grad_clip_norm)
        running.add({"grad_norm": grad_norm})
        lr = schedule.get_last_lr()[0]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        step += 1
        samples_seen += samples_per_step
        running.steps += 1
        logger.advance()

        finished = step == training.steps
        if step % config.logging.log_every == 0 or finished:
            values = running.means(world)
            elapsed = time.perf_counter() - log_started
            logger.log(
                "train",
                step,
                {"epoch": samples_seen / len(train_set)}
                | values
                | {
                    "lr": lr,
                    "samples_per_s": samples_per_step * running.steps / elapsed,
                    "data_s": data_s / running.steps,
                    "step_s": elapsed / running.steps,
                },
            )
            if not all(math.isfinite(value) for value in values.values()):
                distributed.abort_all_ranks(world, diverged(step, values))
            running, data_s, log_started = RunningMeans(), 0.0, time.perf_counter()
            # Clocks differ; rank 0's decides for all.
            time_to_save = world.is_main and time.monotonic() - saved_at >= save_s
            time_to_save = bool(
                distributed.sum_over_ranks(world, torch.tensor(float(time_to_save), device=device))
            )
        improved = False
        if step % training.val_every == 0 or finished:
            val_mae = validate_and_log()
            improved = val_mae < best_val_mae
            best_val_mae = min(val_mae, best_val_mae)
        if improved or time_to_save or step % training.save_every == 0 or finished:
            save(best=improved)
            saved_at, time_to_save = time.monotonic(), False
    logger.close()


def diverged(step: int, values: dict[str, float]) -> str:
    shown = ", ".join(f"{name}={value:g}" for name, value in values.items())
    return (
        f"training diverged before step {step} ({shown}); lower training.lr or look for outliers in the data"
    )


if __name__ == "__main__":
    run_cli(main)
