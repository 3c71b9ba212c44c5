"""engine.metrics: what is told is what Prometheus reads."""

from engine.metrics import EngineMetrics, RelayMetrics


def test_a_batch_is_counted_by_outcome_and_size() -> None:
    metrics = EngineMetrics()
    metrics.leads(epoch=3, position=100)
    metrics.committed(events=7, seconds=0.004, outcomes={"accepted": 3, "unknown_order": 1})
    metrics.committed(events=0, seconds=0.001, outcomes={"repeated": 2})
    metrics.answered({"overloaded": 5})
    read = metrics.registry.get_sample_value
    counted = {
        outcome: read("durian_engine_commands_total", {"outcome": outcome})
        for outcome in ("accepted", "unknown_order", "repeated", "overloaded")
    }
    assert counted == {"accepted": 3, "unknown_order": 1, "repeated": 2, "overloaded": 5}
    assert read("durian_engine_events_total") == 7
    assert read("durian_engine_position") == 107
    assert read("durian_engine_batch_events_sum") == 7
    assert read("durian_engine_commit_seconds_bucket", {"le": "0.002"}) == 1
    assert read("durian_engine_commit_seconds_count") == 2


def test_a_standby_that_takes_the_lead_has_no_lag() -> None:
    metrics = EngineMetrics()
    metrics.standby(position=90, lag=10)
    read = metrics.registry.get_sample_value
    assert (read("durian_engine_leading"), read("durian_engine_standby_lag_events")) == (0, 10)
    metrics.leads(epoch=4, position=100)
    assert (read("durian_engine_leading"), read("durian_engine_epoch")) == (1, 4)
    assert (read("durian_engine_position"), read("durian_engine_standby_lag_events")) == (100, 0)


def test_the_rest_is_set_as_told() -> None:
    metrics = EngineMetrics()
    waiting = [1, 2, 3]
    metrics.watch_queue(waiting.__len__)
    metrics.ticked(0.03)
    metrics.clock_offset(-3600)
    metrics.settled("lost")
    metrics.remembers(12)
    metrics.snapshot(500)
    read = metrics.registry.get_sample_value
    assert read("durian_engine_queue_commands") == 3
    waiting.clear()
    assert read("durian_engine_queue_commands") == 0
    assert read("durian_engine_tick_lateness_seconds_bucket", {"le": "0.05"}) == 1
    assert read("durian_engine_clock_offset_seconds") == -3600
    assert read("durian_engine_unknown_commits_total", {"result": "lost"}) == 1
    assert read("durian_engine_answers_remembered") == 12
    assert read("durian_engine_snapshot_position") == 500


def test_two_processes_in_one_do_not_mix() -> None:
    first, second = EngineMetrics(), EngineMetrics()
    first.leads(epoch=1, position=5)
    assert second.registry.get_sample_value("durian_engine_position") == 0


def test_the_relays_lag_grows_until_kafka_holds_the_log() -> None:
    now = 100.0
    metrics = RelayMetrics(now_s=lambda: now)
    read = metrics.registry.get_sample_value
    metrics.published(position=40, head=40, records=2)
    now = 103.0
    assert (read("durian_relay_lag_events"), read("durian_relay_lag_seconds")) == (0, 0)
    metrics.published(position=50, head=90, records=1)
    now = 105.0
    assert (read("durian_relay_lag_events"), read("durian_relay_lag_seconds")) == (40, 5)
    metrics.away(7.0)
    assert read("durian_relay_away_seconds") == 7
    metrics.published(position=90, head=90, records=1)
    assert (read("durian_relay_lag_seconds"), read("durian_relay_away_seconds")) == (0, 0)
    assert (read("durian_relay_position"), read("durian_relay_log_position")) == (90, 90)
    assert read("durian_relay_records_total") == 4
