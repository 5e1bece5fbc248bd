"""What rank 0 tells of a run: a progress bar or lines, metrics.jsonl, TensorBoard, W&B."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ur10e_act.atomic_io import write_file
from ur10e_act.config import Config, to_dict
from ur10e_act.errors import TryAgain, UserError
from ur10e_act.policy.metrics_file import METRICS_FILE, read_metrics


def check_logging(config: Config) -> None:
    """Raise UserError when W&B is configured but not installed."""
    if config.logging.wandb and importlib.util.find_spec("wandb") is None:
        raise UserError(
            "logging.wandb: the package is not installed; run 'pip install wandb' or set it to false"
        )


def _start_wandb(output_dir: Path, config: Config) -> Any:
    import wandb

    try:
        return wandb.init(
            project=config.logging.wandb_project, dir=output_dir, config=to_dict(config), resume="allow"
        )
    except wandb.Error as error:
        said = str(error).rstrip(".")
        refused = isinstance(error, wandb.errors.AuthenticationError)
        if refused or not isinstance(error, wandb.errors.CommError):
            raise UserError(f"logging.wandb: {said}; set WANDB_API_KEY, or WANDB_MODE=offline") from None
        raise TryAgain(f"logging.wandb: {said}; run it again, or set WANDB_MODE=offline") from None


class MetricsLogger:
    """Writes the records of one run; made with ``enabled=False`` (on all ranks but 0) it writes nothing."""

    def __init__(
        self, output_dir: Path, config: Config, start_step: int, start: Path | None, enabled: bool
    ) -> None:
        """``start_step``: where training continues; later records, of a run that died, are dropped.

        ``start``: the checkpoint that it resumes from; has the records where ``output_dir`` is new.
        Raises UserError where ``output_dir`` cannot be written to or W&B refuses, TryAgain where it
        cannot be reached.
        """
        self.enabled = enabled
        if not enabled:
            return
        self._total_steps = config.training.steps
        self._interactive = sys.stderr.isatty()
        self._bar = tqdm(
            total=self._total_steps,
            initial=start_step,
            unit="step",
            disable=not self._interactive,
            dynamic_ncols=True,
        )
        self._tensorboard: Any = None
        self._wandb: Any = None
        try:
            self._open(output_dir, config, start_step, start)
        except OSError as error:
            raise UserError(f"{output_dir}: cannot be written to ({error.strerror or error})") from None

    def _open(self, output_dir: Path, config: Config, start_step: int, start: Path | None) -> None:
        output_dir.mkdir(parents=True, exist_ok=True)
        path = output_dir / METRICS_FILE
        sources = [path, start / "training_state" / METRICS_FILE] if start else []
        source = next((source for source in sources if source.exists()), None)
        kept = [record for record in read_metrics(source) if record["step"] <= start_step] if source else []
        write_file(path, "".join(json.dumps(record) + "\n" for record in kept).encode())
        self._file = path.open("a", encoding="utf-8", buffering=1)
        if config.logging.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            # purge_step hides what a run that died had written beyond the checkpoint.
            self._tensorboard = SummaryWriter(
                output_dir / "tensorboard", purge_step=start_step + 1 if start_step else None
            )
        if config.logging.wandb:
            self._wandb = _start_wandb(output_dir, config)

    def advance(self) -> None:
        """Count one step on the bar."""
        if self.enabled:
            self._bar.update()

    def say(self, text: str) -> None:
        """Print one line, past the bar."""
        if self.enabled:
            self._bar.write(text, file=sys.stdout)
            sys.stdout.flush()

    def log(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Write one record; ``values`` are numbers or dicts of numbers (one a joint). UserError when the disk
        refuses."""
        if not self.enabled:
            return
        try:
            self._file.write(json.dumps({"type": kind, "step": step, **values}) + "\n")
        except OSError as error:
            raise UserError(f"{self._file.name}: cannot be written to ({error.strerror or error})") from None
        scalars: dict[str, Any] = {}
        for name, value in values.items():
            nested = value if isinstance(value, dict) else {"": value}
            scalars |= {f"{kind}/{name}{'/' * bool(key)}{key}": number for key, number in nested.items()}
        if self._tensorboard is not None:
            for name, number in scalars.items():
                self._tensorboard.add_scalar(name, number, step)
        if self._wandb is not None:
            self._wandb.log(scalars, step=step)
        shown = {name: value for name, value in values.items() if not isinstance(value, dict)}
        if self._interactive and kind == "train":
            self._bar.set_postfix(
                {name: f"{shown[name]:.4g}" for name in ("loss", "l1_loss", "lr")}, refresh=False
            )
        else:
            fields = " ".join(f"{name}={value:.6g}" for name, value in shown.items())
            self.say(f"{kind} step={step}/{self._total_steps} {fields}")

    def close(self) -> None:
        """Flush and close everything."""
        if not self.enabled:
            return
        self._bar.close()
        self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()
