"""synchronize.py: rows at a fixed rate, against a plain computation over everything at once."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ur10e_act.recordings.fault import Fault
from ur10e_act.recordings.synchronize import NS, ImageTrack, NumberTrack, Synchronizer, wrapped

START = 1_700_000_000 * NS
LONG = 3600 * NS


def run(fps, streams, offset_ns=LONG, gap_ns=LONG, **options):
    """Rows of {"p": image times, "n": (times, values)}, pushed in order of time."""
    start = max(times[0] for times, _ in streams.values())
    tracks = {
        name: ImageTrack(name, start, offset_ns, LONG)
        if name.startswith("p")
        else NumberTrack(name, start, gap_ns, **options)
        for name in streams
    }
    rows = Synchronizer(fps, start, tracks)
    events = sorted(
        (time, name, value) for name, stream in streams.items() for time, value in zip(*stream, strict=True)
    )
    found = []
    for time, name, value in events:
        tracks[name].push(time, value)
        found += rows.ready()
    return found


gaps = st.lists(st.integers(1_000_000, 80_000_000), min_size=3, max_size=40)


@settings(max_examples=200, deadline=None)
@given(
    fps=st.integers(5, 60),
    image_gaps=gaps,
    number_gaps=gaps,
    shift=st.integers(-(10**8), 10**8),
    data=st.data(),
)
def test_rows_are_nearest_images_and_interpolated_numbers(fps, image_gaps, number_gaps, shift, data) -> None:
    images = (START + np.cumsum([0, *image_gaps])).tolist()
    numbers = (START + shift + np.cumsum([0, *number_gaps])).tolist()
    values = data.draw(st.lists(st.floats(-3, 3), min_size=len(numbers), max_size=len(numbers)))
    found = run(fps, {"p": (images, images), "n": (numbers, values)})

    first, last = max(images[0], numbers[0]), min(images[-1], numbers[-1])
    expected = [
        first + (row * NS + fps // 2) // fps for row in range(math.ceil((last - first) / NS * fps) + 2)
    ]
    expected = [time for time in expected if time <= last]
    assert [time for time, _ in found] == expected
    for time, sample in found:
        assert abs(sample["p"] - time) == min(abs(image - time) for image in images)
        exact = np.interp((time - START) / NS, (np.array(numbers) - START) / NS, values)
        assert sample["n"] == pytest.approx(exact, abs=1e-5)


@settings(max_examples=100, deadline=None)
@given(number_gaps=gaps, limit=st.integers(2_000_000, 90_000_000))
def test_a_gap_is_found_just_where_rows_fall_into_one(number_gaps, limit) -> None:
    times = (START + np.cumsum([0, *number_gaps])).tolist()
    ends = [START, times[-1]]
    rows = [time for time, _ in run(30, {"n": (times, times), "p": (ends, ends)})]
    inside = any(a < row < b and b - a > limit for row in rows for a, b in itertools.pairwise(times))
    try:
        run(30, {"n": (times, times), "p": (ends, ends)}, gap_ns=limit)
    except Fault as error:
        assert inside
        assert error.code == "gap"
    else:
        assert not inside


@given(st.floats(-50, 50), st.floats(-3.1, 3.1), st.floats(0.01, 0.99))
def test_angles_are_interpolated_the_short_way_round(angle, step, share) -> None:
    track = NumberTrack("joint", 0, LONG, angle=True)
    track.push(0, wrapped(angle))
    track.push(NS, wrapped(angle + step))
    value = track.sample(round(share * NS))
    assert abs(wrapped(value - angle - share * step)) < 1e-6
    near = wrapped(angle) if share <= 0.5 else wrapped(angle + step)
    assert abs(value - near) <= abs(step) / 2 + 1e-6


def test_held_numbers_wait_for_the_next_message() -> None:
    track = NumberTrack("gripper", 0, LONG, hold=True)
    track.push(0, 0.0)
    track.push(NS, 1.0)
    assert [track.sample(time) for time in (0, NS - 1, NS)] == [0.0, 0.0, 1.0]


def test_an_image_too_far_away_is_a_gap() -> None:
    times = [START, START + NS // 2, START + NS]
    with pytest.raises(Fault, match="0.100 s away"):
        run(20, {"p": (times, times), "n": ([START, START + NS], [0.0, 1.0])}, offset_ns=NS // 20)


def test_time_must_not_go_back() -> None:
    track = ImageTrack("camera", 0, LONG, LONG)
    track.push(NS, "a")
    with pytest.raises(Fault) as error:
        track.push(NS - 1, "b")
    assert error.value.code == "time_back"


def test_images_wait_for_other_topics_only_so_long() -> None:
    """A camera that continues after the joints have ended must not fill the memory."""
    camera = ImageTrack("camera", 0, LONG, 2 * NS)
    joint = NumberTrack("joint", 0, LONG)
    rows = Synchronizer(10, 0, {"c": camera, "j": joint})
    joint.push(0, 0.0)
    for number in range(1000):
        camera.push(number * NS // 10, number)
        list(rows.ready())
    assert len(camera.times) <= 22
    joint.push(50 * NS, 1.0)
    with pytest.raises(Fault, match="come more than 2 s later"):
        list(rows.ready())
