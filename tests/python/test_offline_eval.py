"""offline_eval on the sample dataset: its figures against independent ones, its files, its refusals."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoint import CHUNK_SIZE, HELD_OUT_EPISODES, IMAGE_SIZE, TRAIN_EPISODES, write_tiny_checkpoint

import offline_eval
from ur10e_act.dataset.lerobot_dataset import ChunkDataset, open_dataset
from ur10e_act.errors import UserError
from ur10e_act.evaluation.output import STAGING_PREFIX
from ur10e_act.evaluation.summary import read_summary, to_json
from ur10e_act.policy.act import chunk_errors
from ur10e_act.policy.checkpoint import fingerprint
from ur10e_act.policy.runner import STATE, PolicyRunner

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3", "gripper")
FAST = ["--device", "cpu", "--num-steps", "4"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, sample_root) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("eval") / "train", sample_root)


@pytest.fixture(scope="module")
def dataset(sample_root):
    return open_dataset([sample_root], image_size=IMAGE_SIZE)


@pytest.fixture(scope="module")
def runner(trained) -> PolicyRunner:
    return PolicyRunner.from_pretrained(trained, "cpu", n_action_steps=1)


def evaluate(trained: Path, root: Path, output: Path, *more: str) -> dict:
    arguments = ["--checkpoint", str(trained), "--dataset", str(root), "--output", str(output), *more]
    assert offline_eval.run(arguments) == 0
    return json.loads((output / "summary.json").read_text())


@pytest.fixture(scope="module")
def held_out(tmp_path_factory, trained, sample_root) -> tuple[Path, dict]:
    """Output and summary of the default: the held-out episodes, batched, to their ends."""
    output = tmp_path_factory.mktemp("held_out") / "eval"
    return output, evaluate(trained, sample_root, output, "--device", "cpu")


def test_summary_says_what_was_judged(held_out, trained, dataset, sample_root):
    summary = held_out[1]
    assert summary["episodes"] == list(HELD_OUT_EPISODES)
    assert summary["held_out"] is True
    assert summary["dataset"]["trained_on"] is True
    assert summary["dataset"]["fingerprint"] == dataset.fingerprint
    assert summary["dataset"]["roots"] == [str(sample_root.resolve())]
    pretrained = trained / "checkpoints" / "000100" / "pretrained_model"
    assert summary["checkpoint"]["path"] == str(pretrained.resolve())
    assert summary["checkpoint"]["fingerprint"] == fingerprint(pretrained)
    assert summary["checkpoint"]["step"] == 100
    assert summary["joints"] == list(JOINTS)
    assert summary["num_frames"] == sum(dataset.episodes[e].length for e in HELD_OUT_EPISODES)
    assert summary["units"] == "dataset units"
    assert summary["mode"] == "batched"
    assert summary["blackout_images"] is False
    # From the eval section of the checkpoint's train_config.yaml.
    assert len(summary["latency_ms"]["samples"]) == 3
    assert summary["settings"]["batch_size"] == 16


def test_summary_is_read_back_as_written(held_out):
    output = held_out[0]
    assert to_json(read_summary(output)) == (output / "summary.json").read_text()


def test_rows_hold_what_was_recorded_and_predicted(held_out, dataset, runner):
    output = held_out[0]
    for episode in HELD_OUT_EPISODES:
        table = pq.read_table(output / f"episode_{episode:03d}.parquet")
        length = dataset.episodes[episode].length
        names = ["step", "frame_index", "timestamp", "episode_index", "inference_time_s"]
        for joint in JOINTS:
            names += [
                f"{what}_{joint}" for what in ("joint_position", "predicted_action", "gt_action", "abs_error")
            ]
        assert table.column_names == names
        rows = {name: table.column(name).to_numpy() for name in names}
        np.testing.assert_array_equal(rows["step"], np.arange(length))
        np.testing.assert_array_equal(rows["frame_index"], np.arange(length))
        np.testing.assert_array_equal(rows["timestamp"], dataset.read_timestamps(episode))
        assert set(rows["episode_index"]) == {episode}
        assert (rows["inference_time_s"] > 0).all()
        states, actions = dataset.read_states(episode), dataset.read_actions(episode)
        batch = {camera: dataset.frames.read(camera, episode, range(length)) for camera in dataset.cameras}
        first = runner.predict_chunks({STATE: states, **batch})[:, 0]
        for j, joint in enumerate(JOINTS):
            np.testing.assert_array_equal(rows[f"joint_position_{joint}"], states[:, j])
            np.testing.assert_array_equal(rows[f"gt_action_{joint}"], actions[:, j])
            np.testing.assert_allclose(rows[f"predicted_action_{joint}"], first[:, j], atol=1e-5)
            np.testing.assert_array_equal(
                rows[f"abs_error_{joint}"],
                np.abs(rows[f"predicted_action_{joint}"] - rows[f"gt_action_{joint}"]),
            )


def test_all_episodes_are_the_episodes_in_order(held_out):
    output = held_out[0]
    parts = [pq.read_table(output / f"episode_{episode:03d}.parquet") for episode in HELD_OUT_EPISODES]
    together = pq.read_table(output / "all_episodes.parquet")
    assert together.num_rows == sum(part.num_rows for part in parts)
    start = 0
    for part in parts:
        assert together.slice(start, part.num_rows).equals(part)
        start += part.num_rows


def test_mae_is_that_of_the_rows(held_out):
    output, summary = held_out
    table = pq.read_table(output / "all_episodes.parquet")
    errors = np.stack([table.column(f"abs_error_{joint}").to_numpy() for joint in JOINTS], axis=1)
    assert summary["mae"]["overall"] == pytest.approx(errors.mean(dtype=np.float64), rel=1e-6)
    for j, joint in enumerate(JOINTS):
        assert summary["mae"]["per_joint"][joint] == pytest.approx(
            errors[:, j].mean(dtype=np.float64), rel=1e-6
        )
    for entry in summary["per_episode"]:
        own = errors[table.column("episode_index").to_numpy() == entry["episode"]]
        assert entry["frames"] == len(own)
        assert entry["mae"] == pytest.approx(own.mean(dtype=np.float64), rel=1e-6)


def test_chunk_mae_is_what_training_validates_with(held_out, dataset, runner):
    """ChunkDataset and policy.chunk_errors are another path from the same data to the same figure."""
    summary = held_out[1]
    samples = ChunkDataset(dataset, HELD_OUT_EPISODES, CHUNK_SIZE)
    batch = torch.utils.data.default_collate([samples[i] for i in range(len(samples))])
    total, steps, _ = chunk_errors(runner.policy, batch)
    assert summary["chunk_mae"]["valid_steps"] == int(steps)
    assert summary["chunk_mae"]["overall"] == pytest.approx(
        float(total.sum() / steps / len(JOINTS)), rel=1e-5
    )
    for joint, value in zip(JOINTS, (total / steps).tolist(), strict=True):
        assert summary["chunk_mae"]["per_joint"][joint] == pytest.approx(value, rel=1e-5)


def test_errors_by_offset_leave_out_padding(held_out, dataset, runner):
    """Frame by frame, without arrays of offsets: the k-th action of a chunk against the frame k-1 later."""
    by_offset = held_out[1]["chunk_mae"]["by_offset"]
    mean = np.concatenate([dataset.read_actions(e) for e in TRAIN_EPISODES]).mean(axis=0, dtype=np.float64)
    errors = {name: [[] for _ in range(CHUNK_SIZE)] for name in ("policy", "hold_position", "mean_action")}
    for episode in HELD_OUT_EPISODES:
        states, actions = dataset.read_states(episode), dataset.read_actions(episode)
        images = {
            camera: dataset.frames.read(camera, episode, range(len(states))) for camera in dataset.cameras
        }
        chunks = runner.predict_chunks({STATE: states, **images})
        for now in range(len(states)):
            for k in range(CHUNK_SIZE):
                if now + k < len(states):
                    true = actions[now + k]
                    errors["policy"][k].append(np.abs(chunks[now, k] - true).mean())
                    errors["hold_position"][k].append(np.abs(states[now] - true).mean())
                    errors["mean_action"][k].append(np.abs(mean - true).mean())
    assert by_offset["offset"] == list(range(1, CHUNK_SIZE + 1))
    assert by_offset["frames"] == [len(entries) for entries in errors["policy"]]
    for name, offsets in errors.items():
        np.testing.assert_allclose(by_offset[name], [np.mean(entries) for entries in offsets], rtol=1e-4)


def test_baselines_are_on_the_same_frames(held_out, dataset):
    summary = held_out[1]
    states = np.concatenate([dataset.read_states(e) for e in HELD_OUT_EPISODES])
    actions = np.concatenate([dataset.read_actions(e) for e in HELD_OUT_EPISODES])
    mean = np.concatenate([dataset.read_actions(e) for e in TRAIN_EPISODES]).mean(axis=0, dtype=np.float64)
    for name, guess in (("hold_position", states), ("mean_action", mean)):
        figures = summary["mae"]["baselines"][name]
        expected = np.abs(guess - actions).mean(axis=0, dtype=np.float64)
        assert figures["overall"] == pytest.approx(expected.mean(), rel=1e-5)
        np.testing.assert_allclose([figures["per_joint"][joint] for joint in JOINTS], expected, rtol=1e-5)
        by_offset = summary["chunk_mae"]["by_offset"][name]
        assert by_offset[0] == pytest.approx(figures["overall"], rel=1e-9)
        steps = np.array(summary["chunk_mae"]["by_offset"]["frames"])
        overall = (np.array(by_offset) * steps).sum() / steps.sum()
        assert summary["chunk_mae"]["baselines"][name]["overall"] == pytest.approx(overall, rel=1e-9)


def test_queue_mode_executes_whole_chunks(trained, sample_root, runner, dataset, tmp_path):
    more = [
        "--device",
        "cpu",
        "--mode",
        "queue",
        "--n-action-steps",
        "3",
        "--num-steps",
        "10",
        "--episodes",
        "1",
    ]
    summary = evaluate(trained, sample_root, tmp_path / "eval", *more)
    table = pq.read_table(tmp_path / "eval" / "episode_001.parquet")
    images = {camera: dataset.frames.read(camera, 1, range(10)) for camera in dataset.cameras}
    chunks = runner.predict_chunks({STATE: dataset.read_states(1)[:10], **images})
    for j, joint in enumerate(JOINTS):
        expected = [chunks[i - i % 3, i % 3, j] for i in range(10)]
        np.testing.assert_allclose(table.column(f"predicted_action_{joint}").to_numpy(), expected, atol=1e-5)
    assert summary["settings"]["n_action_steps"] == 3
    # A queued action costs no model call.
    seconds = table.column("inference_time_s").to_numpy()
    assert np.median(seconds[[1, 2, 4, 5, 7, 8]]) < np.median(seconds[[0, 3, 6, 9]]) / 3
    # Errors by offset still come from a chunk at every frame.
    assert summary["chunk_mae"]["by_offset"]["frames"] == [10] * CHUNK_SIZE


def test_queue_length_defaults_to_the_checkpoints(trained, sample_root, tmp_path):
    summary = evaluate(trained, sample_root, tmp_path / "eval", *FAST, "--mode", "queue", "--episodes", "1")
    assert summary["settings"]["n_action_steps"] == CHUNK_SIZE


def test_ensemble_mode_is_the_runners(trained, sample_root, dataset, tmp_path):
    more = [
        "--device",
        "cpu",
        "--mode",
        "ensemble",
        "--temporal-ensemble-coeff",
        "0.2",
        "--episodes",
        "1",
        "2",
    ]
    summary = evaluate(trained, sample_root, tmp_path / "eval", *more, "--num-steps", "12")
    ensemble = PolicyRunner.from_pretrained(trained, "cpu", temporal_ensemble_coeff=0.2)
    table = pq.read_table(tmp_path / "eval" / "episode_002.parquet")
    for i in range(12):
        observation = {camera: dataset.frames.read(camera, 2, [i])[0] for camera in dataset.cameras}
        action = ensemble.step({STATE: dataset.read_states(2)[i], **observation})
        for j, joint in enumerate(JOINTS):
            assert table.column(f"predicted_action_{joint}")[i].as_py() == pytest.approx(action[j], abs=1e-5)
    assert summary["settings"]["temporal_ensemble_coeff"] == 0.2


def test_start_frame_and_num_steps_apply_within_each_episode(trained, sample_root, dataset, tmp_path):
    more = ["--device", "cpu", "--episodes", "3", "1", "3", "--start-frame", "5", "--num-steps", "2"]
    summary = evaluate(trained, sample_root, tmp_path / "eval", *more)
    assert summary["episodes"] == [1, 3]
    assert summary["num_frames"] == 4
    table = pq.read_table(tmp_path / "eval" / "all_episodes.parquet")
    assert table.column("episode_index").to_pylist() == [1, 1, 3, 3]
    assert table.column("frame_index").to_pylist() == [5, 6, 5, 6]
    assert table.column("step").to_pylist() == [0, 1, 0, 1]
    np.testing.assert_array_equal(
        table.column("gt_action_elbow").to_numpy()[:2], dataset.read_actions(1)[5:7, 2]
    )
    # Chunks look past the evaluated part, as the recording continues there.
    assert summary["chunk_mae"]["by_offset"]["frames"] == [4] * CHUNK_SIZE
    # num-steps past the end stops at the end.
    last = dataset.episodes[1].length - 1
    more = ["--device", "cpu", "--episodes", "1", "--start-frame", str(last), "--num-steps", "9"]
    summary = evaluate(trained, sample_root, tmp_path / "eval", *more)
    assert summary["num_frames"] == 1
    assert summary["chunk_mae"]["by_offset"]["frames"] == [1] + [0] * (CHUNK_SIZE - 1)
    assert summary["chunk_mae"]["by_offset"]["policy"][1:] == [None] * (CHUNK_SIZE - 1)


def test_blackout_shows_black_images(trained, sample_root, runner, dataset, tmp_path):
    summary = evaluate(trained, sample_root, tmp_path / "eval", *FAST, "--episodes", "4", "--blackout-images")
    assert summary["blackout_images"] is True
    table = pq.read_table(tmp_path / "eval" / "episode_004.parquet")
    predicted = np.stack([table.column(f"predicted_action_{joint}").to_numpy() for joint in JOINTS], axis=1)
    states = dataset.read_states(4)[:4]
    black = {camera: np.zeros((4, *IMAGE_SIZE, 3), dtype=np.uint8) for camera in dataset.cameras}
    np.testing.assert_allclose(predicted, runner.predict_chunks({STATE: states, **black})[:, 0], atol=1e-5)
    seen = {camera: dataset.frames.read(camera, 4, range(4)) for camera in dataset.cameras}
    assert np.abs(predicted - runner.predict_chunks({STATE: states, **seen})[:, 0]).max() > 1e-3


def test_held_out_is_told_from_the_training_episodes(trained, sample_root, dataset, tmp_path):
    seen = evaluate(trained, sample_root, tmp_path / "a", *FAST, "--episodes", "0", "4")
    assert seen["held_out"] is False
    assert evaluate(trained, sample_root, tmp_path / "b", *FAST, "--episodes", "5")["held_out"] is True
    other = tmp_path / "other"
    shutil.copytree(sample_root, other)
    info = json.loads((other / "meta" / "info.json").read_text())
    info["robot_type"] = "ur10e, second cell"
    (other / "meta" / "info.json").write_text(json.dumps(info))
    summary = evaluate(trained, other, tmp_path / "c", *FAST)
    assert summary["held_out"] == "unknown"
    assert summary["dataset"]["trained_on"] is False
    assert summary["episodes"] == [episode.index for episode in dataset.episodes]


def test_rerun_replaces_the_earlier_result(trained, sample_root, tmp_path):
    output = tmp_path / "eval"
    evaluate(trained, sample_root, output, *FAST, "--episodes", "0", "1", "2")
    (output / "notes.txt").write_text("mine")
    (output / f"{STAGING_PREFIX}99999").mkdir()
    evaluate(trained, sample_root, output, *FAST, "--episodes", "1")
    found = sorted(path.name for path in output.iterdir())
    assert found == ["all_episodes.parquet", "episode_001.parquet", "notes.txt", "summary.json"]
    assert set(pq.read_table(output / "all_episodes.parquet").column("episode_index").to_pylist()) == {1}


def test_failed_run_leaves_the_earlier_result(trained, sample_root, tmp_path):
    output = tmp_path / "eval"
    evaluate(trained, sample_root, output, *FAST, "--episodes", "1")
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    diverged = tmp_path / "diverged"
    shutil.copytree(trained / "checkpoints" / "000100" / "pretrained_model", diverged)
    weights = load_file(diverged / "model.safetensors")
    weights["model.action_head.bias"].fill_(torch.nan)
    save_file(weights, diverged / "model.safetensors")
    with pytest.raises(UserError, match="not finite in episode 1; did training diverge"):
        evaluate(diverged, sample_root, output, *FAST, "--episodes", "1")
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


@pytest.mark.slow
def test_killed_run_leaves_the_earlier_result(trained, sample_root, tmp_path):
    output = tmp_path / "eval"
    evaluate(trained, sample_root, output, *FAST, "--episodes", "1")
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    command = [sys.executable, offline_eval.__file__, "--checkpoint", trained, "--dataset", sample_root]
    command += ["--output", output, "--device", "cpu", "--mode", "queue", "--episodes", "4", "5"]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        # One episode is done, and its file staged, when its line is printed.
        assert process.stdout.readline().startswith(b"episode=4 ")
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    leftovers = [path for path in output.iterdir() if path.name.startswith(STAGING_PREFIX)]
    assert len(leftovers) == 1
    assert {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()} == before
    evaluate(trained, sample_root, output, *FAST, "--episodes", "1")
    assert not leftovers[0].exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--episodes", "2", "6", "7"], "--episodes: 6, 7 not in the dataset, which has 0 to 5"),
        (["--episodes", "4", "--start-frame", "1000"], "--start-frame 1000: episode 4 has 58 frames"),
        (["--mode", "queue", "--n-action-steps", "9"], r"n_action_steps: 9 is not in 1..8"),
    ],
)
def test_impossible_requests_are_named(trained, sample_root, tmp_path, more, message):
    with pytest.raises(UserError, match=message):
        evaluate(trained, sample_root, tmp_path / "eval", "--device", "cpu", *more)
    assert not (tmp_path / "eval").exists()


def test_output_that_is_a_file_is_named(trained, sample_root, tmp_path):
    (tmp_path / "eval").write_text("")
    with pytest.raises(UserError, match="--output .*eval: cannot be written"):
        evaluate(trained, sample_root, tmp_path / "eval", *FAST)


def edited_info(trained: Path, folder: Path, **changes: object) -> Path:
    """The checkpoint with another account of its training data."""
    shutil.copytree(trained / "checkpoints" / "000100" / "pretrained_model", folder)
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({**info, **changes}))
    return folder


def test_misfit_is_spelled_out_in_one_line(trained, sample_root, tmp_path):
    swapped = ["shoulder_lift", "shoulder_pan", *JOINTS[2:]]
    renamed = [*JOINTS[:6], "hand"]
    checkpoint = edited_info(trained, tmp_path / "c", state_names=swapped, action_names=renamed, fps=50)
    with pytest.raises(UserError) as raised:
        evaluate(checkpoint, sample_root, tmp_path / "eval")
    text = str(raised.value)
    assert "\n" not in text
    assert f"{checkpoint} does not fit {sample_root}: " in text
    assert (
        "state joints: the same joints in another order (checkpoint: shoulder_lift, shoulder_pan, elbow"
        in text
    )
    assert "action joints: not in the dataset: hand; not in the checkpoint: gripper" in text
    assert "fps: the checkpoint has 50, the dataset 30" in text
    assert not (tmp_path / "eval").exists()


def test_checkpoint_of_one_camera_reads_that_one(sample_root, tmp_path):
    trained = write_tiny_checkpoint(tmp_path / "train", sample_root, cameras=["observation.images.wrist"])
    summary = evaluate(trained, sample_root, tmp_path / "eval", *FAST)
    assert summary["dataset"]["cameras"] == {"observation.images.wrist": list(IMAGE_SIZE)}
    assert summary["held_out"] is True


def test_checkpoint_without_dataset_info_is_run_on_all_episodes(trained, sample_root, tmp_path):
    """LeRobot's own checkpoints: weights and config.json alone. Images must be as recorded then."""
    source = trained / "checkpoints" / "000100" / "pretrained_model"
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(source / name, foreign / name)
    with pytest.raises(UserError, match="the checkpoint reads 48x64 px, the dataset has 240x320"):
        evaluate(foreign, sample_root, tmp_path / "eval", *FAST)
    config = json.loads((foreign / "config.json").read_text())
    for feature in config["input_features"].values():
        if feature["type"] == "VISUAL":
            feature["shape"] = [3, 240, 320]
    (foreign / "config.json").write_text(json.dumps(config))
    more = ["--device", "cpu", "--num-steps", "1", "--latency-frames", "2", "--latency-warmup-frames", "0"]
    summary = evaluate(foreign, sample_root, tmp_path / "eval", *more)
    assert summary["held_out"] == "unknown"
    assert summary["num_episodes"] == 6
    assert summary["checkpoint"]["step"] is None


def test_mean_action_without_mean_std_comes_from_the_training_episodes(sample_root, dataset, tmp_path):
    normalization = {"visual": "MEAN_STD", "state": "MEAN_STD", "action": "MIN_MAX"}
    trained = write_tiny_checkpoint(tmp_path / "train", sample_root, normalization=normalization)
    summary = evaluate(trained, sample_root, tmp_path / "eval", *FAST, "--episodes", "5")
    mean = np.concatenate([dataset.read_actions(e) for e in TRAIN_EPISODES]).mean(axis=0, dtype=np.float64)
    expected = np.abs(mean - dataset.read_actions(5)[:4]).mean()
    assert summary["mae"]["baselines"]["mean_action"]["overall"] == pytest.approx(expected, rel=1e-5)
    other = edited_info(trained, tmp_path / "other", fingerprint="of other data")
    summary = evaluate(other, sample_root, tmp_path / "eval", *FAST, "--episodes", "5")
    assert summary["mae"]["baselines"]["mean_action"]["overall"] is None


@pytest.mark.slow
def test_command_line_errors_are_one_line(tmp_path):
    result = subprocess.run(
        [sys.executable, offline_eval.__file__, "--checkpoint", tmp_path / "none", "--dataset", tmp_path],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.strip().splitlines()[-1].startswith(f"error: {tmp_path / 'none'}: not found")
    assert "Traceback" not in result.stderr
