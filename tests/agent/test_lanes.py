import pytest

from tests.agent.lanesim import Cluster


def rotate(cluster: Cluster, *names: str) -> None:
    for name in names or cluster.nodes:
        agent = cluster.nodes[name].agent
        assert agent is not None
        agent.lanes.request_rotation()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_all_nodes_rotate_at_once_and_no_packet_is_lost(count: int) -> None:
    cluster = Cluster(count, seed=count)
    old = cluster.keys()
    rotate(cluster)
    cluster.run(5)
    print(cluster.run_until_steady(1000))
    assert cluster.losses == []
    assert cluster.violations == []
    assert not old & cluster.keys()
