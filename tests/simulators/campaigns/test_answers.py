"""The records of a campaign stand in the order of its requests, whatever else the store holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.spec import input_hash
from data.store.records import RecordStore
from simulators.campaigns.answers import answer_requests
from simulators.campaigns.campaign import AGAIN, run_campaign
from simulators.campaigns.config import CampaignConfig
from simulators.testing import Misbehaving, request


def test_answers_stand_in_the_order_of_their_requests(tmp_path: Path) -> None:
    simulator, store = Misbehaving(str(tmp_path)), tmp_path / "s"
    once = CampaignConfig(workers=1, retries=0, give_up_after=None)
    earlier = [request(7.0), request(2.0, "flaky"), request(3.0, "not_converged"), request(1.0)]
    run_campaign(simulator, earlier, store, once, progress=False)
    again = CampaignConfig(workers=1, retries=0, give_up_after=None, retry_failed=True)
    requests = [request(3.0, "not_converged"), request(1.0), request(2.0, "flaky"), request(4.0), request(1.0)]
    answers = answer_requests(simulator, iter(requests), store, again, names=("y", "mode"), progress=False)
    assert answers.status == ("not_converged", "ok", "ok", "ok", "ok")
    assert answers.message[0] == "on purpose"
    assert answers.ok.tolist() == [False, True, True, True, True]
    assert np.array_equal(answers.column("y"), [np.nan, 1.0, 4.0, 16.0, 1.0], equal_nan=True)
    assert [row["mode"] for row in answers.values] == ["not_converged", "ok", "flaky", "ok", "ok"]
    assert (answers.summary.requested, answers.summary.done, answers.summary.cached) == (4, 2, 1)
    hashes = {input_hash(one) for one in requests}
    with RecordStore.open(store) as records:
        spent = {key: row["core_seconds"] for key, row in records.records(None, ("core_seconds",))}
        seconds = {key: row["seconds"] for key, row in records.records(None)}
    # Both attempts at two of the requests count, the request of nobody does not.
    counted = [cost for key, cost in spent.items() if key.partition(AGAIN)[0] in hashes]
    assert len(spent) == 7
    assert len(counted) == 6
    assert answers.core_seconds == pytest.approx(sum(counted))
    assert answers.seconds[3] == seconds[input_hash(requests[3])]


def test_a_variable_that_the_records_lack_is_named(tmp_path: Path) -> None:
    simulator, one = Misbehaving(str(tmp_path)), CampaignConfig(workers=1)
    with pytest.raises(KeyError, match="no variable 'z'; there are"):
        answer_requests(simulator, [request(1.0)], tmp_path / "s", one, names=("z",), progress=False)
