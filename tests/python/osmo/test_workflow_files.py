"""Each file in workflows/ can be read alone, so they repeat one another; what they repeat stays the same."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from ur10e_act.osmo.workflow_spec import default_values, render

WORKFLOWS = Path(__file__).parents[3] / "workflows"
DATA: list[dict[str, object]] = [
    {"source": "c/p", "data_task": 0},
    {"source": "c/p", "data_task": 1},
    {"data_url": "s3://b/p", "azure_credential": ""},
]
REST: list[dict[str, object]] = [
    {},
    {
        "output_url": "azure://a/c/p",
        "resume_from": "azure://a/c/old-1/checkpoints",
        "platform": "h100",
        "data_platform": "cpu",
        "wandb_credential": "wandb",
        "overrides": "training.lr=1e-4",
        "blob_endpoint": "http://127.0.0.1:1/a",
    },
]
settings = pytest.mark.parametrize(
    "values",
    [{"name": "n", "image": "r.io/train:1", **data, **rest} for data, rest in itertools.product(DATA, REST)],
)


def text_of(name: str) -> str:
    return (WORKFLOWS / f"osmo-workflow-{name}.yaml").read_text()


def rendered(name: str, values: dict[str, object]) -> dict[str, Any]:
    return yaml.safe_load(render(text_of(name), values))["workflow"]


@settings
@pytest.mark.parametrize(("gpus", "gpus_per_node"), [(1, 1), (4, 4), (8, 2)])
def test_train_eval_trains_as_ddp_does(values: dict[str, object], gpus: int, gpus_per_node: int) -> None:
    values = {**values, "gpus": gpus, "gpus_per_node": gpus_per_node}
    ddp, train_eval = rendered("ddp", values), rendered("train-eval", {**values, "eval_image": "r.io/eval:1"})
    assert train_eval["groups"].pop()["name"] == "evaluation"
    assert train_eval["resources"].pop("eval")
    assert train_eval == ddp


@settings
def test_train_trains_as_ddp_on_one_gpu_does(values: dict[str, object]) -> None:
    train = rendered("train", values)
    ddp = rendered("ddp", {**values, "gpus": 1, "gpus_per_node": 1})
    # One task stands in a group of its own without being in a list of groups.
    tasks = [task for group in ddp.pop("groups") for task in group["tasks"]]
    for task in tasks:
        assert task.pop("lead") is True
    assert tasks[-1].pop("name") == "train-0"
    assert tasks[-1]["environment"].pop("GPUS") == "1"
    assert train["tasks"][-1].pop("name") == "train"
    assert train.pop("tasks") == tasks
    assert train == ddp


@pytest.mark.parametrize("values", REST)
def test_evaluation_and_conversion_reach_blob_and_are_retried_as_training_is(
    values: dict[str, object],
) -> None:
    values = {"image": "r.io/train:1", "source": "c/p", **values}
    train_eval = rendered("train-eval", {**values, "eval_image": "r.io/eval:1"})
    conversion = {key: value for key, value in values.items() if key in default_values(text_of("convert"))}
    (convert,) = rendered("convert", {**conversion, "dataset": "c/d"})["tasks"]
    (train,), (evaluation,) = (group["tasks"] for group in train_eval["groups"])
    for task in (evaluation, convert):
        assert task["exitActions"] == train["exitActions"]
        assert task["credentials"]["azure-storage"] == train["credentials"]["azure-storage"]
        for name in ("SOURCE", "SCRATCH", "AZURE_STORAGE_BLOB_ENDPOINT"):
            assert task["environment"][name] == train["environment"][name]


def test_parameters_of_one_name_have_one_default() -> None:
    defaults = {name: default_values(text_of(name)) for name in ("train", "ddp", "train-eval", "convert")}
    # A name says which workflow it is; ddp begins at two GPUs; a conversion needs less memory and more disk.
    own = {"name", "gpus"}
    for (first, some), (second, others) in itertools.combinations(defaults.items(), 2):
        different = {key for key in some.keys() & others.keys() if some[key] != others[key]} - own
        assert different <= ({"memory", "storage"} if "convert" in (first, second) else set())
