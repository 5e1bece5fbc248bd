"""What is said of an evaluation's figures."""

import pytest
from eval_examples import errors, example_summary, write_summary

from ur10e_act.evaluation.summary import EvalSummary, read_summary
from ur10e_act.evaluation.verdicts import (
    lead_sentence,
    offset_verdict,
    verdict_held_out,
    verdict_hold,
    verdict_learning,
    verdict_realtime,
)


@pytest.fixture
def raw() -> dict:
    return example_summary()


@pytest.fixture
def parse(tmp_path):
    """The summary as readers get it."""

    def parse(raw: dict) -> EvalSummary:
        return read_summary(write_summary(tmp_path, raw))

    return parse


@pytest.mark.parametrize(
    ("policy", "hold", "tone", "headline", "lead"),
    [
        (
            0.1,
            0.25,
            "good",
            "2.5× better than holding still",
            "2.5 times closer to the demonstration than holding still",
        ),
        (
            0.5,
            0.25,
            "bad",
            "2.0× worse than holding still",
            "2.0 times farther from the demonstration than holding still",
        ),
        (
            0.25,
            0.25,
            "bad",
            "No better than holding still",
            "no closer to the demonstration than holding still",
        ),
        (0.25, None, "unsure", "Holding still: cannot be said", "off by 0.250 on average"),
    ],
)
def test_verdict_on_holding(raw, parse, policy, hold, tone, headline, lead):
    raw["chunk_mae"].update(errors(policy))
    raw["chunk_mae"]["baselines"]["hold_position"] = errors(hold)
    if hold is None:
        raw["chunk_mae"]["by_offset"]["hold_position"] = [None] * 3
    summary = parse(raw)
    assert verdict_hold(summary)[:2] == (tone, headline)
    assert f", the policy's action chunks are {lead}, " in lead_sentence(summary)


def test_joints_that_are_better_are_counted(raw, parse):
    raw["chunk_mae"]["per_joint"] = {"elbow": 0.25, "gripper": 0.05}
    assert "Better on 1 of 2 joints." in verdict_hold(parse(raw)).reason


def test_holding_that_wins_the_first_step_is_said(raw, parse):
    raw["chunk_mae"]["by_offset"]["policy"][0] = 0.03
    reason = verdict_hold(parse(raw)).reason
    assert reason.endswith(" On the first step alone, holding is better: 0.0100 against 0.0300.")
    raw["chunk_mae"]["by_offset"]["policy"][0] = 0.005
    assert "On the first step" not in verdict_hold(parse(raw)).reason


def test_verdict_on_speed(raw, parse):
    raw["realtime"].update(keeps_up=False, fps=50)
    verdict = verdict_realtime(parse(raw))
    assert verdict[:2] == ("bad", "Too slow for 50 fps")
    assert verdict.reason == (
        "99 % of model calls take at most 13.0 ms; a frame lasts 33.3 ms. Measured on CPU, 1 thread."
    )
    assert lead_sentence(parse(raw)).endswith(" but it does not keep up with 50 fps.")
    raw["realtime"]["keeps_up"] = True
    assert verdict_realtime(parse(raw))[:2] == ("good", "Keeps up with 50 fps")
    assert lead_sentence(parse(raw)).endswith(" and it keeps up with 50 fps.")


def test_verdict_on_the_episodes(raw, parse):
    assert verdict_held_out(parse(raw)) == (
        "good",
        "Judged on held-out episodes",
        "Training never saw the 2 episodes (7 frames).",
    )
    raw["checkpoint"]["init_checkpoint"] = "old/checkpoints/best"
    reason = verdict_held_out(parse(raw)).reason
    assert reason.endswith(" It started from old/checkpoints/best, whose training data is not known here.")
    raw.update(held_out=False, num_episodes=1)
    verdict = verdict_held_out(parse(raw))
    assert verdict[:2] == ("bad", "Judged on training episodes")
    assert "At least one of the 1 episode was trained on" in verdict.reason
    assert lead_sentence(parse(raw)).startswith("On episodes that training has seen, ")
    raw["held_out"] = "unknown"
    assert verdict_held_out(parse(raw))[:2] == ("unsure", "Held out or not: unknown")
    assert lead_sentence(parse(raw)).startswith("On the evaluated episodes, ")


def test_verdict_on_learning():
    def val(step: int, mae: float) -> dict:
        return {"type": "val", "step": step, "val_mae": mae}

    assert verdict_learning([]) is None
    assert verdict_learning([val(0, 0.8)]) is None
    assert verdict_learning([val(0, 0.8), val(10, 0.2), val(20, 0.4)]) == (
        "good",
        "4.0× lower error by training",
        "Validation error over the chunk: 0.800 at step 0, 0.200 at step 10, its lowest.",
    )
    diverged = verdict_learning([val(0, 0.8), val(10, float("nan"))])
    assert diverged is not None
    assert diverged[:2] == ("bad", "Training did not lower the error")


@pytest.mark.parametrize(
    ("hold", "said"),
    [
        ([0.01, 0.2, 0.4], "better than holding still from step 2 on; before, the joints have hardly moved"),
        ([0.1, 0.2, 0.4], "The policy is better than holding still at every step."),
        ([0.01, 0.01, 0.01], "The policy is at no step better than holding still."),
        ([0.1, 0.01, 0.4], "The policy is better than holding still at 2 of 3 steps."),
    ],
)
def test_steps_where_the_policy_wins_are_said(raw, parse, hold, said):
    raw["chunk_mae"]["by_offset"]["hold_position"] = hold
    text = offset_verdict(parse(raw))
    assert text.startswith("It is 0.0500 at step 1 and 0.150 at step 3 (0.10 s ahead). ")
    assert "It has doubled by step 3 (0.10 s)." in text
    assert said in text


def test_steps_that_no_frame_reaches_are_said(raw, parse):
    by_offset = raw["chunk_mae"]["by_offset"]
    by_offset["frames"][2] = 0
    for name in ("policy", "hold_position", "mean_action"):
        by_offset[name][2] = None
    text = offset_verdict(parse(raw))
    assert text.endswith("The last 1 steps of the chunk lie beyond every evaluated episode's end.")
    assert "at step 2 (0.067 s ahead)" in text
    assert "doubled" not in text
