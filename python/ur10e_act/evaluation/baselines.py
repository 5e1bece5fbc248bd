"""The trivial policies that a trained one is compared with: hold the position, give the mean action."""

from __future__ import annotations

from typing import Any

import numpy as np

from ur10e_act.dataset.lerobot_dataset import LeRobotV3Dataset
from ur10e_act.policy.act import statistics
from ur10e_act.policy.runner import PolicyRunner


class HoldPosition:
    """The trivial policy that keeps the joints where they are.

    Where actions are target positions, it is the current state of the joint of that name. Where they are
    changes of position, it is zero. Which of the two a joint has, the recorded motion shows: its
    action is nearer to the state, or to the state's change to the next frame.
    """

    def __init__(self, dataset: LeRobotV3Dataset, episode: int) -> None:
        names = list(dataset.state_names)
        self.columns = [names.index(name) if name in names else None for name in dataset.action_names]
        positions, actions = self.positions(dataset.read_states(episode)), dataset.read_actions(episode)
        self.relative = np.zeros(len(self.columns), dtype=bool)
        if len(actions) > 1:
            to_state = np.abs(actions - positions)[:-1].mean(axis=0)
            to_change = np.abs(actions[:-1] - np.diff(positions, axis=0)).mean(axis=0)
            self.relative = to_change < to_state

    def positions(self, states: np.ndarray) -> np.ndarray:
        """The state of every action's joint, float32 (n, A); NaN where the state has no such joint."""
        columns = [
            np.full(len(states), np.nan, dtype=np.float32) if column is None else states[:, column]
            for column in self.columns
        ]
        return np.stack(columns, axis=1)

    def actions(self, positions: np.ndarray) -> np.ndarray:
        """The holding actions, (n, A)."""
        return np.where(self.relative, np.float32(0), positions)


def mean_training_action(
    runner: PolicyRunner, info: dict[str, Any] | None, dataset: LeRobotV3Dataset, same_data: bool
) -> np.ndarray:
    """Mean training action, float64 (A,): from the policy's normalization, else from the training dataset.

    NaN where neither is known.
    """
    normalization = statistics(runner.policy).get("action", {})
    if "mean" in normalization:
        return normalization["mean"].double().cpu().numpy()
    if info is None or not same_data:
        return np.full(runner.action_dim, np.nan)
    total, count = np.zeros(runner.action_dim), 0
    for episode in info["train_episodes"]:
        actions = dataset.read_actions(episode)
        total += actions.sum(axis=0, dtype=np.float64)
        count += len(actions)
    return total / count
