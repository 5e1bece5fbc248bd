"""WorkflowParameters: what becomes of the variables of submit.sh."""

from __future__ import annotations

from pathlib import Path

import pytest

from ur10e_act.errors import UserError
from ur10e_act.osmo.parameters import ROOT, WorkflowParameters
from ur10e_act.osmo.workflow_spec import default_values, load

AZURE = {
    "AZURE_STORAGE_ACCOUNT_NAME": "account",
    "AZURE_STORAGE_ACCOUNT_KEY": "key",
    "TRAIN_IMAGE": "r.io/train:1",
    "EVAL_IMAGE": "r.io/eval:1",
}


def parameters(workflow: str, data_url: str = "", **variables: str) -> WorkflowParameters:
    """With an Azure account, SOURCE and DATASET, unless ``variables`` has them empty."""
    given = {**AZURE, "SOURCE": "c/p", "DATASET": "c/d", "WORKFLOW": workflow, **variables}
    return WorkflowParameters.from_environment(given, data_url)


def texts(given: WorkflowParameters) -> dict[str, str]:
    return dict(pair.split("=", 1) for pairs in given.template_parameters() for pair in pairs)


@pytest.mark.parametrize("workflow", ["train", "ddp", "train-eval", "convert"])
def test_defaults_make_a_whole_workflow(workflow: str) -> None:
    given = parameters(workflow)
    _, checked = load(given.file, *given.template_parameters())
    assert checked.name == f"ur10e-act-{workflow}"
    unset = set(default_values(given.file.read_text())) - set(texts(given))
    # The nodes of a data task, and the exit statuses to retry, are the file's own business.
    assert unset <= {"retry_codes"}


def test_an_empty_variable_counts_as_not_set() -> None:
    empty = dict.fromkeys(("GPUS", "NODE_MEMORY", "NAME", "CONFIG", "OVERRIDES", "STEPS", "DATA_TASK"), "")
    assert parameters("ddp", **empty) == parameters("ddp")


def test_variables_become_template_parameters() -> None:
    given = parameters(
        "train-eval",
        GPUS="8", GPUS_PER_NODE="4", NODE_CPUS="16", NODE_MEMORY="1Ti", NODE_DISK="2Ti", DATA_TASK="1",
        PLATFORM="h100", DATA_PLATFORM="cpu", EXEC_TIMEOUT="2d", EVAL_GPUS="0", EPISODES="0 1", NAME="mine",
        STORAGE_URL="azure://account/c/out/", RESUME_FROM="c/out/old-1/checkpoints", SAVE_MINUTES="0.5",
        CONFIG=f"{ROOT}/python/config.smoke.yaml", AZURE_STORAGE_BLOB_ENDPOINT="http://127.0.0.1:1/account",
    )  # fmt: skip
    assert texts(given) == {
        "cpus": "16", "save_minutes": "0.5", "data_task": "1", "gpus": "8", "gpus_per_node": "4",
        "eval_gpus": "0", "name": "mine", "image": "r.io/train:1", "eval_image": "r.io/eval:1",
        "memory": "1Ti", "storage": "2Ti", "platform": "h100", "data_platform": "cpu", "exec_timeout": "2d",
        "source": "c/p", "data_url": "", "azure_credential": "azure-storage", "wandb_credential": "",
        "blob_endpoint": "http://127.0.0.1:1/account", "output_url": "azure://account/c/out",
        "config": "python/config.smoke.yaml", "overrides": "", "episodes": "0 1",
        "resume_from": "c/out/old-1/checkpoints",
    }  # fmt: skip


def test_steps_and_wandb_are_overrides_that_given_ones_win_over() -> None:
    given = parameters("train", STEPS="50", WANDB="robots", OVERRIDES="training.lr=5e-5\n training.steps=60 ")
    assert given.overrides == (
        "logging.wandb=true logging.wandb_project=robots training.steps=50 training.lr=5e-5 training.steps=60"
    )
    assert texts(given)["wandb_credential"] == "wandb"


def test_the_conversion_takes_a_platform_without_gpus() -> None:
    given = texts(parameters("convert", PLATFORM="h100", DATA_PLATFORM="cpu", STRICT="1"))
    assert (given["platform"], given["strict"], given["recover"]) == ("cpu", "1", "")


def test_the_data_is_that_of_secrets_env_where_source_is_not_set() -> None:
    given = parameters("train", SOURCE="", AZURE_BLOB_CONTAINER="datasets", AZURE_BLOB_PREFIX="reach/2026")
    assert given.source == "datasets/reach/2026"


def test_without_an_azure_key_a_local_dataset_is_an_input(sample_root: Path) -> None:
    local = {"AZURE_STORAGE_ACCOUNT_KEY": "", "SOURCE": "", "LOCALPATH": str(sample_root)}
    given = parameters("train", data_url="s3://b/data", **local)
    assert (texts(given)["data_url"], texts(given)["source"]) == ("s3://b/data", "")
    assert texts(given)["azure_credential"] == ""
    with pytest.raises(UserError, match="RESUME_FROM needs AZURE_STORAGE_ACCOUNT_NAME"):
        parameters("train", data_url="s3://b/data", RESUME_FROM="c/p", **local)
    with pytest.raises(UserError, match="DATA_TASK=1 needs the data in Azure Blob"):
        parameters("train", data_url="s3://b/data", DATA_TASK="1", **local)


def test_with_an_azure_key_localpath_is_named_as_not_used(capsys: pytest.CaptureFixture[str]) -> None:
    given = parameters("train", data_url="s3://b/data", LOCALPATH="/mnt/ur10e")
    assert (given.source, given.data_url) == ("c/p", "")
    assert "LOCALPATH=/mnt/ur10e is not used" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("workflow", "variables", "message"),
    [
        ("", {}, "WORKFLOW is not set: train, ddp, train-eval or convert"),
        ("dpp", {}, "WORKFLOW=dpp: train, ddp, train-eval or convert"),
        ("ddp", {"GPUS": "0"}, "GPUS=0 is not a whole number from 1 on"),
        ("ddp", {"NODE_CPUS": "8.5"}, "NODE_CPUS=8.5 is not a whole number"),
        ("ddp", {"GPUS": "4", "GPUS_PER_NODE": "3"}, "GPUS_PER_NODE=3 does not divide GPUS=4"),
        ("train", {"GPUS": "2"}, "GPUS=2: one GPU only"),
        ("ddp", {"GPUS": "46"}, "46 tasks, but OSMO takes 20 by default: GPUS_PER_NODE=23 makes 2 nodes"),
        ("ddp", {"SAVE_MINUTES": "0.0"}, "SAVE_MINUTES=0.0 is not a number above 0"),
        ("ddp", {"SAVE_MINUTES": "1e3"}, "SAVE_MINUTES=1e3 is not a number above 0"),
        ("ddp", {"DATA_TASK": "yes"}, "DATA_TASK=yes: 1 or 0"),
        ("train-eval", {"EVAL_GPUS": "2"}, "EVAL_GPUS=2: 1 or 0"),
        ("ddp", {"NAME": "a" * 57}, "56 at most"),
        ("ddp", {"NAME": "ends-with-"}, "NAME=ends-with-: letters"),
        ("ddp", {"NODE_MEMORY": "64GB"}, "NODE_MEMORY=64GB: like 64Gi"),
        ("ddp", {"NODE_DISK": "big"}, "NODE_DISK=big: like 200Gi"),
        ("ddp", {"DATA_PLATFORM": "a b"}, "DATA_PLATFORM=a b is not the name of a platform"),
        ("ddp", {"STORAGE_URL": "outputs/x"}, "STORAGE_URL=outputs/x is not a URL like azure://"),
        ("ddp", {"STORAGE_URL": "azure://account/c/{{x}}"}, "no quotes, braces or blanks"),
        ("ddp", {"TRAIN_IMAGE": "train"}, "TRAIN_IMAGE=train is not an image like REGISTRY/"),
        ("train-eval", {"EVAL_IMAGE": "r.io/e v:1"}, "EVAL_IMAGE=r.io/e v:1 is not an image"),
        ("ddp", {"CONFIG": "python/none.yaml"}, "CONFIG=python/none.yaml: name a configuration in python/"),
        ("ddp", {"OVERRIDES": "training.speed=1"}, "training.speed"),
        ("ddp", {"STEPS": "many"}, "STEPS=many is not a whole number"),
        ("ddp", {"WANDB": "my project"}, "WANDB=my project is not the name of a project"),
        ("ddp", {"SOURCE": "c/"}, "SOURCE is not set: name CONTAINER/PREFIX"),
        ("ddp", {"SOURCE": str(ROOT)}, "is a folder of this machine"),
        ("ddp", {"RESUME_FROM": "1"}, "RESUME_FROM=1: name the checkpoints URL of an earlier run"),
        ("ddp", {"AZURE_STORAGE_ACCOUNT_KEY": ""}, "SOURCE=c/p needs AZURE_STORAGE_ACCOUNT_NAME"),
        ("ddp", {"AZURE_STORAGE_ACCOUNT_KEY": "", "SOURCE": ""}, "no data: set the Azure account"),
        ("convert", {"AZURE_STORAGE_ACCOUNT_KEY": ""}, "convert works in Azure Blob"),
        ("convert", {"DATASET": "c"}, "DATASET is not set"),
        ("convert", {"CONVERT_CONFIG": "/etc/hosts"}, "or put it among the recordings"),
        ("convert", {"STRICT": "yes"}, "STRICT=yes: 1 or nothing"),
    ],
)
def test_refused_before_osmo_is_asked(workflow: str, variables: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parameters(workflow, **variables)
    assert message in str(caught.value)
