"""Settings of azcopy."""

import pytest

from ur10e_act.blob.azcopy import stall_timeout_s
from ur10e_act.errors import UserError

NAME = {"AZURE_STORAGE_ACCOUNT_NAME": "acc"}


@pytest.mark.parametrize("value", ["59", "0", "-1", "1.5", "x"])
def test_a_stall_timeout_below_a_minute_is_refused(value):
    with pytest.raises(UserError, match="STALL_SECONDS"):
        stall_timeout_s({"STALL_SECONDS": value})
    assert stall_timeout_s({}) == 300
