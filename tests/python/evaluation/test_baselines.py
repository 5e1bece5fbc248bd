"""The trivial policies."""

from types import SimpleNamespace

import numpy as np

from ur10e_act.evaluation.baselines import HoldPosition


def recorded(states: np.ndarray, actions: np.ndarray, state_names, action_names) -> SimpleNamespace:
    """The part of a dataset that HoldPosition reads: one episode of vectors."""
    return SimpleNamespace(
        state_names=state_names,
        action_names=action_names,
        read_states=lambda episode: states.astype(np.float32),
        read_actions=lambda episode: actions.astype(np.float32),
    )


def test_holding_is_zero_for_joints_whose_actions_are_changes():
    rng = np.random.default_rng(0)
    states = np.cumsum(rng.normal(0, 0.02, (50, 3)), axis=0) + [1.0, -0.5, 0.3]
    change = np.diff(states, axis=0, append=states[-1:])
    target = np.roll(states, -1, axis=0)
    actions = np.stack([change[:, 0], target[:, 1], np.ones(50)], axis=1)
    hold = HoldPosition(recorded(states, actions, ("a", "b", "c"), ("a", "b", "lamp")), 0)
    assert hold.relative.tolist() == [True, False, False]
    positions = hold.positions(states.astype(np.float32))
    np.testing.assert_array_equal(positions[:, :2], states[:, :2].astype(np.float32))
    assert np.isnan(positions[:, 2]).all()
    held = hold.actions(positions)
    assert (held[:, 0] == 0).all()
    np.testing.assert_array_equal(held[:, 1], positions[:, 1])


def test_position_follows_the_name_not_the_place():
    states = np.random.default_rng(1).normal(size=(9, 3))
    hold = HoldPosition(recorded(states, states[:, [2, 0]], ("a", "b", "c"), ("c", "a")), 0)
    np.testing.assert_array_equal(hold.positions(states), states[:, [2, 0]])
