"""What is set for a workflow, checked and turned into the parameters of its file in workflows/.

The variables are described in the usage of scripts/submit.sh.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ur10e_act.config import load_config
from ur10e_act.errors import UserError
from ur10e_act.osmo.cli import say
from ur10e_act.osmo.workflow_spec import MAX_TASKS

ROOT = Path(__file__).resolve().parents[3]
DEFAULT_GPUS = {"train": 1, "ddp": 2, "train-eval": 1, "convert": 1}  # by workflow
IMAGE = r"[a-z0-9.-]+(:[0-9]+)?/[^\s\"\\{}]+(:[A-Za-z0-9_.-]+|@sha256:[0-9a-f]{64})"
URL = r"azure://[a-z0-9]+/[a-z0-9-]+(/.+)?|(s3|gs|tos|swift)://[^/]+(/.+)?"
AMOUNT = r"[0-9]+[KMGT]i"


class Variables:
    """Environment variables; an empty one counts as not set. UserError for a value that does not fit."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment

    def text(self, name: str, default: str = "") -> str:
        return self.environment.get(name) or default

    def matching(self, name: str, default: str, pattern: str, problem: str) -> str:
        """``default`` alone need not match ``pattern``; ``problem`` follows NAME=VALUE in the message."""
        value = self.text(name)
        if value and not re.fullmatch(pattern, value):
            raise UserError(f"{name}={value}{problem}")
        return value or default

    def count(self, name: str, default: int) -> int:
        return int(self.matching(name, str(default), "[1-9][0-9]*", " is not a whole number from 1 on"))

    def zero_or_one(self, name: str, default: int) -> int:
        return int(self.matching(name, str(default), "[01]", ": 1 or 0"))


@dataclass(frozen=True)
class WorkflowParameters:
    """One submission. Empty texts are parameters that are not set."""

    workflow: str  # train, ddp, train-eval or convert
    name: str
    train_image: str
    eval_image: str
    # The nodes.
    gpus: int  # in all
    gpus_per_node: int
    cpus: int
    memory: str
    disk: str
    platform: str
    data_platform: str
    exec_timeout: str
    # Where data comes from and results go to.
    azure: bool  # the account and its key are configured: the data is at source, else at data_url
    source: str  # CONTAINER/PREFIX or azure://ACCOUNT/CONTAINER/PREFIX
    data_url: str  # a dataset that comes in as an input of OSMO
    data_task: int  # 1: a task without GPUs fetches the data
    storage_url: str
    blob_endpoint: str
    # The training and the evaluation.
    config: str
    overrides: str
    save_minutes: str
    resume_from: str
    wandb: str  # project
    eval_gpus: int
    episodes: str
    # The conversion.
    dataset: str
    convert_config: str
    strict: str
    recover: str

    @property
    def file(self) -> Path:
        return ROOT / "workflows" / f"osmo-workflow-{self.workflow}.yaml"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], data_url: str) -> WorkflowParameters:
        """The variables, checked, also the configuration and the dataset that they name: a mistake would
        otherwise be found out on a GPU. ``data_url`` is where OSMO will find LOCALPATH.
        """
        given = Variables(environment)
        workflow = given.text("WORKFLOW")
        if workflow not in DEFAULT_GPUS:
            what = f"WORKFLOW={workflow}" if workflow else "WORKFLOW is not set"
            raise UserError(f"{what}: train, ddp, train-eval or convert")
        converts = workflow == "convert"
        gpus, gpus_per_node = given.count("GPUS", DEFAULT_GPUS[workflow]), given.count("GPUS_PER_NODE", 1)
        save_minutes = given.matching("SAVE_MINUTES", "10", r"[0-9]+(\.[0-9]+)?", " is not a number above 0")
        if float(save_minutes) == 0:
            raise UserError(f"SAVE_MINUTES={save_minutes} is not a number above 0")
        data_task = given.zero_or_one("DATA_TASK", 0)
        _check_nodes(workflow, gpus, gpus_per_node, data_task)
        name = given.matching(
            "NAME", f"ur10e-act-{workflow}", r"(?=.{1,56}\Z)[a-zA-Z]([a-zA-Z0-9_-]*[a-zA-Z0-9])?",
            ": letters, digits, - and _, a letter first, 56 at most",
        )  # fmt: skip
        no_platform = " is not the name of a platform"
        storage_url = given.text("STORAGE_URL").rstrip("/")
        if storage_url and not re.fullmatch(URL, storage_url):
            raise UserError(f"STORAGE_URL={storage_url} is not a URL like azure://ACCOUNT/CONTAINER/PREFIX")
        if re.search(r'["\\{} ]', storage_url):
            raise UserError(f"STORAGE_URL={storage_url}: no quotes, braces or blanks")
        wandb = given.matching("WANDB", "", "[A-Za-z0-9_.-]+", " is not the name of a project")
        config, overrides = ("", "") if converts else _configuration(given, save_minutes, wandb)
        dataset, convert_config, strict, recover = _conversion(given) if converts else ("", "", "", "")
        azure = bool(given.text("AZURE_STORAGE_ACCOUNT_NAME") and given.text("AZURE_STORAGE_ACCOUNT_KEY"))
        source = _source(given) if azure else ""
        if not azure:
            _check_local_data(given, converts, data_task)
        resume_from = given.matching(
            "RESUME_FROM", "", ".*/.*", ": name the checkpoints URL of an earlier run"
        )
        if resume_from and not azure:
            raise UserError(
                "RESUME_FROM needs AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (secrets.env)"
            )
        no_image = " is not an image like REGISTRY/ur10e-act-train:TAG"
        return cls(
            workflow=workflow,
            name=name,
            train_image=given.matching("TRAIN_IMAGE", "", IMAGE, no_image),
            eval_image=given.matching("EVAL_IMAGE", "", IMAGE, no_image) if workflow == "train-eval" else "",
            gpus=gpus,
            gpus_per_node=gpus_per_node,
            cpus=given.count("NODE_CPUS", 8),
            memory=given.matching("NODE_MEMORY", "64Gi", AMOUNT, ": like 64Gi"),
            disk=given.matching("NODE_DISK", "200Gi", AMOUNT, ": like 200Gi"),
            platform=given.matching("PLATFORM", "", "[A-Za-z0-9_.-]*", no_platform),
            data_platform=given.matching("DATA_PLATFORM", "", "[A-Za-z0-9_.-]*", no_platform),
            exec_timeout=given.matching(
                "EXEC_TIMEOUT", "24h", "[0-9]+[dhms]", ": one number and unit, like 24h"
            ),
            azure=azure,
            source=source,
            data_url="" if azure else data_url,
            data_task=data_task,
            storage_url=storage_url,
            blob_endpoint=given.text("AZURE_STORAGE_BLOB_ENDPOINT"),
            config=config,
            overrides=overrides,
            save_minutes=save_minutes,
            resume_from=resume_from,
            wandb=wandb,
            eval_gpus=given.zero_or_one("EVAL_GPUS", 1),
            episodes=given.text("EPISODES"),
            dataset=dataset,
            convert_config=convert_config,
            strict=strict,
            recover=recover,
        )

    def template_parameters(self) -> tuple[list[str], list[str]]:
        """The parameters of ``file`` as NAME=VALUE: numbers for ``--set``, texts for ``--set-string``."""
        numbers: dict[str, object] = {"cpus": self.cpus}
        texts = {
            "name": self.name,
            "image": self.train_image,
            "memory": self.memory,
            "storage": self.disk,
            "platform": self.platform,
            "exec_timeout": self.exec_timeout,
            "source": self.source,
            "blob_endpoint": self.blob_endpoint,
            "azure_credential": "azure-storage" if self.azure else "",
        }
        if self.workflow == "convert":
            texts |= {
                "platform": self.data_platform or self.platform,
                "dataset": self.dataset,
                "convert_config": self.convert_config,
                "strict": self.strict,
                "recover": self.recover,
            }
        else:
            numbers |= {"save_minutes": self.save_minutes, "data_task": self.data_task}
            texts |= {
                "data_platform": self.data_platform,
                "data_url": self.data_url,
                "config": self.config,
                "overrides": self.overrides,
                "resume_from": self.resume_from,
                "output_url": self.storage_url,
                "wandb_credential": "wandb" if self.wandb else "",
            }
        if self.workflow in ("ddp", "train-eval"):
            numbers |= {"gpus": self.gpus, "gpus_per_node": self.gpus_per_node}
        if self.workflow == "train-eval":
            numbers |= {"eval_gpus": self.eval_gpus}
            texts |= {"eval_image": self.eval_image, "episodes": self.episodes}
        return [f"{name}={value}" for name, value in numbers.items()], [
            f"{name}={value}" for name, value in texts.items()
        ]


def _check_nodes(workflow: str, gpus: int, gpus_per_node: int, data_task: int) -> None:
    if workflow in ("train", "convert") and gpus != 1:
        raise UserError(f"GPUS={gpus}: one GPU only; take submit-ddp or submit-train-eval for more")
    if gpus % gpus_per_node:
        raise UserError(f"GPUS_PER_NODE={gpus_per_node} does not divide GPUS={gpus}")
    others = data_task + (workflow == "train-eval")
    tasks = gpus // gpus_per_node + others
    if tasks > MAX_TASKS:
        fitting = next(
            number
            for number in range(gpus_per_node + 1, gpus + 1)
            if gpus % number == 0 and gpus // number + others <= MAX_TASKS
        )
        raise UserError(
            f"{tasks} tasks, but OSMO takes {MAX_TASKS} by default: "
            f"GPUS_PER_NODE={fitting} makes {gpus // fitting} nodes"
        )


def _file_in_python(name: str, problem: str) -> str:
    """The path from the repository's root of a YAML file that images have too."""
    name = name.removeprefix(f"{ROOT}/")
    if name and not (re.fullmatch(r"python/.*\.yaml", name) and (ROOT / name).is_file()):
        raise UserError(problem.format(name))
    return name


def _configuration(given: Variables, save_minutes: str, wandb: str) -> tuple[str, str]:
    """CONFIG, and OVERRIDES with what STEPS and WANDB stand for."""
    config = _file_in_python(
        given.text("CONFIG", "python/config.yaml"),
        "CONFIG={}: name a configuration in python/, which is what the image has",
    )
    overrides = given.text("OVERRIDES").split()
    if given.text("STEPS"):
        overrides.insert(0, f"training.steps={given.count('STEPS', 1)}")
    if wandb:
        overrides[:0] = ["logging.wandb=true", f"logging.wandb_project={wandb}"]
    load_config(ROOT / config, [f"training.save_minutes={save_minutes}", *overrides])
    return config, " ".join(overrides)


def _conversion(given: Variables) -> tuple[str, str, str, str]:
    """DATASET, CONVERT_CONFIG, STRICT and RECOVER."""
    dataset = given.text("DATASET")
    if not re.fullmatch(".*/.+", dataset):
        raise UserError("DATASET is not set: name CONTAINER/PREFIX for the dataset")
    convert_config = _file_in_python(
        given.text("CONVERT_CONFIG"),
        "CONVERT_CONFIG={}: name a file in python/, which is what the image has, "
        "or put it among the recordings",
    )
    strict, recover = (given.matching(name, "", "1", ": 1 or nothing") for name in ("STRICT", "RECOVER"))
    return dataset, convert_config, strict, recover


def _source(given: Variables) -> str:
    if localpath := given.text("LOCALPATH"):
        say(f"LOCALPATH={localpath} is not used: the Azure account and its key are set")
    container = given.text("AZURE_BLOB_CONTAINER")
    source = given.text("SOURCE", container and f"{container}/{given.text('AZURE_BLOB_PREFIX')}")
    if not re.fullmatch(".*/.+", source):
        raise UserError(
            "SOURCE is not set: name CONTAINER/PREFIX of the data, or AZURE_BLOB_CONTAINER and _PREFIX"
        )
    if Path(source).is_dir():
        raise UserError(f"SOURCE={source} is a folder of this machine: name CONTAINER/PREFIX in blob storage")
    return source


def _check_local_data(given: Variables, converts: bool, data_task: int) -> None:
    """What the workflow needs where no Azure key is configured: a whole dataset at LOCALPATH."""
    if converts:
        raise UserError("convert works in Azure Blob: set the account and its key (secrets.env)")
    if source := given.text("SOURCE"):
        raise UserError(
            f"SOURCE={source} needs AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (secrets.env)"
        )
    localpath = given.text("LOCALPATH")
    if not localpath:
        raise UserError("no data: set the Azure account and key (secrets.env), or LOCALPATH=DIR")
    if not Path(localpath).is_dir():
        raise UserError(f"LOCALPATH={localpath} is not a directory: name a LeRobot v3.0 dataset")
    # The dataset's code is not a part of this package's way to OSMO; it says itself what is wrong.
    check = [sys.executable, "-m", "ur10e_act.dataset.lerobot_dataset", localpath]
    done = subprocess.run(check, stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)
    if data_task:
        raise UserError("DATA_TASK=1 needs the data in Azure Blob, not in LOCALPATH")
