"""An idempotency key is kept for thirty days; a worker forgets it then."""

from __future__ import annotations

from tests.scenarios.stage import Stage, network, stock


def test_a_key_is_free_again_after_thirty_days(stage: Stage) -> None:
    stage.bring({**network({"N": 5}), "stock.csv": stock(("A", "N", 9))})
    body = {"channel": "web", "zone": "Z", "lines": [{"item": "A", "quantity": "1"}]}
    other = {**body, "lines": [{"item": "A", "quantity": "2"}]}
    assert stage.post("/v1/orders", body, key="K").status_code == 201

    stage.pass_time(days=30)
    stage.work()
    assert stage.post("/v1/orders", other, key="K").json()["code"] == "key_reused"
    stage.pass_time(minutes=2)
    stage.work()
    assert stage.post("/v1/orders", other, key="K").status_code == 201
