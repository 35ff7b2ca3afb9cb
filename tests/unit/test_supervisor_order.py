"""[P3 P5] The order of starting and stopping, and what Prometheus is told."""

import socket
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from cdc.alert import Alerts
from cdc.config.programs import ProgramConfig
from cdc.supervisor.conditions import FATAL
from cdc.supervisor.metrics import SupervisorMetrics
from cdc.supervisor.supervisor import ranks, stop_ranks
from tests.support.clock import FakeClock


def ranked(**programs: tuple[int, tuple[str, ...]]) -> dict[str, int]:
    return ranks(
        {
            name: ProgramConfig(command=("true",), order=order, after=after)
            for name, (order, after) in programs.items()
        }
    )


def test_programs_rank_by_their_order() -> None:
    assert ranked(b=(20, ()), a=(-5, ()), c=(20, ())) == {"a": 0, "b": 1, "c": 1}


def test_a_program_ranks_behind_all_it_comes_after_whatever_its_order() -> None:
    found = ranked(page=(0, ("replicator",)), replicator=(0, ("writer",)), writer=(7, ()))
    assert found["writer"] < found["replicator"] < found["page"]


def stopped(**programs: tuple[int, tuple[str, ...]]) -> list[str]:
    """The names in the order of stopping; each program with its order and what it stops after."""
    found = stop_ranks(
        {
            name: ProgramConfig(command=("true",), order=order, stop_after=after)
            for name, (order, after) in programs.items()
        }
    )
    return sorted(found, key=found.__getitem__)


def test_programs_stop_in_the_reverse_of_their_order() -> None:
    assert stopped(a=(1, ()), b=(2, ()), c=(3, ())) == ["c", "b", "a"]


def test_a_program_that_stops_after_another_outlives_it_and_all_between_stop_first() -> None:
    order = stopped(writer=(1, ()), page=(2, ()), replicator=(3, ("writer",)))
    assert order == ["page", "writer", "replicator"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_prometheus_is_told_of_alerts_as_they_come_and_go() -> None:
    clock, port = FakeClock(), free_port()

    def standing() -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            families = text_string_to_metric_families(page.read().decode())
            samples = [sample for family in families for sample in family.samples]
        (value,) = (
            sample.value
            for sample in samples
            if sample.name == "cdc_alert" and sample.labels == {"name": FATAL.name, "severity": "critical"}
        )
        return value

    with SupervisorMetrics(port) as metrics:
        alerts = Alerts(clock, gauge=metrics.alert)
        alerts.raise_alert(FATAL, "writer", "exit code 1")
        alerts.raise_alert(FATAL, "replicator", "exit code 1")
        assert standing() == 2
        alerts.clear(FATAL, "writer", at_once=True)
        assert standing() == 1
