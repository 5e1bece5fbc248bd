"""Sums of errors and the judgement of the latency."""

import numpy as np
import pytest

from ur10e_act.evaluation.metrics import AbsoluteErrors, chunk_targets, judge_realtime, latency_figures


def test_realtime_is_judged_by_the_slow_calls():
    times_ms = np.full(100, 10.0)
    realtime = judge_realtime(times_ms, 30, "queue")
    assert realtime.keeps_up
    assert realtime.calls_over_period == 0
    times_ms[:3] = 40.0
    realtime, latency = judge_realtime(times_ms, 30, "queue"), latency_figures(times_ms)
    assert not realtime.keeps_up
    assert realtime.calls_over_period == 3
    assert latency.p50 == 10
    assert latency.max == 40
    assert latency.mean == pytest.approx(10.9)
    assert judge_realtime(times_ms, 20, "queue").keeps_up


def test_steps_past_the_end_do_not_count():
    actions = np.arange(8, dtype=np.float32).reshape(4, 2)
    true, valid = chunk_targets(actions, np.array([1, 3]), 3)
    assert valid.tolist() == [[True, True, True], [True, False, False]]
    np.testing.assert_array_equal(true[0], actions[1:4])
    errors = AbsoluteErrors(3, 2)
    errors.add(true + np.array([1, 3]), true, valid)
    errors.add(np.zeros((1, 3, 2)), np.zeros((1, 3, 2)), np.array([[True, False, False]]))
    assert errors.steps.tolist() == [3, 1, 1]
    np.testing.assert_allclose(errors.first_step(), [2 / 3, 2])
    np.testing.assert_allclose(errors.per_joint(), [4 / 5, 12 / 5])
    np.testing.assert_allclose(errors.by_offset(), [4 / 3, 2, 2])
    assert np.isnan(AbsoluteErrors(2, 1).by_offset()).all()
