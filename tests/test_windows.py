"""Sequences cut into windows, by which training takes less time."""

import numpy as np
import pytest

from tfp_dvbf import data

GOOD = np.zeros((4, 5, 3)), np.zeros((4, 4, 1))


def test_windows_hold_what_acts_between_their_steps():
    x = np.arange(2 * 7.0).reshape(2, 7, 1)
    u, mask = 100.0 + x[:, :6], np.ones((2, 7), bool)
    mask[1, :3] = False
    cut = data.Sequences(x, u, x + 50.0, {"seed": 1}, mask).windows(3, stride=2)
    assert cut.observations[..., 0].tolist() == [
        [0, 1, 2],
        [2, 3, 4],
        [4, 5, 6],
        [0, 10, 11],  # After the window of which nothing was seen.
        [11, 12, 13],
    ]
    assert cut.controls[..., 0].tolist()[:3] == [[100, 101], [102, 103], [104, 105]]
    np.testing.assert_array_equal(cut.states[3:, :, 0], [[59, 60, 61], [61, 62, 63]])
    assert cut.mask.tolist()[3:] == [[False, True, True], [True] * 3]
    assert cut.spec == {"seed": 1, "window": 3, "stride": 2}


def test_windows_are_side_by_side_and_leave_out_a_rest():
    cut = data.Sequences(np.arange(7.0).reshape(1, 7, 1)).windows(3)
    assert cut.observations[..., 0].tolist() == [[0, 1, 2], [3, 4, 5]] and cut.control_dim == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((6,), "`length` must not exceed the 5 time steps of a sequence; got 6"),
        ((1,), "`length` must be at least 2; got 1"),
        ((2, 0), "`stride` must be at least 1; got 0"),
    ],
)
def test_windows_refuse(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.Sequences(*GOOD).windows(*arguments)


def test_windows_refuse_what_none_of_them_has_seen():
    mask = np.array([[False] * 4 + [True]])
    with pytest.raises(ValueError, match="an observed time step in one of the windows"):
        data.Sequences(np.zeros((1, 5, 3)), mask=mask).windows(2)
